// What several of the PostgreSQL store's transactions share: changes of the hourly rollups, and ordering keys.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>

#include "sidecar/store/postgres_connection.h"
#include "sidecar/store/rows.h"

namespace headgate {

// Collected during a transaction and added in one statement, the last before its commit, sorted by key: two
// transactions that meet in the same hours never wait for each other in a ring. Tests and replays are left out by the
// callers.
class PgRollups {
 public:
    struct Change {
        std::int64_t success = 0, failed = 0, pending = 0, retries = 0, responses = 0, response_ms_sum = 0;
        std::int64_t filtered = 0, disabled = 0;
    };
    // `created_at` is the delivery's: what becomes of it later changes the same hour.
    Change& of(std::string_view webhook_id, TimeMs created_at, std::string_view event_type);
    // A delivery's status went from one to the other; empty: it was not there.
    static void move(Change& change, std::string_view from, std::string_view to);
    void send(PgConnection& db);  // queues the statement

 private:
    std::map<std::tuple<std::string, TimeMs, std::string>, Change> changes_;
};

}  // namespace headgate
