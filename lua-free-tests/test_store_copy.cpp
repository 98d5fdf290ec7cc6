// links: headgate_store headgate_common
// What is decided without a PostgreSQL about a store's schema and its copy: which migrations wait, which tables are
// copied by which keys, what a row's digest sees, and where a batch ends. The copy itself: t/42-migrate.t.
#include <algorithm>
#include <deque>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/temp_dir.h"
#include "sidecar/store/copy_rows.h"
#include "sidecar/store/copy_source.h"
#include "sidecar/store/migrations.h"
#include "sidecar/store/store.h"

using namespace headgate;

namespace {

constexpr Migration kKnown[] = {{1, "0001_a", "A"}, {2, "0002_b", "B"}};

AppliedMigration applied(int version, std::string_view sql) {
    return {version, "name" + std::to_string(version), migration_sha256({version, "", sql}), 5};
}

void test_waiting_migrations(void**) {
    assert_int_equal(waiting_migrations(kKnown, {})->size(), 2);
    auto one = waiting_migrations(kKnown, {applied(1, "A")});
    assert_true(one->size() == 1 && one->front().version == 2);
    assert_int_equal(waiting_migrations(kKnown, {applied(1, "A"), applied(2, "B")})->size(), 0);
    auto refused = [](std::vector<AppliedMigration> rows) {
        auto waiting = waiting_migrations(kKnown, rows);
        return waiting ? ErrorCode::kInternal : waiting.error().code;
    };
    assert_true(refused({applied(1, "A"), applied(2, "B"), applied(3, "C")}) == ErrorCode::kConflict);  // newer
    assert_true(refused({applied(1, "A"), applied(2, "changed")}) == ErrorCode::kConflict);
    assert_true(refused({applied(2, "B")}) == ErrorCode::kCorrupt);  // not the one before
}

void test_migration_rows(void**) {
    auto rows = migration_rows(kKnown, {applied(1, "changed"), applied(2, "B"), applied(3, "C")});
    assert_int_equal(rows.size(), 3);
    assert_true(rows[0].state == MigrationState::kChanged && rows[1].state == MigrationState::kApplied);
    assert_true(rows[2].state == MigrationState::kNewer && rows[2].name == "name3" && rows[2].applied_at == 5);
    rows = migration_rows(kKnown, {applied(1, "A")});
    assert_true(rows[1].state == MigrationState::kWaiting && !rows[1].applied_at);
}

// ---- tables ---------------------------------------------------------------------------------

struct World {
    TempDir dir;
    std::string path = dir.path() + "/test.db";
    std::unique_ptr<Store> store;

