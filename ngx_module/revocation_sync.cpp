// See revocation_sync.h.
#include "ngx_module/revocation_sync.h"

#include <array>
#include <cmath>
#include <cstdlib>

#include "common/event_record.h"
#include "common/resp.h"
#include "ngx_module/redis_reply.h"

namespace headgate::edge {

namespace {

constexpr long long kPageMembers = 500;      // at most some 200 bytes each: far below the bound of a reply
constexpr std::size_t kPagesMax = 100'000;   // a cursor that never comes back to 0 is not followed for ever
constexpr std::size_t kMembersPerLock = 64;  // requests wait for the lock in the meantime
constexpr std::size_t kSlotsPerLock = 4096;
constexpr ngx_msec_t kPollMs = 10;

std::int64_t schedule_now() noexcept { return static_cast<std::int64_t>(ngx_current_msec); }

// A score, in ms; what is none, or is beyond all time, never ends.
std::int64_t until_of(const redisReply* score) noexcept {
    const double value = score->type == REDIS_REPLY_STRING ? std::strtod(score->str, nullptr) : HUGE_VAL;
    return value < 9e15 && value > -9e15 ? static_cast<std::int64_t>(value) : INT64_MAX;
}

}  // namespace

RevocationSync::RevocationSync(RedisService& keys, ZoneShared& shared, ngx_msec_t first_wait_ms,
                               ngx_log_t* log) noexcept
    : keys_(keys),
      shared_(shared),
      first_wait_ms_(first_wait_ms),
      log_(log),
      poll_(this, on_poll, WorkerTimer::OnQuit::kAwaited, log) {
    ngx_queue_init(&waiting_);
}

RevocationSync::~RevocationSync() { stop(); }

void RevocationSync::start() noexcept {
    started_ms_ = ngx_current_msec;
    running_ = true;
    tick();
}

void RevocationSync::stop() noexcept {
    running_ = false;
    wake();
}

void RevocationSync::tick() noexcept {
    if (!running_ || busy_) {
        return;
    }
    complain();
    {
        ZoneLock lock(shared_.pool);
        AuthShared& auth = shared_.auth;
        if (!auth.schedule.claim(schedule_now())) {
            return;
        }
        round_ = auth.schedule.round;
        withdrawals_before_ = auth.withdrawals;
        auth.left_out_again = false;
        auth.left_out_with_time_again = false;
    }
    busy_ = true;
    pages_ = 0;
    ask_meta(on_meta_before);
}

void RevocationSync::ask_meta(void (*done)(void* self, RedisOutcome outcome, const redisReply* reply)) noexcept {
    try {
        const std::string key = meta_key(kDefaultKeyPrefix);
        std::string command;
        RespWriter(command).command("HMGET", key, "projected");
        if (keys_.send_bytes(std::move(command), key, this, done) == nullptr) {
            fail("Redis is away");
        }
    } catch (const std::exception& e) {
        fail(e.what());
    }
}

void RevocationSync::ask_page(std::string_view cursor) noexcept {
    try {
        const std::string key = revoked_key(kDefaultKeyPrefix);
        std::string command;
        RespWriter(command).command("ZSCAN", key, cursor, "COUNT", kPageMembers);
        if (keys_.send_bytes(std::move(command), key, this, on_page) == nullptr) {
            fail("Redis is away");
        }
    } catch (const std::exception& e) {
        fail(e.what());
    }
}

void RevocationSync::on_page(void* data, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<RevocationSync*>(data);
    if (outcome != RedisOutcome::kReply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[1]->type != REDIS_REPLY_ARRAY || ++self->pages_ > kPagesMax) {
        self->fail(outcome != RedisOutcome::kReply ? "Redis is away" : "Redis did not answer ZSCAN");
        return;
    }
    if (!self->apply_page(reply->element[1])) {
        self->busy_ = false;  // it took so long that another worker does it now
        return;
    }
    if (const std::string_view cursor = element_text(reply, 0); cursor != "0") {
        self->ask_page(cursor);
        return;
    }
    self->ask_meta(on_meta_after);
}

// Hashing comes first, then the lock. False when the round is another worker's by now.
bool RevocationSync::apply_page(const redisReply* members) noexcept {
    struct Found {
        RevokedMember member;
        std::int64_t until_ms;
    };
    std::array<Found, kMembersPerLock> batch;
    for (std::size_t i = 0; i + 1 < members->elements || i == 0;) {
        std::size_t count = 0;
        for (; i + 1 < members->elements && count < batch.size(); i += 2) {
            if (const auto member = parse_revoked_member(element_text(members, i)); member) {
                batch[count++] = {*member, until_of(members->element[i + 1])};
            }
        }
        ZoneLock lock(shared_.pool);
        if (!shared_.auth.schedule.renew(round_, schedule_now())) {
            return false;
        }
        for (std::size_t k = 0; k < count; ++k) {
            shared_.auth.revoke(batch[k].member, batch[k].until_ms);
        }
        if (i == 0) {
            break;  // an empty page
        }
    }
    return true;
}

// A Redis that had lost its memory may be written anew between the first page and the last: `projected` counts if it
// was there before the first.
void RevocationSync::on_meta_before(void* data, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<RevocationSync*>(data);
    if (outcome != RedisOutcome::kReply || reply->type != REDIS_REPLY_ARRAY) {
        self->fail("Redis did not answer HMGET");
        return;
    }
    self->projected_before_ = element_text(reply, 0) == "1";
    self->ask_page("0");
}

void RevocationSync::on_meta_after(void* data, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<RevocationSync*>(data);
    if (outcome != RedisOutcome::kReply || reply->type != REDIS_REPLY_ARRAY) {
        self->fail("Redis did not answer HMGET");
        return;
    }
    self->finish(self->projected_before_ && element_text(reply, 0) == "1");
}

// What Redis no longer has was taken back while nobody listened, unless Redis itself has lost it: then it stays in
// force until it ends, or the sidecar has written everything anew. A round that has been overtaken by another wish, for
// the sidecar has written in the middle of it, takes nothing back: the next one does.
void RevocationSync::finish(bool projected) noexcept {
    busy_ = false;
    AuthShared& auth = shared_.auth;
    for (std::size_t slot = 0; slot < auth.revoked.slots();) {
        ZoneLock lock(shared_.pool);
        if (!auth.schedule.renew(round_, schedule_now())) {
            return;
        }
        const bool drop_older = projected && !auth.history_broken && auth.schedule.is_latest();
        slot = auth.revoked.sweep(slot, kSlotsPerLock, now_ms(), drop_older, round_);
    }
    {
        ZoneLock lock(shared_.pool);
        if (!auth.schedule.finish(round_, schedule_now())) {
            return;
        }
        auth.left_out = auth.left_out_again ? 1 : 0;
        auth.left_out_with_time = auth.left_out_with_time_again ? 1 : 0;
        auth.synced = 1;
        if (auth.withdrawals != withdrawals_before_) {
            auth.schedule.want();  // what was taken back meanwhile may stand on a page that was read before
        }
        auth.heard();
    }
    count(shared_.own_counters().resyncs);
    wake();
}

void RevocationSync::fail(const char* why) noexcept {
    busy_ = false;
    first_failed_ = true;
    ngx_log_error(NGX_LOG_INFO, log_, 0, "headgate: the revocations could not be read: %s", why);
    {
        ZoneLock lock(shared_.pool);
        (void)shared_.auth.schedule.fail(round_, schedule_now());
    }
    wake();
}

void RevocationSync::complain() noexcept {
    AuthShared& auth = shared_.auth;
    if (auth.left_out == 0 && auth.left_out_with_time == 0) {
        return;
    }
    const ngx_atomic_uint_t last = auth.complained_s;
    const auto now = static_cast<ngx_atomic_uint_t>(ngx_time());
    if (last != now && ngx_atomic_cmp_set(&auth.complained_s, last, now)) {
        ngx_log_error(NGX_LOG_EMERG, log_, 0,
                      "headgate: the zone has no room for all revocations: %s; make headgate_zone larger",
                      auth.left_out_with_time != 0 ? "no token is let in" : "Redis is asked about every token");
    }
}

bool RevocationSync::may_wait() const noexcept {
    return running_ && !first_failed_ && shared_.auth.synced == 0 &&
           static_cast<ngx_msec_int_t>(ngx_current_msec - started_ms_) < static_cast<ngx_msec_int_t>(first_wait_ms_);
}

bool RevocationSync::wait(RequestCtx* ctx) noexcept {
    if (!may_wait()) {
        return false;
    }
    ngx_queue_insert_tail(&waiting_, &ctx->sync_link);
    ctx->waits_for_sync = true;
    poll_.set(kPollMs);
    return true;
}

void RevocationSync::wake() noexcept {
    poll_.clear();
    // Those who begin to wait meanwhile wait for the next time.
    ngx_queue_t woken;
    ngx_queue_init(&woken);
    if (!ngx_queue_empty(&waiting_)) {
        ngx_queue_add(&woken, &waiting_);
        ngx_queue_init(&waiting_);
    }
    while (!ngx_queue_empty(&woken)) {
        auto* ctx = ngx_queue_data(ngx_queue_head(&woken), RequestCtx, sync_link);
        ctx->stop_waiting_for_sync();
        resume(ctx);
    }
}

void RevocationSync::on_poll(void* data) noexcept {
    auto* self = static_cast<RevocationSync*>(data);
    if (!self->may_wait()) {
        self->wake();
    } else if (!ngx_queue_empty(&self->waiting_)) {
        self->poll_.set(kPollMs);  // perhaps another worker does it
    }
}

}  // namespace headgate::edge
