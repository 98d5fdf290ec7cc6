// See limit_windows.h.
#include "ngx_module/limit_windows.h"

#include <algorithm>

#include "common/gcra.h"
#include "common/hmac.h"
#include "common/resp.h"

namespace headgate::edge {

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
    std::copy_n(digest.begin(), digest_.size(), digest_.begin());
}

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
