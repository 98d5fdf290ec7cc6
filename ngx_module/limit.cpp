// See limit.h.
#include "ngx_module/limit.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <charconv>

#include "common/event_record.h"
#include "common/hmac.h"
#include "common/problem.h"
#include "ngx_module/respond.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

constexpr std::string_view kPlanBucket = "plan";

// Bytes that could be taken for a hash tag, a separator or RESP's line ends are %-encoded, so that no value a
// client chooses reaches another's bucket or another slot. Long values are hashed.
std::string encode_key_value(std::string_view value) {
    if (value.size() > limits::kLimitKeyBytesMax) {
        return "sha256-" + hex_encode(sha256(value));
    }
    static constexpr char kHex[] = "0123456789ABCDEF";
    std::string out;
    for (const char c : value) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
            byte == '.' || byte == '-' || byte == '_' || byte == '~') {
            out.push_back(c);
        } else {
            out.append({'%', kHex[byte >> 4], kHex[byte & 15]});
        }
    }
    return out;
}

std::string principal_key(const Principal& principal) {
    if (principal.key_id.len != 0) {
        return "p:" + encode_key_value(view(principal.key_id));
    }
    return "s:" + hex_encode(sha256(std::string(view(principal.iss)) + '\0', view(principal.sub)));
}

// The windows that a plan limiter applies: the key's own limits, else its plan, else the default.
bool plan_windows(ngx_http_request_t* r, const RequestCtx* ctx, const LimitConf& conf,
                  std::vector<RateWindow>& windows) {
    if (ctx->principal.limits.len != 0) {
        auto parsed = parse_rate_plan(view(ctx->principal.limits));
        if (!parsed) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "headgate: key %V has limits that do not parse",
                          &ctx->principal.key_id);
            return false;
        }
        windows = std::move(*parsed);
        return true;
    }
    const RatePlan* plan = main_conf(r)->find_plan(view(ctx->principal.plan));
    if (plan == nullptr) {
        plan = conf.default_plan;
    }
    if (plan == nullptr) {
        return false;
    }
    windows = plan->windows;
    return true;
}

// cost=$var: 1 to burst. What is no number counts as 1 and is logged.
std::int64_t request_cost(ngx_http_request_t* r, const LimitConf& conf) {
    ngx_str_t text;
    if (conf.cost == nullptr || ngx_http_complex_value(r, conf.cost, &text) != NGX_OK) {
        return 1;
    }
    std::int64_t cost = 0;
    const std::string_view digits = view(text);
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), cost);
    if (parsed.ec == std::errc() && parsed.ptr == digits.data() + digits.size() && cost >= 1) {
        return cost;
    }
    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                  "headgate: limit cost \"%V\" is no positive number: 1 is charged", &text);
    return 1;
}

bool already_charged(const RequestCtx* ctx, const LimitConf* conf) noexcept {
    const auto* end = ctx->charged + ctx->charged_count;
    return std::find(ctx->charged, end, conf) != end;
}

// A charge in the pool while its reply is under way.
struct PendingCharge {
    RequestCtx* ctx;
    const LimitCharge* charge;  // of the same pool
    void (*after)(RequestCtx* ctx, void* data, bool known);
    void* data;
    bool resent = false;
};

void on_charge_reply(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept;

bool send_charge(PendingCharge* pending) {
    RedisService& redis = current_worker(pending->ctx->r).limits();
    pending->ctx->pending[0] =
        redis.send_bytes(charge_command(*pending->charge), pending->charge->key, pending, on_charge_reply);
    return pending->ctx->pending[0] != nullptr;
}

void on_charge_reply(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* pending = static_cast<PendingCharge*>(asker);
    RequestCtx* ctx = pending->ctx;
    ctx->pending[0] = nullptr;
    bool known = false;
    try {
        if (outcome == RedisOutcome::kReply && is_noscript(reply) && !std::exchange(pending->resent, true)) {
            // The script cache was flushed: nothing was charged, so loading and asking again is safe.
            RedisService& redis = current_worker(ctx->r).limits();
            if (redis.load_script(limit_script(), pending->charge->key) && send_charge(pending)) {
                return;
            }
        }
        known = outcome == RedisOutcome::kReply && read_charge_reply(ctx, *pending->charge, reply);
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, ctx->r->connection->log, 0, "headgate: %s", e.what());
    }
    pending->after(ctx, pending->data, known);
}

