// See limit.h.
#include "ngx_module/limit.h"

#include <algorithm>

#include "common/problem.h"
#include "ngx_module/limit_headers.h"
#include "ngx_module/limit_lease.h"
#include "ngx_module/respond.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

enum class Verdict : std::uint8_t { kPassed, kRefused, kUnavailable, kWaits, kFused };

bool already_charged(const RequestCtx* ctx, const LimitConf* conf) noexcept {
    const auto* end = ctx->charged + ctx->charged_count;
    return std::find(ctx->charged, end, conf) != end;
}

void after_charge(RequestCtx* ctx, void*, bool known) noexcept {
    ctx->limit_asked = known ? LimitAsked::kDecided : LimitAsked::kUnavailable;
    resume(ctx);
}

// Asks whoever decides. What was asked before the request was suspended is in ctx by now.
Verdict decide(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf, LimitCharge* charge, bool may_fuse) {
    switch (std::exchange(ctx->limit_asked, LimitAsked::kNo)) {
        case LimitAsked::kNo:
            break;
        case LimitAsked::kDecided:
            return ctx->limit_refused ? Verdict::kRefused : Verdict::kPassed;
        case LimitAsked::kUnavailable:
            return Verdict::kUnavailable;
    }
    Leases& leases = current_worker(r).leases();
    LimitTake* take = nullptr;
    if (conf->limits.mode == static_cast<ngx_uint_t>(LimitMode::kLease) && !charge->passing) {
        switch (leases.spend(ctx, *charge)) {
            case LeaseAnswer::kSpent:
                return Verdict::kPassed;
            case LeaseAnswer::kRefused:
                return Verdict::kRefused;
            case LeaseAnswer::kWait:
                suspend(r);
                return Verdict::kWaits;
            case LeaseAnswer::kAsk:
                take = std::exchange(charge->take, nullptr);
                break;
        }
    }
    if (may_fuse) {
        charge->take = take;
        ctx->fused = charge;
        return Verdict::kFused;
    }
    if (!leases.send(take != nullptr ? take : leases.ask_exactly(*charge), ctx, after_charge, nullptr)) {
        return Verdict::kUnavailable;
    }
    suspend(r);
    return Verdict::kWaits;
}

// Redis is away: nobody decides, so this host does.
Verdict decide_without_redis(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf, const LimitCharge& charge,
                             bool& bypassed) {
    switch (static_cast<LimitOnError>(conf->limits.on_error)) {
        case LimitOnError::kLocal:
            return current_worker(r).leases().charge_local(ctx, charge) ? Verdict::kPassed : Verdict::kRefused;
        case LimitOnError::kAllow:
            bypassed = true;
            return Verdict::kPassed;
        case LimitOnError::kDeny:
            break;
    }
    return Verdict::kUnavailable;
}

// A limiter that has passed does not hide that another was refused or bypassed nothing.
void set_status(RequestCtx* ctx, LimitStatus status) noexcept {
    if (ctx->limit_status != LimitStatus::kDryRun &&
        (status != LimitStatus::kBypassed || ctx->limit_status == LimitStatus::kNone)) {
        ctx->limit_status = status;
    }
}

// NGX_DECLINED: the next limiter, please.
ngx_int_t refuse(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf) {
    if (conf->limits.dry_run) {
        ctx->limit_status = LimitStatus::kDryRun;
        ctx->limit_refused = false;
        return NGX_DECLINED;
    }
    return end_in_phase(r, respond_limited(r, ctx));
}

ngx_int_t run_charge(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf, bool may_fuse) {
    LimitCharge* charge = ctx->charge;
    bool bypassed = false;
    Verdict verdict = decide(r, ctx, conf, charge, may_fuse);
    if (verdict == Verdict::kUnavailable) {
        verdict = decide_without_redis(r, ctx, conf, *charge, bypassed);
    }
    if (verdict == Verdict::kWaits) {
        return NGX_AGAIN;
    }
    ctx->charge = nullptr;
    switch (verdict) {
        case Verdict::kRefused:
            return refuse(r, ctx, conf);
        case Verdict::kUnavailable:
            ctx->limit_answered = true;
            return end_in_phase(r, respond_unavailable(r, "Rate limits cannot be checked now"));
        case Verdict::kPassed:
            set_status(ctx, bypassed ? LimitStatus::kBypassed : LimitStatus::kPassed);
            break;
        default:
            break;
    }
    return NGX_DECLINED;
}

}  // namespace

