// The decisions of retry_policy.h.
#include "sidecar/deliver/retry_policy.h"

#include <curl/curl.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <vector>

#include "common/limits.h"

namespace headgate {

namespace {

constexpr double kJitter = 0.2;
constexpr double kMultiplierMax = 100.0;
constexpr std::int64_t kSecondMs = 1000;
constexpr std::int64_t kMinuteMs = 60 * kSecondMs;
constexpr std::int64_t kHourMs = 60 * kMinuteMs;

}  // namespace

const std::vector<std::int64_t>& default_retry_schedule_ms() {
    static const std::vector<std::int64_t> kSchedule = {5 * kSecondMs, 5 * kMinuteMs, 30 * kMinuteMs,
                                                        2 * kHourMs,   5 * kHourMs,   10 * kHourMs,
                                                        14 * kHourMs,  20 * kHourMs,  24 * kHourMs};
    return kSchedule;
}

Result<void> validate_retry_config(const RetryConfig& config) {
    if (config.max_retries < 0 || config.max_retries > limits::kWebhookRetriesMax) {
        return fail(ErrorCode::kUnprocessable,
                    "retry_config.max_retries: 0 to " + std::to_string(limits::kWebhookRetriesMax));
    }
    const auto is_delay = [](std::int64_t delay_ms) { return delay_ms >= 0 && delay_ms <= limits::kRetryDelayMsMax; };
    if (!is_delay(config.retry_delay_ms) ||
        !std::all_of(config.schedule_ms.begin(), config.schedule_ms.end(), is_delay)) {
        return fail(ErrorCode::kUnprocessable,
                    "retry_config: a delay is 0 to " + std::to_string(limits::kRetryDelayMsMax) + " ms");
    }
    if (config.schedule_ms.size() > static_cast<std::size_t>(limits::kWebhookRetriesMax)) {
        return fail(ErrorCode::kUnprocessable,
                    "retry_config.schedule: at most " + std::to_string(limits::kWebhookRetriesMax) + " delays");
    }
    // Written so that NaN is refused too.
    if (!(config.backoff_multiplier >= 1.0 && config.backoff_multiplier <= kMultiplierMax)) {
        return fail(ErrorCode::kUnprocessable, "retry_config.backoff_multiplier: 1 to 100");
    }
    return {};
}

std::int64_t retry_delay_ms(const RetryConfig& config, int retry_number) noexcept {
    const int index = std::max(retry_number, 1) - 1;
    const bool has_delay = config.retry_delay_ms > 0;
    if (!config.schedule_ms.empty() || !has_delay) {
        const auto& schedule = config.schedule_ms.empty() ? default_retry_schedule_ms() : config.schedule_ms;
        const std::size_t last = schedule.size() - 1;
        return std::clamp<std::int64_t>(schedule[std::min<std::size_t>(static_cast<std::size_t>(index), last)], 0,
                                        limits::kRetryDelayMsMax);
    }
    const double factor = std::pow(std::max(config.backoff_multiplier, 1.0), index);
    const double delay_ms = static_cast<double>(config.retry_delay_ms) * factor;
    // An infinite or undefined product is beyond the bound as well.
    return delay_ms < static_cast<double>(limits::kRetryDelayMsMax) ? std::llround(delay_ms) : limits::kRetryDelayMsMax;
}

std::int64_t with_jitter_ms(std::int64_t delay_ms, double random) noexcept {
    const double factor = 1.0 - kJitter + 2.0 * kJitter * std::clamp(random, 0.0, 1.0);
    return std::llround(static_cast<double>(delay_ms) * factor);
}

std::optional<std::int64_t> parse_retry_after_ms(std::string_view value, TimeMs now) noexcept {
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) {
        value.remove_prefix(1);
    }
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) {
        value.remove_suffix(1);
    }
    constexpr std::size_t kValueBytesMax = 64;
    if (value.empty() || value.size() > kValueBytesMax) {
        return std::nullopt;
    }
    if (value.find_first_not_of("0123456789") == std::string_view::npos) {
        std::int64_t seconds = 0;
        for (const char digit : value) {
            seconds = std::min(seconds * 10 + (digit - '0'), limits::kRetryAfterMsMax / kSecondMs);
        }
        return seconds * kSecondMs;
    }
    // Every HTTP date names its month; a bare number with a sign or a point is no date.
    if (value.find(':') == std::string_view::npos) {
        return std::nullopt;
    }
    const time_t date = curl_getdate(std::string(value).c_str(), nullptr);
    if (date == -1) {
        return std::nullopt;
    }
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(date) * kSecondMs - now, 0, limits::kRetryAfterMsMax);
}

RetryDecision decide_retry(const RetryConfig& config, const AttemptResult& result, TimeMs now, double random) {
    constexpr int kGone = 410;
    RetryDecision decision;
    if (!result.has_failed && result.status_code >= 200 && result.status_code <= 299) {
        return decision;
    }
    if (!result.has_failed && result.status_code == kGone) {
        decision.outcome = AttemptOutcome::kDead;
        decision.disable_webhook_reason = "the endpoint answered 410 Gone";
        return decision;
    }
    if (result.number > config.max_retries) {
        decision.outcome = AttemptOutcome::kDead;
        return decision;
    }
    decision.outcome = AttemptOutcome::kRetry;
    decision.delay_ms = with_jitter_ms(retry_delay_ms(config, result.number), random);
    if (const auto at_least_ms = parse_retry_after_ms(result.retry_after, now)) {
        decision.delay_ms = std::max(decision.delay_ms, *at_least_ms);
    }
    return decision;
}

}  // namespace headgate
