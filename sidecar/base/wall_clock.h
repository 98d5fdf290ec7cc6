// The clocks, in the one unit that is kept everywhere.
#pragma once

#include <chrono>
#include <cstdint>

namespace headgate {

[[nodiscard]] inline std::int64_t wall_clock_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// For how long something has lasted: it never steps, and its zero means nothing.
[[nodiscard]] inline std::int64_t steady_clock_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace headgate
