// links: headgate_store headgate_common
// The store on SQLite: the conformance suite, and what only this engine has (lock file, schema checks).
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "lua-free-tests/store_conformance.h"  // last
#include "lua-free-tests/temp_dir.h"
#include "sidecar/store/sqlite_statement.h"
#include "sidecar/store/store.h"

using namespace headgate;
using namespace headgate::conformance;

namespace {

StoreOptions options_of(const TempDir& dir) {
    StoreOptions options;
    options.url = "sqlite:" + dir.path() + "/store.db";
    options.master_key = kMasterKey;
    return options;
}

std::string sql(const TempDir& dir, const std::string& statement);

class SqliteFactory : public StoreFactory {
 public:
    std::unique_ptr<Store> open() override {
        auto store = open_store(options_of(dir_));
        if (!store) throw std::runtime_error(store.error().message);
        return std::move(*store);
    }
    std::unique_ptr<Store> open_with(const std::vector<std::string>& keys) override {
        auto store = open_store(with_keys(options_of(dir_), keys));
        if (!store) throw std::runtime_error(store.error().message);
        return std::move(*store);
    }
    std::string raw_bytes() override {
        std::ostringstream all;
        for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
            all << std::ifstream(entry.path(), std::ios::binary).rdbuf();
        }
        return all.str();
    }
    std::string run_sql(const std::string& statement) override { return sql(dir_, statement); }

 private:
    TempDir dir_;
};

// Runs SQL beside the store; the first column of the first row as text, or the error.
std::string sql(const TempDir& dir, const std::string& statement) {
    sqlite3* db = nullptr;
    sqlite3_open((dir.path() + "/store.db").c_str(), &db);
    std::string first;
    auto keep = [](void* out, int, char** values, char**) {
        auto& text = *static_cast<std::string*>(out);
        if (text.empty() && values[0] != nullptr) text = values[0];
        return 0;
    };
    if (sqlite3_exec(db, statement.c_str(), keep, &first, nullptr) != SQLITE_OK) {
        first = std::string("error: ") + sqlite3_errmsg(db);
    }
    sqlite3_close(db);
    return first;
}

Organization named_org(const std::string& id) {
    Organization org;
    org.id = org.name = id;
    return org;
}

std::unique_ptr<Store> migrated(const TempDir& dir) {
    auto store = open_store(options_of(dir));
    World::require(store.has_value() && (*store)->migrate().has_value());
    return std::move(*store);
}

std::string open_error(const StoreOptions& options) {
    auto store = open_store(options);
    return store ? "" : store.error().message;
}

void test_open_malformed_url_or_key_is_refused(void**) {
    TempDir dir;
    StoreOptions options = options_of(dir);
    options.url = "mysql://x";
    assert_true(open_error(options).find("store.url") != std::string::npos);
    options.url = "sqlite:";
    assert_true(open_error(options).find("store.url") != std::string::npos);
    options.url = "sqlite:/no/such/directory/store.db";
    assert_true(open_error(options).find("/no/such/directory") != std::string::npos);
    options = options_of(dir);
    options.master_key.pop_back();
    assert_true(open_error(options).find("32 bytes") != std::string::npos);
}

void test_open_wrong_master_key_says_so(void**) {
    TempDir dir;
    migrated(dir);
    StoreOptions options = options_of(dir);
    options.master_key = std::string(32, 'x');
    assert_true(open_error(options).find("the master key is not the one") != std::string::npos);
    options.previous_master_keys = {kMasterKey};
    assert_true(open_error(options).empty());
}

// SQLite would give $2 the number 1, and with it the other's value.
void test_numbered_parameters_are_taken_only_in_order(void**) {
    TempDir dir;
    SqliteConnection db(dir.path() + "/any.db", false);
    auto row = db.query("SELECT $1 || $2 || $1", std::string_view("a"), std::string_view("b"));
    assert_true(row.step());
    assert_string_equal(row.text(0).c_str(), "aba");
    constexpr const char* kTurned = "SELECT $2 || $1";
    for (int i = 0; i < 2; i++) {  // nor is it remembered
        ErrorCode code = ErrorCode::kNotFound;
        try {
            (void)db.query(kTurned, std::string_view("a"), std::string_view("b"));
        } catch (const StoreFailure& failure) {
            code = failure.error.code;
        }
        assert_true(code == ErrorCode::kInternal);
    }
}

void test_open_exclusive_twice_names_the_holder(void**) {
    TempDir dir;
    StoreOptions options = options_of(dir);
    options.exclusive = true;
    int to_parent[2];
    int to_child[2];
    World::require(pipe(to_parent) == 0 && pipe(to_child) == 0);
    pid_t child = fork();
    if (child == 0) {
        auto held = open_store(options);
        char byte = held ? 'y' : 'n';
        (void)!write(to_parent[1], &byte, 1);
        (void)!read(to_child[0], &byte, 1);
        _exit(0);
    }
    char byte = 0;
    World::require(read(to_parent[0], &byte, 1) == 1);
    std::string refused = open_error(options);
    options.exclusive = false;
    std::string beside = open_error(options);
    (void)!write(to_child[1], "q", 1);
    waitpid(child, nullptr, 0);
    options.exclusive = true;
    std::string after = open_error(options);
    for (int fd : {to_parent[0], to_parent[1], to_child[0], to_child[1]}) close(fd);
    assert_int_equal(byte, 'y');
    assert_true(refused.find("another `headgate serve` holds") != std::string::npos);
    assert_true(refused.ends_with("pid " + std::to_string(child)));
    assert_true(beside.empty());
    assert_true(after.empty());  // the lock died with its holder
}

