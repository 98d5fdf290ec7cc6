// Partitions of events and attempts: one for each week, by range of id. A UUIDv7 begins with its time, 48 bits of
// milliseconds in hexadecimal, so that a range of ids is a range of times.
#include "sidecar/store/postgres_partitions.h"

#include <array>

#include "common/event_id.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {
namespace {

constexpr int kWeeksAhead = 4;

}  // namespace

std::string partition_bound(TimeMs ms) {
    char text[kEventIdBytes];
    uuid7_format(ms, {}, text);
    return {text, 13};
}

std::string partition_name(std::string_view table, TimeMs from) {
    return std::string(table) + "_w" + std::to_string(from / kPartitionMs);
}

std::optional<TimeMs> partition_start(std::string_view table, std::string_view name) {
    std::string prefix = std::string(table) + "_w";
    if (!name.starts_with(prefix)) return std::nullopt;
    TimeMs weeks = 0;
    for (char c : name.substr(prefix.size())) {
        if (c < '0' || c > '9' || weeks > 1'000'000) return std::nullopt;
        weeks = weeks * 10 + (c - '0');
    }
    return weeks * kPartitionMs;
}

void make_partition(PgConnection& db, const std::string& table, TimeMs from) {
    std::string name = partition_name(table, from);
    std::string first = partition_bound(from);
    std::string last = partition_bound(from + kPartitionMs);
    // What a clock ahead of ours has put among the strays stays there, and with it the rest of its week.
    auto row =
        table == "events"
            ? db.query(
                  "SELECT to_regclass($1) IS NOT NULL OR EXISTS (SELECT 1 FROM events_stray WHERE id >= $2 AND "
                  "id < $3)",
                  name, first, last)
            : db.query(
                  "SELECT to_regclass($1) IS NOT NULL OR EXISTS (SELECT 1 FROM attempts_stray WHERE id >= $2 AND "
                  "id < $3)",
                  name, first, last);
    row.step();
    if (row.number(0) != 0) return;
    // The names and bounds are made of digits: a partition's bounds cannot be parameters.
    db.execute_script("CREATE TABLE IF NOT EXISTS " + name + " PARTITION OF " + table + " FOR VALUES FROM ('" + first +
                      "') TO ('" + last + "')");
}

void PostgresStore::make_partitions(TimeMs now) {
    for (const char* table : {"events", "attempts"}) {
        for (int week = 0; week <= kWeeksAhead; week++) {
            make_partition(db_, table, (now / kPartitionMs + week) * kPartitionMs);
        }
    }
}

}  // namespace headgate
