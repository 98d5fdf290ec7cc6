// See control.h.
#include "ngx_module/control.h"

#include <charconv>
#include <optional>

#include "common/event_record.h"
#include "common/resp.h"
#include "ngx_module/jwks_fetch.h"
#include "ngx_module/redis_reply.h"

namespace headgate::edge {

namespace {

constexpr ngx_msec_t kTickMs = 250;
// Redis answers a read that finds nothing after this: the proof, once a second, that nothing was missed.
constexpr long long kBlockMs = 1000;
constexpr long long kEntriesMax = 500;  // of a reply, each far below 1 KiB
constexpr std::int64_t kUntilUnsaidMs = 30LL * 24 * 3600 * 1000;

std::optional<StreamId> parse_stream_id(std::string_view text) noexcept {
    StreamId id;
    const char* const end = text.data() + text.size();
    const auto ms = std::from_chars(text.data(), end, id.ms);
    if (ms.ec != std::errc() || ms.ptr == end || *ms.ptr != '-') {
        return std::nullopt;
    }
    const auto sequence = std::from_chars(ms.ptr + 1, end, id.sequence);
    return sequence.ec == std::errc() && sequence.ptr == end ? std::optional(id) : std::nullopt;
}

// The id of an entry of XRANGE, which is [id, [field, value, …]].
std::optional<StreamId> id_of(const redisReply* entry) noexcept { return parse_stream_id(element_text(entry, 0)); }

std::optional<ZoneKey> parse_hex_key(std::string_view hex) noexcept {
    ZoneKey key;
    if (hex.size() != 2 * key.size()) {
        return std::nullopt;
    }
    for (std::size_t i = 0; i < key.size(); ++i) {
        unsigned value = 0;
        const char* at = hex.data() + 2 * i;
        const auto parsed = std::from_chars(at, at + 2, value, 16);
        if (parsed.ec != std::errc() || parsed.ptr != at + 2) {
            return std::nullopt;
        }
        key[i] = static_cast<unsigned char>(value);
    }
    return key;
}

struct ControlEntry {
    std::string_view op, ref, until;
};

ControlEntry fields_of(const redisReply* fields) noexcept {
    ControlEntry entry;
    for (std::size_t i = 0; fields->type == REDIS_REPLY_ARRAY && i + 1 < fields->elements; i += 2) {
        const std::string_view name = element_text(fields, i);
        const std::string_view value = element_text(fields, i + 1);
        entry.op = name == "op" ? value : entry.op;
        entry.ref = name == "ref" ? value : entry.ref;
        entry.until = name == "until" ? value : entry.until;
    }
    return entry;
}

RedisConf for_reader(RedisConf conf) {
    conf.timeout_ms += static_cast<ngx_msec_t>(kBlockMs);
    conf.connections = 1;
    return conf;
}

}  // namespace

ControlReader::ControlReader(const RedisConf& keys, MetaExpectation expected, ZoneShared& shared, RevocationSync& sync,
                             ngx_log_t* log)
    : conf_(for_reader(keys)),
      gauge_(state_),
      service_(conf_, std::move(expected), gauge_, &shared, log),
      shared_(shared),
      sync_(sync),
      log_(log),
      tick_(this, on_tick, WorkerTimer::OnQuit::kDropped, log) {}

void ControlReader::start() noexcept {
    service_.start();
    ask_place();
    tick_.set(kTickMs);
}

void ControlReader::stop() noexcept { service_.stop(); }

void ControlReader::on_tick(void* data) noexcept {
    auto* self = static_cast<ControlReader*>(data);
    if (ngx_exiting) {
        self->service_.stop();  // a read that blocks would hold the worker up
        return;
    }
    self->sync_.tick();
    if (!self->asking_ && self->service_.ready()) {
        self->ask_place();
    }
    self->tick_.set(kTickMs);
}

bool ControlReader::send(std::string command,
                         void (*done)(void* self, RedisOutcome outcome, const redisReply* reply)) noexcept {
    return !ngx_exiting &&
           service_.send_bytes(std::move(command), control_key(kDefaultKeyPrefix), this, done) != nullptr;
}

void ControlReader::ask_place() noexcept {
    {
        ZoneLock lock(shared_.pool);
        seen_positioned_ = shared_.auth.positioned;
        seen_ = shared_.auth.last_id;
    }
    try {
        const std::string key = control_key(kDefaultKeyPrefix);
        std::string first;
        std::string last;
        RespWriter(first).command("XRANGE", key, "-", "+", "COUNT", 1);
        RespWriter(last).command("XREVRANGE", key, "+", "-", "COUNT", 1);
        // The second is refused where the first was: then its reply, or its failure, comes alone.
        has_first_ = false;
        asking_ = send(std::move(first), on_first) && send(std::move(last), on_last);
    } catch (const std::exception& e) {
        asking_ = false;
        ngx_log_error(NGX_LOG_ERR, log_, 0, "headgate: %s", e.what());
    }
}

void ControlReader::on_first(void* data, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<ControlReader*>(data);
    if (outcome == RedisOutcome::kReply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 1) {
        const auto id = id_of(reply->element[0]);
        self->has_first_ = id.has_value();
        self->first_ = id.value_or(StreamId{});
    }
}

void ControlReader::on_last(void* data, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<ControlReader*>(data);
    if (outcome != RedisOutcome::kReply || reply->type != REDIS_REPLY_ARRAY || ngx_exiting) {
        self->asking_ = false;
        self->refused(outcome == RedisOutcome::kReply ? reply : nullptr);
        return;
    }
    StreamId last;
    if (reply->elements == 1) {
        last = id_of(reply->element[0]).value_or(StreamId{});
    }
    self->take_place(last);
    self->sync_.tick();
    self->ask_entries();
}

void ControlReader::take_place(const StreamId& last) noexcept {
    const bool restored = seen_positioned_ && last < seen_;
    const bool trimmed = seen_positioned_ && !restored && has_first_ && seen_ < first_;
    ZoneLock lock(shared_.pool);
    AuthShared& auth = shared_.auth;
    if (auth.positioned && !restored && !trimmed) {
        auth.heard();
        return;
    }
    auth.positioned = true;
    auth.last_id = last;
    auth.schedule.want_for_gap();
    if (restored || trimmed) {
        auth.history_broken = auth.history_broken || restored;
        shared_.cache.erase_all(ZoneKind::kApiKey);
        ++auth.key_epoch;
        ngx_log_error(NGX_LOG_NOTICE, log_, 0, "headgate: %s: revocations and API keys are read anew",
                      restored ? "Redis has an older memory than before" : "control entries were missed");
    }
}

void ControlReader::ask_entries() noexcept {
    char from[48];
    {
        StreamId last;
        {
            ZoneLock lock(shared_.pool);
            last = shared_.auth.last_id;
        }
        char* end = std::to_chars(from, from + 20, last.ms).ptr;
        *end++ = '-';
        *std::to_chars(end, end + 20, last.sequence).ptr = '\0';
    }
    try {
        std::string command;
        RespWriter(command).command("XREAD", "COUNT", kEntriesMax, "BLOCK", kBlockMs, "STREAMS",
                                    control_key(kDefaultKeyPrefix), std::string_view(from));
        asking_ = send(std::move(command), on_entries);
    } catch (const std::exception& e) {
        asking_ = false;
        ngx_log_error(NGX_LOG_ERR, log_, 0, "headgate: %s", e.what());
    }
}

// Nil after kBlockMs, or [[key, [entry, …]]].
void ControlReader::on_entries(void* data, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<ControlReader*>(data);
    const bool understood =
        outcome == RedisOutcome::kReply && (reply->type == REDIS_REPLY_NIL || reply->type == REDIS_REPLY_ARRAY);
    if (!understood) {
        self->asking_ = false;
        self->refused(outcome == RedisOutcome::kReply ? reply : nullptr);
        return;
    }
    const bool has_entries = reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 &&
                             reply->element[0]->type == REDIS_REPLY_ARRAY && reply->element[0]->elements == 2 &&
                             reply->element[0]->element[1]->type == REDIS_REPLY_ARRAY;
    if (has_entries) {
        const redisReply* entries = reply->element[0]->element[1];
        for (std::size_t i = 0; i < entries->elements; ++i) {
            self->apply(entries->element[i]);
        }
        self->sync_.tick();
    }
    {
        ZoneLock lock(self->shared_.pool);
        self->shared_.auth.heard();
    }
    self->ask_entries();
}

// Hashing and parsing come first, then the lock. `last_id` is raised after the change: a worker that dies in between
// leaves the entry to the others.
void ControlReader::apply(const redisReply* entry) noexcept {
    const auto id = id_of(entry);
    if (!id || entry->elements != 2) {
        return;
    }
    const ControlEntry found = fields_of(entry->element[1]);
    const auto member = parse_revoked_member(found.ref);
    const auto key = parse_hex_key(found.ref);
    std::int64_t until_ms = 0;
    const auto parsed = std::from_chars(found.until.data(), found.until.data() + found.until.size(), until_ms);
    if (parsed.ec != std::errc()) {
        until_ms = now_ms() + kUntilUnsaidMs;
    }
    count(shared_.own_counters().control_entries);
    {
        ZoneLock lock(shared_.pool);
        if (*id <= shared_.auth.last_id) {
            return;  // another worker was first
        }
        change(found.op, member, key, until_ms);
        shared_.auth.last_id = *id;
    }
    if (found.op == "jwks") {
        jwks_refetch(shared_);
    }
}

// Under the zone's lock.
void ControlReader::change(std::string_view op, const std::optional<RevokedMember>& member,
                           const std::optional<ZoneKey>& key, std::int64_t until_ms) noexcept {
    AuthShared& auth = shared_.auth;
    if (op == "revoke" && member) {
        auth.revoke(*member, until_ms);
    } else if (op == "unrevoke" && member) {
        auth.withdraw(*member);
    } else if (op == "key" && key) {
        shared_.cache.erase(ZoneKind::kApiKey, *key);
        ++auth.key_epoch;
    } else if (op == "resync") {
        // The sidecar has written everything anew.
        auth.history_broken = false;
        auth.schedule.want_for_gap();
        shared_.cache.erase_all(ZoneKind::kApiKey);
        ++auth.key_epoch;
    }
}

void ControlReader::refused(const redisReply* reply) noexcept {
    if (reply == nullptr || reply->type != REDIS_REPLY_ERROR || complained_at_ == ngx_time()) {
        return;
    }
    complained_at_ = ngx_time();
    const std::string_view text = text_of(reply);
    ngx_log_error(NGX_LOG_ERR, log_, 0,
                  "headgate: Redis refused to read headgate:control (revocations take up to 30 s): %*s", text.size(),
                  text.data());
}

}  // namespace headgate::edge
