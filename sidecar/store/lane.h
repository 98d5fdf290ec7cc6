// Which lane sends for a webhook: one owner for each lane keeps its in-flight limit and order real.
#pragma once

#include <string_view>

#include "common/hmac.h"

namespace headgate {

inline constexpr int kLanes = 256;

[[nodiscard]] inline int lane_of(std::string_view webhook_id) noexcept {
    return static_cast<int>(crc32c(webhook_id) % kLanes);
}

}  // namespace headgate