bool start_charge(RequestCtx* ctx, LimitCharge* charge, void (*after)(RequestCtx* ctx, void* data, bool known),
                  void* data) {
    Leases& leases = current_worker(ctx->r).leases();
    LimitTake* take = charge->take != nullptr ? std::exchange(charge->take, nullptr) : leases.ask_exactly(*charge);
    ctx->fused = nullptr;
    if (!leases.send(take, ctx, after, data)) {
        return false;
    }
    suspend(ctx->r);
    return true;
}

bool read_charge_reply(RequestCtx* ctx, LimitCharge& charge, const redisReply* reply) {
    Leases& leases = current_worker(ctx->r).leases();
    LimitTake* take = charge.take != nullptr ? std::exchange(charge.take, nullptr) : leases.ask_exactly(charge);
    if (!leases.answered(take, ctx, charge, reply)) {
        return false;
    }
    if (!ctx->limit_refused) {
        set_status(ctx, LimitStatus::kPassed);
    }
    return true;
}

void give_up_charge(RequestCtx* ctx) noexcept {
    if (ctx->fused != nullptr && ctx->fused->take != nullptr) {
        current_worker(ctx->r).leases().give_up(std::exchange(ctx->fused->take, nullptr));
    }
}

ngx_int_t respond_limited(ngx_http_request_t* r, RequestCtx* ctx) {
    count(current_worker(r).counters().limited);
    ctx->limit_status = LimitStatus::kRejected;
    ctx->limit_answered = true;
    if (ctx->retry_us >= 0) {
        add_header(r, "Retry-After", std::to_string(std::max<std::int64_t>(1, ceil_seconds(ctx->retry_us))));
    }
    return respond_problem(r, {loc_conf(r)->limits.status, "The request quota is exceeded", kQuotaExceededType});
}

ngx_int_t limit(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf, bool may_fuse) {
    if (ctx->waiting()) {
        return NGX_AGAIN;
    }
    if (ctx->limit_answered) {
        return NGX_DECLINED;  // this is the error_page of what a limiter has answered already
    }
    const auto& limiters = *conf->limits.list;
    for (;;) {
        if (ctx->charge != nullptr) {
            // A refusal that does not count cannot keep an event from being stored in the same call.
            const bool is_last = ctx->limit_index == limiters.size();
            if (const ngx_int_t rc = run_charge(r, ctx, conf, may_fuse && is_last && !conf->limits.dry_run);
                rc != NGX_DECLINED) {
                return rc;
            }
        }
        if (ctx->limit_index == limiters.size()) {
            break;
        }
        const LimitConf& limiter = *limiters[ctx->limit_index++];
        if (already_charged(ctx, &limiter)) {
            continue;
        }
        auto* charge = make_in_pool<LimitCharge>(r->pool);
        if (charge == nullptr || ctx->charged_count == kChargedMax) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
        ctx->charged[ctx->charged_count++] = &limiter;
        switch (make_charge(r, ctx, limiter, *charge)) {
            case ChargeKind::kBypass:
                set_status(ctx, LimitStatus::kBypassed);
                break;
            case ChargeKind::kForbidden:
                ctx->limit_answered = true;
                return end_in_phase(r, respond_problem(r, {NGX_HTTP_FORBIDDEN, "No rate plan applies to this caller"}));
            case ChargeKind::kTooExpensive:
                ctx->retry_us = -1;
                if (const ngx_int_t rc = refuse(r, ctx, conf); rc != NGX_DECLINED) {
                    return rc;
                }
                break;
            case ChargeKind::kCharge:
                ctx->charge = charge;
                break;
        }
    }
    ctx->limit_index = 0;  // an internal redirect may lead to a location with limiters of its own
    return NGX_DECLINED;
}

}  // namespace headgate::edge