    World() {
        StoreOptions options;
        options.url = "sqlite:" + path;
        options.master_key = std::string(32, 'k');
        auto opened = open_store(options);
        if (!opened || !(*opened)->migrate()) throw std::runtime_error("no store");
        store = std::move(*opened);
    }
};

std::size_t index_of(const CopySource& source, std::string_view name) {
    for (std::size_t i = 0; i < source.tables().size(); i++) {
        if (source.tables()[i].name == name) return i;
    }
    throw std::runtime_error("no table");
}

// What `work` throws; nullopt: nothing.
template <typename Work>
std::optional<Error> refusal(Work work) {
    try {
        work();
        return std::nullopt;
    } catch (const SqliteError& failure) {
        return failure.error;
    }
}

void test_a_table_without_a_line_is_refused(void**) {
    World world;
    { CopySource all(world.path, true); }
    SqliteConnection db(world.path, false);
    db.execute_script("CREATE TABLE something_new (id TEXT PRIMARY KEY)");
    auto refused = refusal([&] { CopySource source(world.path, true); });
    assert_true(refused && refused->message.find("something_new") != std::string::npos);
}

void test_keys(void**) {
    World world;
    CopySource source(world.path, false);
    const CopyTable& rollups = source.tables()[index_of(source, "rollups")];
    assert_int_equal(rollups.key_columns, 3);
    assert_true(rollups.columns[1].name == "hour_at" && rollups.columns[1].type == CopyType::kInteger);
    const CopyKey key = {std::string("w\"\n"), std::int64_t{-5}, std::string("täst")};
    assert_true(key_of_text(rollups, key_text(key)) == key);
    for (const char* wrong : {"", "[]", "[1,2,3]", R"(["w",1])", R"(["w","1","t"])", R"(["w",1,"t")"}) {
        assert_true(!key_of_text(rollups, wrong));
    }
}

// Nobody changes what is being copied.
void test_others_cannot_write_meanwhile(void**) {
    World world;
    auto source = std::make_unique<CopySource>(world.path, false);
    SqliteConnection other(world.path, false);
    other.execute_script("PRAGMA busy_timeout = 1");
    auto can_write = [&] {
        try {
            other.execute_script("INSERT INTO plans VALUES ('p', '', 1); DELETE FROM plans");
            return true;
        } catch (const SqliteError&) {
            return false;
        }
    };
    assert_false(can_write());
    source.reset();
    assert_true(can_write());
}

// ---- rows -----------------------------------------------------------------------------------

void test_batches_end_at_rows_and_bytes(void**) {
    World world;
    SqliteConnection db(world.path, false);
    db.execute_script(
        "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 25)"
        " INSERT INTO audit_log SELECT printf('a%04d', value), '', '', '', '', '{}', value FROM n");
    for (int i = 0; i < 7; i++) {
        db.execute("INSERT INTO plans (name, limits, created_at) VALUES (?, ?, 1)", "p" + std::to_string(i),
                   std::string(3'000'000, 'x'));
    }
    CopySource source(world.path, false);
    auto sizes_of = [&](std::string_view table) {
        std::vector<std::size_t> sizes;
        std::optional<CopyKey> after;
        for (bool is_end = false; !is_end;) {
            auto batch = source.read(index_of(source, table), after, 10, [](const SqliteQuery&) {});
            sizes.push_back(batch.rows);
            is_end = batch.is_end;
            if (batch.last) after = batch.last;
        }
        return sizes;
    };
    assert_true(sizes_of("audit_log") == (std::vector<std::size_t>{10, 10, 5}));
    assert_true(sizes_of("plans") == (std::vector<std::size_t>{3, 3, 1}));  // 8 MiB
    assert_true(sizes_of("users") == (std::vector<std::size_t>{0}));
}

std::string digest_of(SqliteConnection& db, const std::string& values) {
    static std::deque<std::string> statements;
    statements.push_back("SELECT " + values);
    const CopyTable table{"t", {{"a", CopyType::kText}, {"b", CopyType::kText}, {"c", CopyType::kInteger}}, 1};
    auto row = db.query(statements.back().c_str());
    row.step();
    Sha256 hash;
    return hex_encode(row_digest(hash, table, row));
}

void test_digests_tell_rows_apart(void**) {
    TempDir dir;
    SqliteConnection db(dir.path() + "/x.db", false);
    const char* rows[] = {"'a', 'b', 1",  "'ab', '', 1", "'', 'ab', 1",  "'a', 'b', NULL",
                          "'a', NULL, 1", "'a', '', 1",  "'a', 'b', 2",  "'a', 'b', -1",
                          "'n', 'b', 1",  "'a', 'B', 1", "'a', 'b ', 1", "'a', 'b' || char(9), 1"};
    std::vector<std::string> seen;
    for (const char* row : rows) seen.push_back(digest_of(db, row));
    std::sort(seen.begin(), seen.end());
    assert_true(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
    // As PostgreSQL gives it back.
    assert_string_equal(digest_of(db, "'a', CAST(x'ff00' AS TEXT), 1").c_str(),
                        digest_of(db, "'a', char(65533, 65533), 1").c_str());
}

void test_a_key_that_is_no_text_is_refused(void**) {
    World world;
    SqliteConnection db(world.path, false);
    db.execute_script("INSERT INTO plans VALUES (CAST(x'61ff' AS TEXT), '', 1)");
    CopySource source(world.path, false);
    auto refused =
        refusal([&] { (void)source.read(index_of(source, "plans"), std::nullopt, 10, [](const SqliteQuery&) {}); });
    assert_true(refused && refused->code == ErrorCode::kUnprocessable);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_waiting_migrations),
        cmocka_unit_test(test_migration_rows),
        cmocka_unit_test(test_a_table_without_a_line_is_refused),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_others_cannot_write_meanwhile),
        cmocka_unit_test(test_batches_end_at_rows_and_bytes),
        cmocka_unit_test(test_digests_tell_rows_apart),
        cmocka_unit_test(test_a_key_that_is_no_text_is_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
