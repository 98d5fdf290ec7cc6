// See limit_lease.h.
#include "ngx_module/limit_lease.h"

#include <hiredis/hiredis.h>

#include "common/gcra.h"
#include "common/redis_scripts.h"
#include "ngx_module/limit_headers.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

// Beyond these a request asks for itself, and a lease goes back with the next take.
constexpr std::size_t kWaitersMax = 1024;
constexpr std::size_t kExpiriesMax = 16 * 1024;
constexpr std::int64_t kExpiryMs = kLeaseRules.life_us / 1000 + 1;

using States = std::array<WindowState, limits::kWindowsPerPlanMax>;

RequestCtx* ctx_of(ngx_queue_t* link) noexcept { return ngx_queue_data(link, RequestCtx, limit_wait); }

void unlink(RequestCtx* ctx) noexcept {
    LimitTake* take = std::exchange(ctx->limit_take, nullptr);
    if (ctx->limit_waits) {
        ctx->limit_waits = false;
        ngx_queue_remove(&ctx->limit_wait);
        --take->waiters;
        take->waiting_cost -= ctx->charge->cost;
    }
}

}  // namespace

bool is_noscript(const redisReply* reply) noexcept {
    return reply->type == REDIS_REPLY_ERROR &&
           std::string_view(reply->str, static_cast<std::size_t>(reply->len)).starts_with("NOSCRIPT");
}

bool read_limit_reply(const redisReply* reply, LimitDecision& decision, std::span<WindowState> states) noexcept {
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 + 2 * states.size()) {
        return false;
    }
    for (std::size_t i = 0; i < 2 + 2 * states.size(); ++i) {
        if (reply->element[i]->type != REDIS_REPLY_INTEGER) {
            return false;
        }
    }
    decision = {reply->element[0]->integer, reply->element[1]->integer};
    for (std::size_t i = 0; i < states.size(); ++i) {
        states[i] = {reply->element[2 + 2 * i]->integer, reply->element[3 + 2 * i]->integer};
    }
    return true;
}

Leases::Leases(ZoneShared* shared, RedisService& redis, ngx_log_t* log) noexcept
    : shared_(shared), redis_(redis), expiry_(this, on_expiry, WorkerTimer::OnQuit::kDropped, log) {
    ngx_queue_init(&to_serve_);
    serve_event_.handler = on_serve_event;
    serve_event_.data = this;
    serve_event_.log = log;
}

Leases::~Leases() {
    if (serve_event_.posted) {
        ngx_delete_posted_event(&serve_event_);
    }
}

void Leases::stop() noexcept {
    stopped_ = true;
    serve();
}

LeaseState* Leases::state_of(const ZoneKey& key) noexcept {
    void* found = shared_->cache.find(ZoneKind::kLimit, key);
    return static_cast<LeaseState*>(
        found != nullptr ? found : shared_->cache.insert(ZoneKind::kLimit, key, sizeof(LeaseState)));
}

// ---- asking ---------------------------------------------------------------------------------

LimitTake* Leases::make_take(const LimitCharge& charge, const LeaseTake& lease_take) {
    auto take = std::make_unique<LimitTake>();
    take->leases = this;
    take->zone_key = charge.zone_key;
    take->key = charge.key;
    take->windows = charge.windows;
    take->charge = &charge;
    take->take = lease_take;
    ngx_queue_init(&take->waiting);
    return take.release();
}

LimitTake* Leases::ask_exactly(const LimitCharge& charge) {
    return make_take(charge, {.need = charge.cost, .asked_us = monotonic_us()});
}

