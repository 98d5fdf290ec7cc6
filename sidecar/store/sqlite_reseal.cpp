// Rotation of the master key: what is sealed under which key, and sealing it anew. See reseal.h.
#include "sidecar/base/failpoint.h"
#include "sidecar/store/reseal.h"
#include "sidecar/store/sqlite_store.h"

namespace headgate {
namespace {

struct Statements {
    std::string all, page, update;
};

const Statements& statements_of(std::size_t column) {
    static const auto all = [] {
        std::array<Statements, kSealedColumns.size()> made;
        for (std::size_t i = 0; i < made.size(); i++) {
            const std::string table = kSealedColumns[i].table;
            const std::string name = kSealedColumns[i].column;
            made[i].all = "SELECT " + name + " FROM " + table + " WHERE " + name + " <> ''";
            made[i].page =
                "SELECT id, " + name + " FROM " + table + " WHERE id > ? AND " + name + " <> '' ORDER BY id LIMIT ?";
            made[i].update = "UPDATE " + table + " SET " + name + " = ? WHERE id = ?";
        }
        return made;
    }();
    return all[column];
}

}  // namespace

std::vector<std::pair<std::string, std::string>> SqliteStore::master_key_checks() {
    std::vector<std::pair<std::string, std::string>> checks;
    auto rows = db_.query("SELECT name, value FROM settings WHERE substr(name, 1, ?) = ? ORDER BY name",
                          kMasterKeyCheck.size(), kMasterKeyCheck);
    while (rows.step()) checks.emplace_back(rows.text(0), rows.text(1));
    return checks;
}

Result<void> SqliteStore::check_master_key() {
    return guarded([&] {
        if (!db_.query("SELECT 1 FROM sqlite_master WHERE name = 'settings'").step()) return;
        for (const auto& [name, value] : master_key_checks()) {
            auto plain = secrets_.open(value, setting_place(name));
            if (!plain || *plain != kMasterKeyText) {
                throw SqliteError(master_key_missing(SecretBox::kid_of(value), secrets_));
            }
        }
    });
}

void SqliteStore::note_master_key() {
    const auto checks = master_key_checks();
    for (const auto& check : checks) {
        if (SecretBox::kid_of(check.second) == secrets_.kid()) return;
    }
    std::string name(kMasterKeyCheck);
    if (!checks.empty()) name += ":" + secrets_.kid();
    auto sealed = secrets_.seal(kMasterKeyText, setting_place(name));
    if (!sealed) throw SqliteError(sealed.error());
    db_.execute("INSERT INTO settings (name, value) VALUES (?, ?)", name, *sealed);
}

SealedCounts SqliteStore::sealed_counts() {
    SealedCounts counts;
    for (std::size_t i = 0; i < kSealedColumns.size(); i++) {
        auto rows = db_.query(statements_of(i).all.c_str());
        while (rows.step()) count_sealed(kSealedColumns[i], rows.view(0), counts);
    }
    return counts;
}

Result<std::vector<Store::SealedUnder>> SqliteStore::sealed_under() {
    return read([&] { return sealed_rows(sealed_counts(), secrets_); });
}

Result<Store::ResealStep> SqliteStore::reseal(std::string_view after, std::size_t rows_max) {
    return write([&] {
        ResealStep step;
        ResealCursor cursor = ResealCursor::of(after);
        std::size_t looked_at = 0;
        note_master_key();
        while (cursor.column < kSealedColumns.size() && looked_at < rows_max) {
            const SealedColumn& column = kSealedColumns[cursor.column];
            const Statements& statements = statements_of(cursor.column);
            std::vector<std::pair<std::string, std::string>> found;
            {
                auto rows = db_.query(statements.page.c_str(), cursor.id, rows_max - looked_at);
                while (rows.step()) found.emplace_back(rows.text(0), rows.text(1));
            }
            for (const auto& [id, value] : found) {
                auto anew = resealed(secrets_, column, id, value);
                if (!anew) throw SqliteError(std::move(anew.error()));
                if (!*anew) continue;
                db_.execute(statements.update.c_str(), **anew, id);
                step.resealed++;
            }
            looked_at += found.size();
            cursor = looked_at < rows_max ? ResealCursor{cursor.column + 1, {}}
                                          : ResealCursor{cursor.column, found.back().first};
        }
        failpoint("in_reseal");
        if (cursor.column < kSealedColumns.size()) {
            step.next = cursor.text();
            return step;
        }
        step.is_done = is_current_alone(sealed_counts(), secrets_);
        if (step.is_done) {
            db_.execute("DELETE FROM settings WHERE substr(name, 1, ?) = ?", kMasterKeyCheck.size(), kMasterKeyCheck);
            note_master_key();
        }
        return step;
    });
}

}  // namespace headgate
