// See status.h.
#include "ngx_module/status.h"

#include <signal.h>

#include <string>

#include "common/limits.h"
#include "common/version.h"
#include "ngx_module/respond.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

// Writes {"name":value,…}, one level at a time.
class JsonObject {
 public:
    explicit JsonObject(std::string& out) : out_(out) { out_.push_back('{'); }
    JsonObject& member(std::string_view name, ngx_atomic_uint_t value) { return raw(name, std::to_string(value)); }
    JsonObject& raw(std::string_view name, std::string_view json) {
        out_.append(first_ ? "\"" : ",\"").append(name).append("\":").append(json);
        first_ = false;
        return *this;
    }
    void end() { out_.push_back('}'); }

 private:
    std::string& out_;
    bool first_ = true;
};

std::string refused_json(const ZoneShared& shared) {
    std::string out;
    JsonObject object(out);
    for (std::size_t i = 0; i < kAuthStatusCount; ++i) {
        if (shared.refused[i] != 0) {
            object.member(auth_status_name(static_cast<AuthStatus>(i)), shared.refused[i]);
        }
    }
    object.end();
    return out;
}

struct WorkerTotals {
    ngx_atomic_uint_t workers = 0;
    ngx_atomic_uint_t inflight_bytes = 0;
    RedisState redis_state = RedisState::kReady;  // the worst of all workers
};

WorkerTotals worker_totals(const ZoneShared& shared) noexcept {
    // From best to worst, as an operator sees it.
    static constexpr int kBadness[] = {/*idle*/ 1, /*connecting*/ 2, /*handshake*/ 2, /*ready*/ 0, /*backoff*/ 3};
    WorkerTotals totals;
    for (const ZoneShared::Worker& worker : shared.workers) {
        // A worker that was killed could not clear its slot.
        if (worker.pid == 0 || (kill(static_cast<pid_t>(worker.pid), 0) == -1 && errno == ESRCH)) {
            continue;
        }
        ++totals.workers;
        totals.inflight_bytes += worker.inflight_bytes;
        if (kBadness[worker.redis_state] > kBadness[static_cast<int>(totals.redis_state)]) {
            totals.redis_state = static_cast<RedisState>(worker.redis_state);
        }
    }
    return totals;
}

std::string_view redis_state_name(RedisState state) noexcept {
    switch (state) {
        case RedisState::kIdle:
            return "\"idle\"";
        case RedisState::kConnecting:
        case RedisState::kHandshake:
            return "\"connecting\"";
        case RedisState::kReady:
            return "\"ready\"";
        case RedisState::kBackoff:
            break;
    }
    return "\"backoff\"";
}

std::string auth_json(ZoneShared& shared) {
    ngx_atomic_uint_t tokens, keys, evictions, revoked, revocations_max, resync_age_s;
    {
        ZoneLock lock(shared.pool);
        tokens = shared.cache.entries(ZoneKind::kToken);
        keys = shared.cache.entries(ZoneKind::kApiKey);
        evictions = shared.cache.evictions();
        revoked = shared.auth.revoked.size();
        revocations_max = shared.auth.revoked.size_max();
        resync_age_s = static_cast<ngx_atomic_uint_t>(
            (static_cast<std::int64_t>(ngx_current_msec) - shared.auth.schedule.finished_ms) / 1000);
    }
    std::string out;
    JsonObject object(out);
    object.member("token_hits", shared.auth.token_hits)
        .member("token_misses", shared.auth.token_misses)
        .member("tokens", tokens)
        .member("key_hits", shared.auth.key_hits)
        .member("key_misses", shared.auth.key_misses)
        .member("keys", keys)
        .member("evictions", evictions)
        .member("revocations", revoked)
        .member("revocations_max", revocations_max)
        .member("control_entries", shared.auth.control_entries)
        .member("resyncs", shared.auth.resyncs)
        .raw("resync_age_s", shared.auth.synced != 0 ? std::to_string(resync_age_s) : "null")
        .member("redis_silent_ms", shared.auth.silent_ms());
    object.end();
    return out;
}

std::string status_json(ZoneShared& shared) {
    const WorkerTotals workers = worker_totals(shared);
    std::string requests;
    JsonObject(requests)
        .member("total", shared.requests)
        .member("accepted", shared.accepted)
        .member("limited", shared.limited)
        .raw("refused", refused_json(shared))
        .end();
    std::string published;
    JsonObject(published)
        .member("events", shared.events_published)
        .member("not_stored", shared.events_failed)
        .member("payload_bytes", shared.payload_bytes)
        .member("payload_bytes_copied", shared.payload_bytes_copied)
        .member("inflight_bytes", workers.inflight_bytes)
        .end();
    const std::string auth = auth_json(shared);
    std::string redis;
    JsonObject(redis)
        .raw("state", redis_state_name(workers.redis_state))
        .member("connects", shared.redis_connects)
        .member("writes", shared.redis_writes)
        .member("commands", shared.redis_commands)
        .member("replies", shared.redis_replies)
        .member("errors", shared.redis_errors)
        .end();
    std::string out;
    JsonObject(out)
        .raw("version", "\"" HEADGATE_VERSION "\"")
        .member("contract", limits::kContractVersion)
        .member("worker_processes", workers.workers)
        .member("uptime_s",
                static_cast<ngx_atomic_uint_t>(now_ms() - static_cast<std::int64_t>(shared.started_at_ms)) / 1000)
        .raw("requests", requests)
        .raw("auth", auth)
        .raw("published", published)
        .raw("redis", redis)
        .end();
    return out;
}

}  // namespace

ngx_int_t status_handler(ngx_http_request_t* r) noexcept {
    return guarded(r, [r]() -> ngx_int_t {
        if (main_conf(r)->worker == nullptr) {
            return NGX_HTTP_SERVICE_UNAVAILABLE;
        }
        if ((r->method & (NGX_HTTP_GET | NGX_HTTP_HEAD)) == 0) {
            add_header(r, "Allow", "GET, HEAD");
            return respond_problem(r, {NGX_HTTP_NOT_ALLOWED, "The status is read with GET"});
        }
        if (const ngx_int_t rc = ngx_http_discard_request_body(r); rc != NGX_OK) {
            return rc;
        }
        add_header(r, "Cache-Control", "no-store");
        return respond_body(r, NGX_HTTP_OK, "application/json", status_json(current_worker(r).shared()) + "\n");
    });
}

}  // namespace headgate::edge
