// Rotation of the master key: what is sealed under which key, and sealing it anew. See reseal.h.
//
// Whoever seals a value holds the row of settings that says so under which key until it has committed, and whoever
// takes that row away locks it before it looks at the values: so no value is left whose key the store does not ask for.
#include "sidecar/base/failpoint.h"
#include "sidecar/store/postgres_store.h"
#include "sidecar/store/reseal.h"

namespace headgate {
namespace {

constexpr const char* kChecks =
    "SELECT name, value FROM settings WHERE starts_with(name, 'master_key_check') ORDER BY name";
constexpr int kNoteTriesMax = 5;

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
            // Never waits for a lock, and so never stands in a ring of those who do.
            made[i].page = "SELECT id, " + name + " FROM " + table + " WHERE id > $1 AND " + name +
                           " <> '' ORDER BY id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED";
            made[i].update = "UPDATE " + table + " SET " + name + " = $1 WHERE id = $2";
        }
        return made;
    }();
    return all[column];
}

}  // namespace

Result<void> PostgresStore::check_master_key() {
    return guarded([&] {
        if (!db_.query("SELECT 1 WHERE to_regclass('settings') IS NOT NULL").step()) return;
        auto rows = db_.query(kChecks);
        while (rows.step()) {
            auto plain = secrets_.open(rows.view(1), setting_place(rows.view(0)));
            if (!plain || *plain != kMasterKeyText) {
                throw PgError(master_key_missing(SecretBox::kid_of(rows.view(1)), secrets_));
            }
        }
    });
}

void PostgresStore::note_master_key() {
    for (int tries = 0; tries < kNoteTriesMax; tries++) {
        auto rows = db_.query(
            "SELECT name, value FROM settings WHERE starts_with(name, 'master_key_check') ORDER BY name FOR SHARE");
        while (rows.step()) {
            if (SecretBox::kid_of(rows.view(1)) == secrets_.kid()) return;
        }
        std::string name(kMasterKeyCheck);
        if (rows.rows() > 0) name += ":" + secrets_.kid();
        auto sealed = secrets_.seal(kMasterKeyText, setting_place(name));
        if (!sealed) throw PgError(sealed.error());
        // Somebody may have replaced the rows that we waited for: what is there now is another snapshot's to see.
        if (db_.execute("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", name, *sealed) > 0)
            return;
    }
    throw PgError({ErrorCode::kUnavailable, "store: the master key's row in settings is being changed"});
}

SealedCounts PostgresStore::sealed_counts() {
    SealedCounts counts;
    for (std::size_t i = 0; i < kSealedColumns.size(); i++) {
        auto rows = db_.query(statements_of(i).all.c_str());
        while (rows.step()) count_sealed(kSealedColumns[i], rows.view(0), counts);
    }
    return counts;
}

Result<std::vector<Store::SealedUnder>> PostgresStore::sealed_under() {
    return read([&] { return sealed_rows(sealed_counts(), secrets_); });
}

Result<Store::ResealStep> PostgresStore::reseal(std::string_view after, std::size_t rows_max) {
    return write([&] {
        ResealStep step;
        ResealCursor cursor = ResealCursor::of(after);
        std::size_t looked_at = 0;
        note_master_key();
        while (cursor.column < kSealedColumns.size() && looked_at < rows_max) {
            const SealedColumn& column = kSealedColumns[cursor.column];
            const Statements& statements = statements_of(cursor.column);
            auto rows = db_.query(statements.page.c_str(), cursor.id, rows_max - looked_at);
            std::string last;
            while (rows.step()) {
                last = rows.text(0);
                auto anew = resealed(secrets_, column, last, rows.view(1));
                if (!anew) throw PgError(std::move(anew.error()));
                if (!*anew) continue;
                db_.send(statements.update.c_str(), **anew, last);
                step.resealed++;
            }
            looked_at += static_cast<std::size_t>(rows.rows());
            cursor = looked_at < rows_max ? ResealCursor{cursor.column + 1, {}} : ResealCursor{cursor.column, last};
        }
        failpoint("in_reseal");
        if (cursor.column < kSealedColumns.size()) {
            step.next = cursor.text();
            return step;
        }
        db_.execute("SELECT 1 FROM settings WHERE starts_with(name, 'master_key_check') ORDER BY name FOR UPDATE");
        step.is_done = is_current_alone(sealed_counts(), secrets_);
        if (step.is_done) {
            db_.execute("DELETE FROM settings WHERE starts_with(name, 'master_key_check')");
            note_master_key();
        }
        return step;
    });
}

}  // namespace headgate
