// See limit_headers.h. The values are written into one piece of the pool: this runs for every limited response.
#include "ngx_module/limit_headers.h"

#include <algorithm>
#include <charconv>

#include "ngx_module/conf.h"
#include "ngx_module/limit_charge.h"
#include "ngx_module/request_ctx.h"
#include "ngx_module/respond.h"

namespace headgate::edge {

namespace {

enum HeaderName : std::size_t { kPolicy, kLimit, kQuota, kRemaining, kReset, kHeaderNames };
constexpr std::string_view kNames[kHeaderNames] = {"RateLimit-Policy", "RateLimit", "X-RateLimit-Limit",
                                                   "X-RateLimit-Remaining", "X-RateLimit-Reset"};
constexpr std::size_t kNumberBytesMax = 20;

char* append(char* out, std::int64_t number) noexcept { return std::to_chars(out, out + kNumberBytesMax, number).ptr; }

bool is_ours(const ngx_str_t& name) noexcept {
    switch (name.len) {
        case 9:
        case 16:
        case 17:
        case 21:
            break;
        default:
            return false;
    }
    const u_char first = name.data[0] | 0x20;
    return (first == 'r' || first == 'x') &&
           std::any_of(std::begin(kNames), std::end(kNames), [&name](std::string_view own) {
               return name.len == own.size() && ngx_strncasecmp(name.data, bytes_of(own), name.len) == 0;
           });
}

void remove_headers_of_upstream(ngx_http_request_t* r) noexcept {
    for_each_header(r->headers_out.headers, [](ngx_table_elt_t& header) {
        if (is_ours(header.key)) {
            header.hash = 0;
        }
    });
}

}  // namespace

void add_limit_report(RequestCtx* ctx, const LimitCharge& charge, std::span<const WindowState> states) noexcept {
    LimitReport** place = &ctx->reports;
    while (*place != nullptr && ((*place)->charge->windows != charge.windows || (*place)->charge->key != charge.key)) {
        place = &(*place)->next;
    }
    if (*place == nullptr) {
        auto* report = static_cast<LimitReport*>(ngx_palloc(ctx->r->pool, sizeof(LimitReport)));
        if (report == nullptr) {
            return;
        }
        report->next = nullptr;
        *place = report;
    }
    (*place)->charge = &charge;
    (*place)->shown = loc_conf(ctx->r)->limits.headers != 0;
    std::copy(states.begin(), states.end(), (*place)->states);
}

bool find_tightest(const RequestCtx* ctx, bool shown_only, TightestWindow& tightest) noexcept {
    bool found = false;
    for (const LimitReport* report = ctx->reports; report != nullptr; report = report->next) {
        if (shown_only && !report->shown) {
            continue;
        }
        const auto& windows = report->charge->windows->windows();
        const std::size_t i = tightest_window(windows, std::span(report->states).first(windows.size()));
        // free_a / quota_a < free_b / quota_b, without a division
        if (!found || report->states[i].free * tightest.quota < tightest.free * windows[i].quota) {
            tightest = {windows[i].quota, report->states[i].free, ceil_seconds(report->states[i].full_us)};
            found = true;
        }
    }
    return found;
}

void add_limit_headers(ngx_http_request_t* r, const RequestCtx* ctx) noexcept {
    TightestWindow tightest;
    if (!find_tightest(ctx, true, tightest)) {
        return;
    }
    std::size_t bytes_max = 3 * kNumberBytesMax;
    for (const LimitReport* report = ctx->reports; report != nullptr; report = report->next) {
        bytes_max += report->charge->windows->windows().size() * kRatelimitWindowBytesMax;
    }
    char* at = static_cast<char*>(ngx_pnalloc(r->pool, bytes_max));
    if (at == nullptr) {
        return;
    }
    remove_headers_of_upstream(r);
    const auto push_since = [r, &at](HeaderName name, char* end) {
        push_header(r, kNames[name], {at, static_cast<std::size_t>(end - at)});
        at = end;
    };
    for (const LimitReport* report = ctx->reports; report != nullptr; report = report->next) {
        if (report->shown) {
            push_header(r, kNames[kPolicy], report->charge->windows->policy());
            push_since(kLimit, write_ratelimit(at, report->charge->windows->windows(), report->states));
        }
    }
    push_since(kQuota, append(at, tightest.quota));
    push_since(kRemaining, append(at, tightest.free));
    push_since(kReset, append(at, tightest.reset_seconds));
}

}  // namespace headgate::edge
