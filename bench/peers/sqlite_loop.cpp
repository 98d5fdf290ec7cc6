// The peer of the drain row: the same rows into the same schema with the same indexes, as plainly as one can: one loop,
// statements prepared once, a transaction for each batch. No Redis, no leases, no matching: the rows are known.
//
// Input: a database as `headgate init` and one `headgate webhook create` leave it, a file with one JSON payload per
// line (used in turn), how many events, and the batch. Output: one JSON object: inserted, and the seconds from before
// the first transaction to after the last COMMIT. Pragmas are those of sidecar/store/sqlite_statement.cpp.
#include <sqlite3.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "common/event_id.h"

namespace {

using namespace headgate;

constexpr int kShards = 8;
constexpr int kLane = 7;  // any: an integer column

struct Closer {
    void operator()(sqlite3* db) const { sqlite3_close(db); }
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Database = std::unique_ptr<sqlite3, Closer>;
using Statement = std::unique_ptr<sqlite3_stmt, Closer>;

void check(sqlite3* db, int code) {
    if (code != SQLITE_OK && code != SQLITE_ROW && code != SQLITE_DONE) throw std::runtime_error(sqlite3_errmsg(db));
}

Database open(const char* path) {
    sqlite3* raw = nullptr;
    const int code = sqlite3_open(path, &raw);
    Database db(raw);
    check(raw, code);
    check(raw, sqlite3_exec(raw,
                            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                            "PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 67108864;"
                            "PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY;",
                            nullptr, nullptr, nullptr));
    return db;
}

Statement prepare(sqlite3* db, const char* sql) {
    sqlite3_stmt* raw = nullptr;
    check(db, sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr));
    return Statement(raw);
}

void bind(sqlite3_stmt* statement, int place, std::string_view text) {
    sqlite3_bind_text(statement, place, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
}
void bind(sqlite3_stmt* statement, int place, std::int64_t number) { sqlite3_bind_int64(statement, place, number); }

template <typename... Args>
void run(sqlite3* db, const Statement& statement, const Args&... args) {
    int place = 0;
    (bind(statement.get(), ++place, args), ...);
    check(db, sqlite3_step(statement.get()));
    sqlite3_reset(statement.get());
}

std::string text_of(sqlite3* db, const char* sql) {
    Statement statement = prepare(db, sql);
    if (sqlite3_step(statement.get()) != SQLITE_ROW) throw std::runtime_error(std::string("no row: ") + sql);
    return reinterpret_cast<const char*>(sqlite3_column_text(statement.get(), 0));
}

std::int64_t now_ms() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

double insert(sqlite3* db, const std::vector<std::string>& payloads, std::int64_t count, std::int64_t batch) {
    const std::string org = text_of(db, "SELECT organization_id FROM webhooks ORDER BY id LIMIT 1");
    const std::string webhook = text_of(db, "SELECT id FROM webhooks ORDER BY id LIMIT 1");
    const Statement begin = prepare(db, "BEGIN IMMEDIATE");
    const Statement commit = prepare(db, "COMMIT");
    const Statement event = prepare(
        db,
        "INSERT INTO events (id, organization_id, seq, key_id, type, source, payload, ordering_key, traceparent, via,"
        " created_at, updated_at) VALUES (?, ?, ?, 'bench', 'order.placed', 'bench', ?, '', '', 'api', ?, ?)");
    const Statement delivery = prepare(
        db,
        "INSERT INTO deliveries (id, organization_id, webhook_id, event_id, state, due_at, generation, lane, shard,"
        " stream_ms, stream_seq, created_at, updated_at) VALUES (?, ?, ?, ?, 'queued', ?, 1, ?, ?, ?, ?, ?, ?)");
    const Statement organization =
        prepare(db, "UPDATE organizations SET seq = ?, matched_events = matched_events + ? WHERE id = ?");
    const Statement rollup =
        prepare(db,
                "INSERT INTO rollups (webhook_id, hour_at, event_type, pending_count) VALUES (?, ?, 'order.placed', ?)"
                " ON CONFLICT (webhook_id, hour_at, event_type) DO UPDATE SET"
                " pending_count = pending_count + excluded.pending_count");
    const auto begun = std::chrono::steady_clock::now();
    for (std::int64_t seq = 0; seq < count;) {
        run(db, begin);
        const std::int64_t now = now_ms();
        const std::int64_t first = seq;
        for (; seq < count && seq - first < batch; ++seq) {
            const std::string event_id = uuid7(now);
            const std::string delivery_id = uuid7(now);
            run(db, event, event_id, org, seq + 1, payloads[static_cast<std::size_t>(seq) % payloads.size()], now, now);
            run(db, delivery, delivery_id, org, webhook, event_id, now, std::int64_t{kLane}, seq % kShards, now, seq,
                now, now);
        }
        run(db, organization, seq, seq - first, org);
        run(db, rollup, webhook, now - now % 3'600'000, seq - first);
        run(db, commit);
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

std::int64_t parse_number(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value <= 0) {
        throw std::invalid_argument("not a positive number: " + std::string(text));
    }
    return value;
}

std::vector<std::string> read_lines(const char* path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    if (lines.empty()) throw std::runtime_error(std::string(path) + ": no payloads");
    return lines;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 5) throw std::invalid_argument("usage: sqlite_loop DATABASE PAYLOADS_FILE EVENTS BATCH");
        const Database db = open(argv[1]);
        const std::int64_t count = parse_number(argv[3]);
        const double seconds = insert(db.get(), read_lines(argv[2]), count, parse_number(argv[4]));
        std::printf("{\"inserted\":%lld,\"seconds\":%.6f}\n", static_cast<long long>(count), seconds);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "sqlite_loop: %s\n", error.what());
        return 1;
    }
}
