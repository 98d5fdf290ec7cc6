// See limit_windows.h.
#include "ngx_module/limit_windows.h"

#include <algorithm>

#include "common/gcra.h"
#include "common/hmac.h"
#include "common/resp.h"

namespace headgate::edge {

namespace {

// How much of the windows' digest goes before the key: key and digest together still fit SHA-256's first block.
constexpr std::size_t kDigestBytes = 12;

}  // namespace

LimitWindows::LimitWindows(std::string_view bucket_name, std::vector<RateWindow> windows)
    : windows_(std::move(windows)),
      burst_min_(std::min_element(windows_.begin(), windows_.end(), [](const RateWindow& a, const RateWindow& b) {
                     return a.burst < b.burst;
                 })->burst) {
    RespWriter writer(arguments_);
    writer.bulk(static_cast<long long>(windows_.size()));
    for (const RateWindow& window : windows_) {
        std::string field(bucket_name);
        writer.bulk(field.append(":") += window_unit(window));
        writer.bulk(window.period_us).bulk(window.quota).bulk(window.burst);
    }
    append_ratelimit_policy(policy_, windows_);
    const auto digest = sha256(arguments_);
    digest_.assign(reinterpret_cast<const char*>(digest.data()), kDigestBytes);
}

ZoneKey LimitWindows::zone_key(std::string_view key) const noexcept { return sha256(digest_, key); }

const LimitWindows* LimitTexts::find(std::string_view text, std::unique_ptr<LimitWindows>& spare) {
    scratch_.assign(text);
    if (const auto found = texts_.find(scratch_); found != texts_.end()) {
        return found->second.get();
    }
    auto parsed = parse_rate_plan(text);
    if (!parsed) {
        return nullptr;
    }
    auto windows = std::make_unique<LimitWindows>(kPlanBucket, std::move(*parsed));
    const LimitWindows* found = windows.get();
    (texts_.size() < kTextsMax ? texts_[scratch_] : spare) = std::move(windows);
    return found;
}

}  // namespace headgate::edge