void after_charge(RequestCtx* ctx, void*, bool known) noexcept {
    ctx->limit_unavailable = !known;
    resume(ctx);
}

}  // namespace

ChargeKind make_charge(ngx_http_request_t* r, const RequestCtx* ctx, const LimitConf& conf, LimitCharge& charge) {
    charge.name = conf.name;
    if (conf.by_plan) {
        charge.name = kPlanBucket;
        if (!plan_windows(r, ctx, conf, charge.windows)) {
            return ChargeKind::kForbidden;
        }
    } else {
        charge.windows = conf.windows;
    }
    if (conf.key != nullptr) {
        ngx_str_t value;
        if (ngx_http_complex_value(r, conf.key, &value) != NGX_OK) {
            value.len = 0;
        }
        if (value.len == 0) {
            return conf.deny_empty ? ChargeKind::kForbidden : ChargeKind::kBypass;
        }
        charge.key =
            limit_key(kDefaultKeyPrefix, "v:" + encode_key_value(conf.name) + ":" + encode_key_value(view(value)));
    } else {
        charge.key = limit_key(kDefaultKeyPrefix, principal_key(ctx->principal));
    }
    charge.cost = request_cost(r, conf);
    for (const RateWindow& window : charge.windows) {
        if (charge.cost > window.burst) {
            return ChargeKind::kTooExpensive;
        }
    }
    return ChargeKind::kCharge;
}

std::size_t charge_arguments(const LimitCharge& charge) noexcept { return 5 + 4 * charge.windows.size(); }

void write_charge_arguments(RespWriter& writer, const LimitCharge& charge) {
    writer.bulk(charge.cost).bulk("0").bulk("0").bulk("0");
    write_charge_windows(writer, charge);
}

void write_charge_windows(RespWriter& writer, const LimitCharge& charge) {
    writer.bulk(static_cast<long long>(charge.windows.size()));
    for (const RateWindow& window : charge.windows) {
        writer.bulk(charge.name + ":" + window_unit(window));
        writer.bulk(window.period_us).bulk(window.quota).bulk(window.burst);
    }
}

std::string charge_command(const LimitCharge& charge) {
    std::string command;
    RespWriter writer(command);
    writer.array(4 + charge_arguments(charge));
    writer.bulk("EVALSHA").bulk(limit_script_sha1()).bulk("1").bulk(charge.key);
    write_charge_arguments(writer, charge);
    return command;
}

bool is_noscript(const redisReply* reply) noexcept {
    return reply->type == REDIS_REPLY_ERROR &&
           std::string_view(reply->str, static_cast<std::size_t>(reply->len)).starts_with("NOSCRIPT");
}

bool read_charge_reply(RequestCtx* ctx, const LimitCharge& charge, const redisReply* reply) {
    const std::size_t windows = charge.windows.size();
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 + 2 * windows) {
        return false;
    }
    for (std::size_t i = 0; i < 2 + 2 * windows; ++i) {
        if (reply->element[i]->type != REDIS_REPLY_INTEGER) {
            return false;
        }
    }
    if (reply->element[0]->integer == 0) {
        ctx->limit_refused = true;
        ctx->limit_status = LimitStatus::kRejected;
        ctx->retry_us = reply->element[1]->integer;
    } else if (ctx->limit_status != LimitStatus::kRejected) {
        ctx->limit_status = LimitStatus::kPassed;
    }
    std::vector<WindowState> states(windows);
    for (std::size_t i = 0; i < windows; ++i) {
        states[i] = {reply->element[2 + 2 * i]->integer, reply->element[3 + 2 * i]->integer};
    }
    std::string policy;
    std::string remaining;
    append_ratelimit_policy(policy, charge.windows);
    append_ratelimit(remaining, charge.windows, states);
    // A batch charges its buckets twice: the later state replaces the earlier.
    LimitReport* end = ctx->reports + ctx->report_count;
    LimitReport* found = std::find_if(ctx->reports, end, [&](const LimitReport& report) {
        return report.charge->key == charge.key && report.charge->name == charge.name && view(report.policy) == policy;
    });
    if (found == ctx->reports + kReportsMax) {
        return true;
    }
    ctx->report_count += found == end ? 1 : 0;
    LimitReport& report = *found;
    report.charge = &charge;
    report.policy = copy_to_pool(ctx->r->pool, policy);
    report.remaining = copy_to_pool(ctx->r->pool, remaining);
    const std::size_t tightest = tightest_window(charge.windows, states);
    report.quota = charge.windows[tightest].quota;
    report.free = states[tightest].free;
    report.reset_seconds = ceil_seconds(states[tightest].full_us);
    return true;
}

