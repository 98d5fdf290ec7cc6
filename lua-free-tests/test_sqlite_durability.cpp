// links: headgate_store headgate_common
// When SQLite waits for the disk: a file system of our own beneath it counts the syncs of the WAL, and which thread
// made them.
#include <sqlite3.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/temp_dir.h"
#include "sidecar/store/store.h"

using namespace headgate;

namespace {

std::atomic<int> waited_syncs{0};  // by the thread that commits
std::atomic<int> other_syncs{0};
const std::thread::id kCommitter = std::this_thread::get_id();

sqlite3_vfs* real_vfs = nullptr;
sqlite3_io_methods wal_methods;
int (*real_sync)(sqlite3_file*, int) = nullptr;

int counting_sync(sqlite3_file* file, int flags) {
    (std::this_thread::get_id() == kCommitter ? waited_syncs : other_syncs)++;
    return real_sync(file, flags);
}

int counting_open(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* opened_flags) {
    const int code = real_vfs->xOpen(real_vfs, name, file, flags, opened_flags);
    if (code == SQLITE_OK && (flags & SQLITE_OPEN_WAL) != 0) {
        real_sync = file->pMethods->xSync;
        wal_methods = *file->pMethods;
        wal_methods.xSync = counting_sync;
        file->pMethods = &wal_methods;
    }
    return code;
}

// From here on each connection uses it.
void count_syncs() {
    static sqlite3_vfs counting;
    real_vfs = sqlite3_vfs_find(nullptr);
    counting = *real_vfs;
    counting.zName = "counting";
    counting.xOpen = counting_open;
    assert_int_equal(sqlite3_vfs_register(&counting, 1), SQLITE_OK);
}

Organization named_org(const std::string& id) {
    Organization org;
    org.id = org.name = id;
    return org;
}

std::unique_ptr<Store> open_one(const TempDir& dir, bool is_serving) {
    StoreOptions options;
    options.url = "sqlite:" + dir.path() + "/store.db";
    options.master_key = std::string(32, 'k');
    options.exclusive = is_serving;
    auto store = open_store(options);
    assert_true(store.has_value());
    assert_true((*store)->migrate().has_value());
    return std::move(*store);
}

// How many syncs it waited for.
template <typename Work>
int waits_of(Work work) {
    const int before = waited_syncs;
    work();
    return waited_syncs - before;
}

void test_only_claims_and_results_do_not_wait(void**) {
    TempDir dir;
    auto store = open_one(dir, true);
    const auto create = [&](const std::string& id) { assert_true(store->create_org(named_org(id)).has_value()); };

    assert_int_equal(waits_of([&] { create("before"); }), 1);
    const int others_before = other_syncs;
    assert_int_equal(waits_of([&] {
                         for (int i = 0; i < 20; i++) {
                             auto done = store->together([&]() -> Result<void> {
                                 create("t" + std::to_string(i));
                                 return {};
                             });
                             assert_true(done.has_value());
                         }
                     }),
                     0);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (other_syncs == others_before && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    assert_true(other_syncs > others_before);

    assert_int_equal(waits_of([&] { create("after"); }), 1);
    auto failed = store->together([&]() -> Result<void> { return fail(ErrorCode::kUnavailable, "no"); });
    assert_false(failed.has_value());
    assert_int_equal(waits_of([&] { create("after a failure"); }), 1);
}

// What has not been synced yet is at the end.
void test_the_end_syncs(void**) {
    TempDir dir;
    auto store = open_one(dir, true);
    auto reader = open_one(dir, false);
    assert_true(reader->list_orgs().has_value());  // so that closing the other is not the last closing, which syncs
    const int others_before = other_syncs;
    auto done = store->together([&]() -> Result<void> {
        assert_true(store->create_org(named_org("late")).has_value());
        return {};
    });
    assert_true(done.has_value());
    store.reset();
    assert_true(other_syncs > others_before);
}

// Without a thread that would do it later, every commit waits.
void test_a_store_of_the_command_line_waits(void**) {
    TempDir dir;
    open_one(dir, true).reset();
    auto store = open_one(dir, false);
    assert_true(store->create_org(named_org("first")).has_value());
    assert_int_equal(waits_of([&] {
                         auto done = store->together([&]() -> Result<void> {
                             assert_true(store->create_org(named_org("second")).has_value());
                             return {};
                         });
                         assert_true(done.has_value());
                     }),
                     1);
}

}  // namespace

int main() {
    count_syncs();
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_only_claims_and_results_do_not_wait),
        cmocka_unit_test(test_the_end_syncs),
        cmocka_unit_test(test_a_store_of_the_command_line_waits),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
