// See limit_rest.h.
#include "ngx_module/limit_rest.h"

#include <algorithm>

#include "common/gcra.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

// In the request's pool while one limiter after the other is asked.
struct PendingRest {
    RequestCtx* ctx;
    std::int64_t events;
    void (*after)(RequestCtx* ctx, void* data, RestOutcome outcome);
    void* data;
    std::int64_t begun_us;
    std::size_t next = 0;            // of the location's limiters
    LimitCharge* current = nullptr;  // that Redis decides about
    std::int64_t first_cost = 0;     // of one event, by that limiter
    const LimitCharge* charged[kLimitersMax] = {};
    std::size_t charged_count = 0;
};
static_assert(std::is_trivially_destructible_v<PendingRest>);

// Nobody waits for the reply: a return that is lost costs the caller units, and grants nothing.
void give_back(PendingRest* rest) {
    // Counted from before the charge was queued: a return may look older than it is, never younger.
    const std::int64_t age_us = monotonic_us() - rest->begun_us;
    for (std::size_t i = 0; i < rest->charged_count; ++i) {
        const LimitCharge& charge = *rest->charged[i];
        (void)current_worker(rest->ctx->r)
            .limits()
            .send_bytes(limit_command(charge.key, {.ret = charge.cost, .ret_age_us = age_us}, *charge.windows),
                        charge.key, nullptr, nullptr);
    }
}

void refuse_forever(RequestCtx* ctx) noexcept {
    ctx->limit_refused = true;
    ctx->limit_status = LimitStatus::kRejected;
    ctx->retry_us = -1;
}

// The next limiter's charge; nullptr when there is none, or when it can never be granted.
LimitCharge* next_charge(PendingRest* rest) {
    RequestCtx* ctx = rest->ctx;
    const auto& limiters = *loc_conf(ctx->r)->limits.list;
    while (rest->next < limiters.size()) {
        auto* charge = make_in_pool<LimitCharge>(ctx->r->pool);
        if (charge == nullptr) {
            throw std::bad_alloc();
        }
        const ChargeKind kind = make_charge(ctx->r, ctx, *limiters[rest->next++], *charge);
        if (kind == ChargeKind::kBypass) {
            continue;
        }
        if (kind == ChargeKind::kCharge) {
            // Together with the first event, or the batch sent again would be refused again.
            rest->first_cost = charge->cost;
            charge->cost *= rest->events;
            if (charge->cost + rest->first_cost <= charge->windows->burst_min()) {
                return charge;
            }
        }
        if (loc_conf(ctx->r)->limits.dry_run) {
            ctx->limit_status = LimitStatus::kDryRun;
            continue;
        }
        refuse_forever(ctx);
        return nullptr;
    }
    return nullptr;
}

void after_one(RequestCtx* ctx, void* data, bool known) noexcept;

std::optional<RestOutcome> advance(PendingRest* rest) {
    rest->current = next_charge(rest);
    if (rest->current == nullptr) {
        return rest->ctx->limit_refused ? RestOutcome::kRefused : RestOutcome::kGranted;
    }
    if (!start_charge(rest->ctx, rest->current, after_one, rest)) {
        return RestOutcome::kUnavailable;
    }
    return std::nullopt;
}

// Whoever sends the batch again is charged for its first event once more, and then for these: all must fit.
void wait_for_first(RequestCtx* ctx, const PendingRest& rest) noexcept {
    std::int64_t first_us = 0;
    for (const RateWindow& window : rest.current->windows->windows()) {
        first_us = std::max(first_us, gcra_cost_us(window, rest.first_cost));
    }
    ctx->retry_us += ctx->retry_us >= 0 ? first_us : 0;
}

std::optional<RestOutcome> conclude(PendingRest* rest, std::optional<RestOutcome> outcome) {
    if (outcome && *outcome != RestOutcome::kGranted) {
        give_back(rest);
    }
    return outcome;
}

void after_one(RequestCtx* ctx, void* data, bool known) noexcept {
    auto* rest = static_cast<PendingRest*>(data);
    std::optional<RestOutcome> outcome = RestOutcome::kUnavailable;
    try {
        if (known && std::exchange(ctx->limit_refused, false)) {
            if (loc_conf(ctx->r)->limits.dry_run) {
                ctx->limit_status = LimitStatus::kDryRun;
                outcome = advance(rest);
            } else {
                ctx->limit_refused = true;
                wait_for_first(ctx, *rest);
                outcome = RestOutcome::kRefused;
            }
        } else if (known) {
            rest->charged[rest->charged_count++] = rest->current;
            outcome = advance(rest);
        }
        outcome = conclude(rest, outcome);
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, ctx->r->connection->log, 0, "headgate: %s", e.what());
    }
    if (outcome) {
        rest->after(ctx, rest->data, *outcome);
    }
}

}  // namespace

std::optional<RestOutcome> charge_rest(RequestCtx* ctx, std::int64_t events,
                                       void (*after)(RequestCtx* ctx, void* data, RestOutcome outcome), void* data) {
    if (events < 1 || !loc_conf(ctx->r)->limits.any()) {
        return RestOutcome::kGranted;
    }
    auto* rest = make_in_pool<PendingRest>(ctx->r->pool, PendingRest{ctx, events, after, data, monotonic_us()});
    if (rest == nullptr) {
        throw std::bad_alloc();
    }
    return conclude(rest, advance(rest));
}

}  // namespace headgate::edge
