// What several of the store's transactions share: which lanes are really ours, and what changes in the hourly rollups.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>

#include "sidecar/store/lane.h"
#include "sidecar/store/sqlite_statement.h"
#include "sidecar/store/store.h"

namespace headgate {

// Compares the epochs that a caller believes to hold with the lease rows, each lane once. For one transaction.
class SqliteLanes {
 public:
    SqliteLanes(SqliteConnection& db, Epochs epochs) : db_(db), epochs_(epochs) {}
    [[nodiscard]] bool holds(std::string_view webhook_id) { return holds_lane(lane_of(webhook_id)); }
    [[nodiscard]] bool holds_lane(int lane);

 private:
    enum class Known : std::uint8_t { kNo, kHeld, kLost };
    SqliteConnection& db_;
    Epochs epochs_;
    std::array<Known, kLanes> known_{};
};

inline constexpr TimeMs kHourMs = 3'600'000;

// Collected during a transaction; one statement for each webhook, hour and event type. Tests and replays are left out
// by the callers.
class SqliteRollups {
 public:
    explicit SqliteRollups(SqliteConnection& db) : db_(db) {}
    // `created_at` is the delivery's: what becomes of it later changes the same hour. The counts returned hold changes;
    // hour_at and the names are set. Valid until the next call.
    Rollup& of(std::string_view webhook_id, TimeMs created_at, std::string_view event_type);
    // A delivery's status went from one to the other; empty: it was not there.
    static void move(Rollup& rollup, std::string_view from, std::string_view to);
    void save();

 private:
    SqliteConnection& db_;
    std::unordered_map<std::string, Rollup> changes_;
    Rollup* last_ = nullptr;
};

}  // namespace headgate