bool start_charge(RequestCtx* ctx, const LimitCharge* charge, void (*after)(RequestCtx* ctx, void* data, bool known),
                  void* data) {
    auto* pending = make_in_pool<PendingCharge>(ctx->r->pool, PendingCharge{ctx, charge, after, data});
    if (pending == nullptr || !send_charge(pending)) {
        return false;
    }
    suspend(ctx->r);
    return true;
}

ngx_int_t respond_limited(ngx_http_request_t* r, RequestCtx* ctx) {
    count(current_worker(r).counters().limited);
    ctx->limit_answered = true;
    if (ctx->retry_us >= 0) {
        add_header(r, "Retry-After", std::to_string(std::max<std::int64_t>(1, ceil_seconds(ctx->retry_us))));
    }
    return respond_problem(r, {NGX_HTTP_TOO_MANY_REQUESTS, "The request quota is exceeded", kQuotaExceededType});
}

ngx_int_t limit(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf, bool may_fuse) {
    if (ctx->waiting()) {
        return NGX_AGAIN;
    }
    if (ctx->limit_answered) {
        return NGX_DECLINED;  // this is the error_page of what a limiter has answered already
    }
    if (ctx->limit_refused) {
        return end_in_phase(r, respond_limited(r, ctx));
    }
    if (ctx->limit_unavailable) {
        ctx->limit_answered = true;
        return end_in_phase(r, respond_unavailable(r, "Rate limits cannot be checked now"));
    }
    const auto& limiters = *conf->limits.list;
    while (ctx->limit_index < limiters.size()) {
        const LimitConf& limiter = *limiters[ctx->limit_index];
        const bool is_last = ++ctx->limit_index == limiters.size();
        if (already_charged(ctx, &limiter)) {
            continue;
        }
        auto* charge = make_in_pool<LimitCharge>(r->pool);
        if (charge == nullptr || ctx->charged_count == kReportsMax) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
        ctx->charged[ctx->charged_count++] = &limiter;
        switch (make_charge(r, ctx, limiter, *charge)) {
            case ChargeKind::kBypass:
                ctx->limit_status = LimitStatus::kBypassed;
                continue;
            case ChargeKind::kForbidden:
                ctx->limit_answered = true;
                return end_in_phase(r, respond_problem(r, {NGX_HTTP_FORBIDDEN, "No rate plan applies to this caller"}));
            case ChargeKind::kTooExpensive:
                ctx->limit_status = LimitStatus::kRejected;
                ctx->retry_us = -1;
                return end_in_phase(r, respond_limited(r, ctx));
            case ChargeKind::kCharge:
                break;
        }
        if (is_last && may_fuse) {
            ctx->fused = charge;
            break;
        }
        if (!start_charge(ctx, charge, after_charge, nullptr)) {
            ctx->limit_answered = true;
            return end_in_phase(r, respond_unavailable(r, "Rate limits cannot be checked now"));
        }
        return NGX_AGAIN;
    }
    ctx->limit_index = 0;  // an internal redirect may lead to a location with limiters of its own
    return NGX_DECLINED;
}

}  // namespace headgate::edge
