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

void PostgresStore::make_partitions(TimeMs now) {
    for (std::string table : {"events", "attempts"}) {
        for (int week = 0; week <= kWeeksAhead; week++) {
            TimeMs from = (now / kPartitionMs + week) * kPartitionMs;
            std::string name = partition_name(table, from);
            std::string first = partition_bound(from);
            std::string last = partition_bound(from + kPartitionMs);
            // What a clock ahead of ours has put among the strays stays there, and with it the rest of its week.
            bool strays = false;
            if (table == "events") {
                auto row = db_.query(
                    "SELECT to_regclass($1) IS NOT NULL, EXISTS (SELECT 1 FROM events_stray WHERE id >= $2 AND id < "
                    "$3)",
                    name, first, last);
                row.step();
                strays = row.number(0) != 0 || row.number(1) != 0;
            } else {
                auto row = db_.query(
                    "SELECT to_regclass($1) IS NOT NULL,"
                    " EXISTS (SELECT 1 FROM attempts_stray WHERE id >= $2 AND id < $3)",
                    name, first, last);
                row.step();
                strays = row.number(0) != 0 || row.number(1) != 0;
            }
            if (strays) continue;
            // The names and bounds are made of digits: a partition's bounds cannot be parameters.
            db_.execute_script("CREATE TABLE IF NOT EXISTS " + name + " PARTITION OF " + table + " FOR VALUES FROM ('" +
                               first + "') TO ('" + last + "')");
        }
    }
}

}  // namespace headgate