LeaseAnswer Leases::spend(RequestCtx* ctx, LimitCharge& charge) {
    const auto& windows = charge.windows->windows();
    LimitTake* under_way = nullptr;
    if (!takes_.empty() && !stopped_) {
        const auto found = takes_.find(charge.zone_key);
        under_way = found == takes_.end() ? nullptr : found->second;
    }
    LeaseAsker asker;
    asker.may_wait = under_way != nullptr && under_way->waiters < kWaitersMax;
    if (serving_ != nullptr && serving_->zone_key == charge.zone_key) {
        asker.waiting = serving_->waiting_cost;
    }
    States states;
    LeaseDecision decision{.take = {.need = charge.cost}};
    const std::int64_t now_us = monotonic_us();
    {
        const ZoneLock lock(shared_->pool);
        if (LeaseState* state = state_of(charge.zone_key); state != nullptr) {
            decision = lease_spend(*state, windows, charge.cost, asker, now_us);
            if (decision.answer == LeaseAnswer::kSpent || decision.answer == LeaseAnswer::kRefused) {
                lease_window_states(*state, windows, now_us, states);
            }
        }
    }
    switch (decision.answer) {
        case LeaseAnswer::kRefused:
            ctx->retry_us = decision.retry_us;
            [[fallthrough]];
        case LeaseAnswer::kSpent:
            add_limit_report(ctx, charge, std::span(states).first(windows.size()));
            break;
        case LeaseAnswer::kWait:
            ctx->limit_take = under_way;
            ctx->limit_waits = true;
            ngx_queue_insert_tail(&under_way->waiting, &ctx->limit_wait);
            ++under_way->waiters;
            under_way->waiting_cost += charge.cost;
            break;
        case LeaseAnswer::kAsk:
            decision.take.asked_us = now_us;
            charge.take = make_take(charge, decision.take);
            charge.take->leased = true;
            charge.take->joinable = !stopped_ && takes_.try_emplace(charge.zone_key, charge.take).second;
            break;
    }
    return decision.answer;
}

bool Leases::charge_local(RequestCtx* ctx, const LimitCharge& charge) noexcept {
    const auto& windows = charge.windows->windows();
    States states{};
    LimitDecision decision{.granted = charge.cost};
    {
        const ZoneLock lock(shared_->pool);
        if (LeaseState* state = state_of(charge.zone_key); state != nullptr) {
            decision = lease_charge_local(*state, windows, charge.cost, monotonic_us(), states);
        }
    }
    ctx->retry_us = decision.retry_us;
    add_limit_report(ctx, charge, std::span(states).first(windows.size()));
    return decision.granted > 0;
}

bool Leases::write(LimitTake* take) {
    return redis_.send_bytes(limit_command(take->key, take->take, *take->windows), take->key, take, on_reply) !=
           nullptr;
}

bool Leases::send(LimitTake* take, RequestCtx* asker, void (*after)(RequestCtx*, void*, bool), void* data) {
    bool sent = false;
    try {
        sent = !stopped_ && write(take);
    } catch (const std::exception&) {
        // No memory: like no connection. Others may wait for this call already.
    }
    if (!sent) {
        give_up(take);
        return false;
    }
    take->asker = asker;
    take->after = after;
    take->data = data;
    asker->limit_take = take;
    return true;
}

// ---- what came of it ------------------------------------------------------------------------

void Leases::on_reply(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* take = static_cast<LimitTake*>(asker);
    Leases& self = *take->leases;
    RequestCtx* ctx = take->asker;
    const bool readable = take->leased || ctx != nullptr;
    bool known = false;
    try {
        if (readable && outcome == RedisOutcome::kReply && is_noscript(reply) && !std::exchange(take->resent, true)) {
            // The script cache was flushed: nothing was charged, so loading and asking again is safe.
            if (self.redis_.load_script(limit_script(), take->key) && self.write(take)) {
                return;
            }
        }
        States states;
        LimitDecision decision;
        if (readable && outcome == RedisOutcome::kReply) {
            const auto window_states = std::span(states).first(take->windows->windows().size());
            known = read_limit_reply(reply, decision, window_states) && self.settle(take, ctx, decision, window_states);
        }
    } catch (const std::exception&) {
        known = false;
    }
    if (ctx != nullptr) {
        unlink(ctx);
    }
    const auto after = take->after;
    void* const data = take->data;
    take->asker = nullptr;
    take->undecided = !known;
    self.give_up(take);  // what settle() has settled stays so
    if (ctx != nullptr) {
        after(ctx, data, known);
    }
}

bool Leases::settle(LimitTake* take, RequestCtx* ctx, LimitDecision decision, std::span<WindowState> states) {
    const auto& windows = take->windows->windows();
    LeaseOutcome outcome = decision.granted > 0 ? LeaseOutcome::kGranted : LeaseOutcome::kRefused;
    if (take->leased) {
        const std::int64_t now_us = monotonic_us();
        const ZoneLock lock(shared_->pool);
        if (LeaseState* state = state_of(take->zone_key); state != nullptr) {
            outcome = lease_on_reply(*state, take->take, decision, states, now_us);
            lease_window_states(*state, windows, now_us, states);
        }
    } else {
        const ZoneLock lock(shared_->pool);
        if (LeaseState* state = state_of(take->zone_key); state != nullptr) {
            lease_remember(*state, states, monotonic_us());  // for the time when Redis is away
        }
    }
    if (take->leased && outcome == LeaseOutcome::kGranted && decision.granted > take->take.need) {
        remember_expiry(*take);
    }
    if (ctx != nullptr && outcome != LeaseOutcome::kLate) {
        ctx->limit_refused = outcome == LeaseOutcome::kRefused;
        ctx->retry_us = decision.retry_us;
        add_limit_report(ctx, *take->charge, states);
    }
    return outcome != LeaseOutcome::kLate;
}

