// The weekly partitions' names. Next file: postgres_partitions.cpp.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "sidecar/store/postgres_connection.h"
#include "sidecar/store/rows.h"

namespace headgate {

inline constexpr TimeMs kPartitionMs = 7LL * 24 * 3600 * 1000;

// events_w2963: the week that begins at `from`, a multiple of kPartitionMs.
[[nodiscard]] std::string partition_name(std::string_view table, TimeMs from);
// "01923abc-def0": smaller than every id of that millisecond, greater than those before.
[[nodiscard]] std::string partition_bound(TimeMs ms);
// Makes that week's partition, unless it is there, or strays would have to be moved. Throws PgError.
void make_partition(PgConnection& db, const std::string& table, TimeMs from);
// nullopt: not a weekly partition of this table.
[[nodiscard]] std::optional<TimeMs> partition_start(std::string_view table, std::string_view name);

}  // namespace headgate
