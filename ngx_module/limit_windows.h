// The windows of one limit with everything that can be written down before a request comes.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/rate_plan.h"
#include "ngx_module/token_memo.h"
#include "ngx_module/zone_cache.h"

namespace headgate::edge {

// From the digest of a limit's windows and the key of its buckets to the ZoneKey. 45 KiB when all slots are in use.
using LimitMemo = DigestMemo<12, 120>;

class LimitWindows {
 public:
    LimitWindows(std::string_view bucket_name, std::vector<RateWindow> windows);

    [[nodiscard]] const std::vector<RateWindow>& windows() const noexcept { return windows_; }
    [[nodiscard]] std::int64_t burst_min() const noexcept { return burst_min_; }
    // What follows need, ahead, ret and ret_age_us in the script's ARGV: RESP bulk strings, and how many.
    [[nodiscard]] std::string_view arguments() const noexcept { return arguments_; }
    [[nodiscard]] std::size_t argument_count() const noexcept { return 1 + 4 * windows_.size(); }
    [[nodiscard]] std::string_view policy() const noexcept { return policy_; }  // RateLimit-Policy
    // Where the shared zone keeps what this host knows of a key's buckets with these windows.
    [[nodiscard]] ZoneKey zone_key(std::string_view key, LimitMemo& memo) const noexcept {
        return memo.key_of(key, digest_);
    }

 private:
    std::vector<RateWindow> windows_;
    std::int64_t burst_min_;
    std::string arguments_;
    std::string policy_;
    LimitMemo::Prefix digest_;  // of arguments_, in part: with a short key it still fits SHA-256's first block
};

// The name of the buckets that plans charge.
inline constexpr std::string_view kPlanBucket = "plan";

// The limits that API keys carry as text, parsed once in each worker.
class LimitTexts {
 public:
    // nullptr: it does not parse. What it finds lives as long as this object, except beyond kTextsMax texts: those
    // are parsed each time and left in `spare`.
    [[nodiscard]] const LimitWindows* find(std::string_view text, std::unique_ptr<LimitWindows>& spare);

    static constexpr std::size_t kTextsMax = 4096;

 private:
    std::unordered_map<std::string, std::unique_ptr<LimitWindows>> texts_;
    std::string scratch_;
};

}  // namespace headgate::edge