bool Leases::answered(LimitTake* take, RequestCtx* ctx, const LimitCharge& charge, const redisReply* reply) {
    States states;
    LimitDecision decision;
    const auto window_states = std::span(states).first(charge.windows->windows().size());
    const bool known = read_limit_reply(reply, decision, window_states);
    if (known && !settle(take, ctx, decision, window_states)) {
        add_limit_report(ctx, charge, window_states);  // late, but what came with the charge has happened
    }
    give_up(take);
    return known;
}

void Leases::give_up(LimitTake* take) noexcept {
    if (take->leased) {
        const ZoneLock lock(shared_->pool);
        if (void* state = shared_->cache.find(ZoneKind::kLimit, take->zone_key); state != nullptr) {
            lease_on_lost(*static_cast<LeaseState*>(state), take->take);
        }
    }
    retire(take);
}

// Its waiters try again, from the event loop: a request may be ending right now.
void Leases::retire(LimitTake* take) noexcept {
    if (take->joinable) {
        takes_.erase(take->zone_key);
        take->joinable = false;
    }
    if (ngx_queue_empty(&take->waiting)) {
        delete take;
        return;
    }
    ngx_queue_insert_tail(&to_serve_, &take->link);
    if (!serve_event_.posted) {
        ngx_post_event(&serve_event_, &ngx_posted_events);
    }
}

void Leases::serve() noexcept {
    while (!ngx_queue_empty(&to_serve_)) {
        LimitTake* take = ngx_queue_data(ngx_queue_head(&to_serve_), LimitTake, link);
        serving_ = take;
        while (!ngx_queue_empty(&take->waiting)) {
            RequestCtx* ctx = ctx_of(ngx_queue_head(&take->waiting));
            unlink(ctx);
            if (take->undecided && std::exchange(ctx->limit_waited_in_vain, true)) {
                // Were they to ask one after the other, the last would wait for all the replies that come too late.
                ctx->limit_asked = LimitAsked::kUnavailable;
            }
            resume(ctx);
        }
        serving_ = nullptr;
        ngx_queue_remove(&take->link);
        delete take;
    }
}

void Leases::on_serve_event(ngx_event_t* event) noexcept { static_cast<Leases*>(event->data)->serve(); }

void Leases::leave(RequestCtx* ctx) noexcept {
    LimitTake* take = ctx->limit_take;
    if (take == nullptr) {
        return;
    }
    if (take->asker == ctx) {
        take->asker = nullptr;
    }
    unlink(ctx);
}

// ---- what is left of a lease goes back ------------------------------------------------------

void Leases::remember_expiry(const LimitTake& take) {
    if (expiries_.size() == kExpiriesMax) {
        return;
    }
    expiries_.push_back({take.take.asked_us + kLeaseRules.life_us, take.zone_key, take.key, take.windows});
    expiry_.set(static_cast<ngx_msec_t>(kExpiryMs));
}

void Leases::on_expiry(void* self) noexcept { static_cast<Leases*>(self)->expire(); }

void Leases::expire() noexcept {
    const std::int64_t now_us = monotonic_us();
    while (!expiries_.empty() && expiries_.front().due_us < now_us) {
        const Expiry expiry = std::move(expiries_.front());
        expiries_.pop_front();
        LeaseTake take;
        {
            const ZoneLock lock(shared_->pool);
            if (void* state = shared_->cache.find(ZoneKind::kLimit, expiry.zone_key); state != nullptr) {
                take = lease_due_return(*static_cast<LeaseState*>(state), expiry.windows->windows(), now_us);
            }
        }
        if (take.ret == 0 || !redis_.ready()) {
            continue;
        }
        try {
            (void)redis_.send_bytes(limit_command(expiry.key, take, *expiry.windows), expiry.key, nullptr, nullptr);
        } catch (const std::exception&) {
            continue;  // it stays charged
        }
    }
    if (!expiries_.empty()) {
        const std::int64_t left_ms = (expiries_.front().due_us - now_us) / 1000 + 1;
        expiry_.set(static_cast<ngx_msec_t>(left_ms));
    }
}

}  // namespace headgate::edge