void test_migrate_newer_or_changed_schema_is_refused(void**) {
    TempDir dir;
    auto store = migrated(dir);
    sql(dir, "UPDATE schema_migrations SET sha256 = 'other' WHERE version = 1");
    auto changed = store->migrate();
    assert_true(!changed && changed.error().message.find("another content") != std::string::npos);
    sql(dir,
        "INSERT INTO schema_migrations VALUES (9999, '9999_future', '', 0); UPDATE schema_migrations SET sha256 = ''");
    sql(dir, "DELETE FROM schema_migrations WHERE version < 9999");
    auto newer = store->migrate();
    assert_true(!newer && newer.error().message.find("newer than this program") != std::string::npos);
}

void test_migrated_file_is_in_wal_mode(void**) {
    TempDir dir;
    migrated(dir);
    assert_string_equal(sql(dir, "PRAGMA journal_mode").c_str(), "wal");
}

// A command line writes beside a running serve: both wait for each other instead of failing.
void test_two_writers_wait_for_each_other(void**) {
    TempDir dir;
    auto first = migrated(dir);
    auto second = migrated(dir);
    int failures = 0;
    auto create = [&failures](Store& store, const std::string& prefix) {
        int failed = 0;
        for (int i = 0; i < 200; i++) {
            failed += store.create_org(named_org(prefix + std::to_string(i))).has_value() ? 0 : 1;
        }
        return failed;
    };
    int failures_of_other = 0;
    std::thread other([&] { failures_of_other = create(*second, "b"); });
    failures = create(*first, "a");
    other.join();
    assert_int_equal(failures + failures_of_other, 0);
    assert_int_equal(first->list_orgs()->size(), 400);
}

// One commit for several calls: one that fails inside takes nothing along but itself, one that fails as a whole
// everything.
void test_together_is_one_transaction(void**) {
    TempDir dir;
    auto store = migrated(dir);
    auto watcher = migrated(dir);
    auto done = store->together([&]() -> Result<void> {
        assert_true(store->create_org(named_org("a")).has_value());
        assert_false(store->create_org(named_org("a")).has_value());
        assert_true(store->create_org(named_org("b")).has_value());
        assert_int_equal(watcher->list_orgs()->size(), 0);  // not committed yet
        return {};
    });
    assert_true(done.has_value());
    assert_int_equal(watcher->list_orgs()->size(), 2);
    done = store->together([&]() -> Result<void> {
        assert_true(store->create_org(named_org("c")).has_value());
        return fail(ErrorCode::kUnavailable, "no");
    });
    assert_int_equal(code_of(done), static_cast<int>(ErrorCode::kUnavailable));
    assert_int_equal(watcher->list_orgs()->size(), 2);
    assert_true(store->create_org(named_org("c")).has_value());  // and it is over
    assert_int_equal(watcher->list_orgs()->size(), 3);
}

void test_read_only_store_refuses_to_write(void**) {
    TempDir dir;
    auto writer = migrated(dir);
    StoreOptions options = options_of(dir);
    options.read_only = true;
    auto reader = open_store(options);
    assert_true(reader.has_value());
    assert_true((*reader)->list_orgs().has_value());
    auto refused = (*reader)->create_org(named_org("o"));
    assert_int_equal(code_of(refused), static_cast<int>(ErrorCode::kUnavailable));
}

// What is written into a file that is not at its path any more, nobody would find again.
void test_moved_or_replaced_file_refuses_writes_until_it_is_back(void**) {
    TempDir dir;
    auto store = migrated(dir);
    const std::string path = dir.path() + "/store.db";
    const std::string away = path + ".away";
    assert_true(std::filesystem::exists(path));
    const auto refusal = [&store] {
        auto refused = store->create_org(named_org("o"));
        assert_int_equal(code_of(refused), static_cast<int>(ErrorCode::kUnavailable));
        return refused.error().message;
    };
    std::filesystem::rename(path, away);
    assert_non_null(std::strstr(refusal().c_str(), "moved, deleted or replaced"));
    assert_int_equal(code_of(store->ping()), static_cast<int>(ErrorCode::kUnavailable));
    assert_true(store->list_orgs().has_value());
    std::filesystem::copy(away, path);
    assert_non_null(std::strstr(refusal().c_str(), "moved, deleted or replaced"));
    std::filesystem::rename(away, path);
    assert_true(store->create_org(named_org("o")).has_value());
    assert_true(store->ping().has_value());
}

}  // namespace

int main() {
    make_factory = []() -> std::unique_ptr<StoreFactory> { return std::make_unique<SqliteFactory>(); };
    std::vector<CMUnitTest> tests = store_conformance_tests();
    const CMUnitTest own[] = {
        cmocka_unit_test(test_open_malformed_url_or_key_is_refused),
        cmocka_unit_test(test_open_wrong_master_key_says_so),
        cmocka_unit_test(test_numbered_parameters_are_taken_only_in_order),
        cmocka_unit_test(test_open_exclusive_twice_names_the_holder),
        cmocka_unit_test(test_migrate_newer_or_changed_schema_is_refused),
        cmocka_unit_test(test_migrated_file_is_in_wal_mode),
        cmocka_unit_test(test_two_writers_wait_for_each_other),
        cmocka_unit_test(test_together_is_one_transaction),
        cmocka_unit_test(test_read_only_store_refuses_to_write),
        cmocka_unit_test(test_moved_or_replaced_file_refuses_writes_until_it_is_back),
    };
    tests.insert(tests.end(), std::begin(own), std::end(own));
    return _cmocka_run_group_tests("store_sqlite", tests.data(), tests.size(), nullptr, nullptr);
}
