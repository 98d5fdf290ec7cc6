// Stage 2, what the client is told of its limits.
#pragma once

#include <span>

#include "common/gcra.h"
#include "common/limits.h"
#include "ngx_module/limit_windows.h"
#include "ngx_module/ngx.h"

namespace headgate::edge {

struct LimitCharge;
struct RequestCtx;

// One limiter's windows and what is left of them. In the request's pool.
struct LimitReport {
    LimitReport* next = nullptr;
    const LimitCharge* charge = nullptr;  // of the same pool
    bool shown = true;                    // in headers
    WindowState states[limits::kWindowsPerPlanMax];
};

// `charge` is in the request's pool. A batch charges its buckets twice: the later state replaces the earlier. Without
// memory there is no report.
void add_limit_report(RequestCtx* ctx, const LimitCharge& charge, std::span<const WindowState> states) noexcept;

struct TightestWindow {
    std::int64_t quota = 0, free = 0, reset_seconds = 0;
};
// Of all reports that are shown, or of all: the window with the smallest share left. False when there is none.
[[nodiscard]] bool find_tightest(const RequestCtx* ctx, bool shown_only, TightestWindow& tightest) noexcept;

// Puts RateLimit-Policy, RateLimit and X-RateLimit-* on every response of a limited request, proxied
// ones included, in place of any from upstream. The module's header filter.
void add_limit_headers(ngx_http_request_t* r, const RequestCtx* ctx) noexcept;

}  // namespace headgate::edge
