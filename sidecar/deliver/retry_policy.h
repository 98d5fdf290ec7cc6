// What follows an attempt: done, again at a certain time, or dead. Pure: no clock and no randomness
// of its own. Input: a webhook's retry_config and how the attempt ended. Next file: dispatcher.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"
#include "sidecar/store/store.h"

namespace headgate {

// 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: used when a webhook states neither a schedule nor a delay.
[[nodiscard]] const std::vector<std::int64_t>& default_retry_schedule_ms();

// Write-time check: 0 to kWebhookRetriesMax retries, delays from 0 to kRetryDelayMsMax, a finite multiplier from 1 to
// 100.
[[nodiscard]] Result<void> validate_retry_config(const RetryConfig& config);

// The delay before retry n (1 = first), before jitter: the schedule's n-th entry (its last one beyond
// its end), or retry_delay_ms * backoff_multiplier^(n-1), at most kRetryDelayMsMax. Never overflows.
[[nodiscard]] std::int64_t retry_delay_ms(const RetryConfig& config, int retry_number) noexcept;

// ±20 %: `random` from 0 to 1 picks the place in that range.
[[nodiscard]] std::int64_t with_jitter_ms(std::int64_t delay_ms, double random) noexcept;

// Retry-After (RFC 9110, 10.2.3): seconds, or an HTTP date. The delay from now, 0 to kRetryAfterMsMax;
// nullopt when it cannot be read.
[[nodiscard]] std::optional<std::int64_t> parse_retry_after_ms(std::string_view value, TimeMs now) noexcept;

struct AttemptResult {
    int number = 1;           // this attempt, interrupted ones left out; 1 = first
    int status_code = 0;      // 0 = no response
    bool has_failed = false;  // in transport: no usable response, whatever status_code says
    std::string_view retry_after;
};

struct RetryDecision {
    AttemptOutcome outcome = AttemptOutcome::kSuccess;
    std::int64_t delay_ms = 0;           // kRetry
    std::string disable_webhook_reason;  // 410 Gone
};

// 2xx is success; 410 is dead and disables the webhook; everything else (3xx included) is tried
// again while retries are left. Retry-After is a minimum, not a replacement.
[[nodiscard]] RetryDecision decide_retry(const RetryConfig& config, const AttemptResult& result, TimeMs now,
                                         double random);

}  // namespace headgate
