// See publish_batch.h. One scan finds the events; the valid ones are charged together; then each leaves in a command of
// its own, all of them pipelined and borrowing their payload from the one body; the last reply sends the answer.
#include "ngx_module/publish_batch.h"

#include <hiredis/hiredis.h>

#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/batch_scanner.h"
#include "common/problem.h"
#include "ngx_module/event_command.h"
#include "ngx_module/limit_rest.h"
#include "ngx_module/publish_answer.h"
#include "ngx_module/publish_check.h"

namespace headgate::edge {

namespace {

struct Batch;

// One event of it.
struct BatchItem {
    Batch* batch = nullptr;
    OutgoingEvent event;
    ByteRange bytes;                  // in the body
    RedisCommand* command = nullptr;  // with Redis
    ngx_uint_t status = 0;            // of what is known to be wrong with it; 0: nothing
    std::string error;                // members of its result, if something is
    bool stored = false;
    bool replayed = false;
    bool ordered = false;  // another one has its ordering key and an Idempotency-Key
    bool again = false;    // to be sent once the others have been answered
};

// Lives in the request's pool. The request pins its memory for as long as a command borrows from it.
struct Batch final : BatchSink {
    Batch(ngx_http_request_t* request, RequestCtx* context) : r(request), ctx(context), body(request) {}
    void add(const BatchElement& element, const EventScanner& scanner) override;

    ngx_http_request_t* r;
    RequestCtx* ctx;
    BodyView body;
    std::string_view client_key;  // the Idempotency-Key; empty without one
    std::vector<BatchItem> items;
    std::vector<bool> loaded;  // by shard: the script was sent there again
    std::size_t valid = 0;
    std::size_t unanswered = 0;  // commands with Redis
    std::size_t paused = 0;      // items to be sent again
    bool broken = false;         // a result could not be noted: there is no answer to give
    bool sending = false;        // replies that come meanwhile do not end the request
};

void reject(BatchItem& item, ngx_uint_t status, std::string_view error) {
    item.status = status;
    item.error = "\"error\":";
    append_json_string(item.error, error);
}

void Batch::add(const BatchElement& element, const EventScanner& scanner) {
    BatchItem& item = items.emplace_back();
    item.bytes = element.bytes;
    if (element.too_large) {
        reject(item, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
               "An event may have at most " + std::to_string(loc_conf(r)->publish.event_max_bytes) + " bytes");
    } else if (element.status == ScanStatus::kInvalidJson) {
        reject(item, NGX_HTTP_BAD_REQUEST,
               invalid_json_text("The event", scanner.error_message(), scanner.error_offset()));
    } else if (element.status != ScanStatus::kOk) {
        reject(item, 422, kWrongShape);
        item.error.append(",");
        append_shape_errors(item.error, scanner.problems(), "\"body\"," + std::to_string(element.index));
    } else {
        const std::string key =
            client_key.empty() ? std::string() : std::string(client_key) + "#" + std::to_string(element.index);
        if (!prepare_event(r, ctx, scanner, element.payload, key, item.event)) {
            throw std::bad_alloc();
        }
        ++valid;
    }
}

// ---- the answer ------------------------------------------------------------------------------

// "accepted":2,"rejected":1,"results":[{"index":0,"id":…},{"index":1,"status":422,"error":…},…]
std::string result_members(const Batch& batch, std::size_t accepted) {
    std::string out = "\"accepted\":" + std::to_string(accepted) +
                      ",\"rejected\":" + std::to_string(batch.items.size() - accepted) + ",\"results\":[";
    for (std::size_t i = 0; i < batch.items.size(); ++i) {
        const BatchItem& item = batch.items[i];
        out.append(i == 0 ? "" : ",").append("{\"index\":").append(std::to_string(i));
        if (item.stored) {
            out.append(",\"id\":\"").append(item.event.id, kEventIdBytes).append("\"");
            out.append(item.replayed ? ",\"replayed\":true}" : "}");
        } else {
            out.append(",\"status\":").append(std::to_string(item.status)).append(",").append(item.error).append("}");
        }
    }
    return out + "]";
}

ngx_int_t respond_batch(const Batch& batch) {
    if (batch.broken) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    std::size_t accepted = 0, not_stored = 0;
    for (const BatchItem& item : batch.items) {
        accepted += item.stored ? 1 : 0;
        not_stored += item.status == NGX_HTTP_SERVICE_UNAVAILABLE ? 1 : 0;
    }
    count(current_worker(batch.r).counters().events_failed, static_cast<ngx_atomic_int_t>(not_stored));
    const std::string members = result_members(batch, accepted);
    if (accepted != 0) {
        return respond_body(batch.r, NGX_HTTP_OK, "application/json", "{" + members + "}");
    }
    if (not_stored != 0) {
        add_header(batch.r, "Retry-After", "1");
        return respond_problem(batch.r, {NGX_HTTP_SERVICE_UNAVAILABLE,
                                         "No event was stored, or is known to be; send the batch again",
                                         {},
                                         members});
    }
    return respond_problem(batch.r, {422, "No event of the batch can be stored", {}, members});
}

// ---- sending, and what comes of it -----------------------------------------------------------

void on_item_reply(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept;

// False: it is not with Redis.
bool send_item(BatchItem& item) noexcept {
    Batch& batch = *item.batch;
    try {
        const std::string_view key = event_command_key(batch.r, item.event);
        RedisCommand* command = build_event_command(batch.r, batch.ctx, item.event, nullptr, batch.body);
        if (command == nullptr) {
            return false;
        }
        command->asker = &item;
        command->done = on_item_reply;
        command->lender = batch.ctx;
        command->released = unpin;
        item.command = command;
        pin(batch.ctx);
        ++batch.unanswered;
        if (current_worker(batch.r).events().send(command, key, &item.event.hops)) {
            return true;
        }
        --batch.unanswered;
        unpin(batch.ctx);
        item.command = nullptr;
        delete command;
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, batch.r->connection->log, 0, "headgate: %s", e.what());
    }
    return false;
}

// NOSCRIPT: nothing ran, and the body is still whole.
bool send_item_again(BatchItem& item) {
    Batch& batch = *item.batch;
    if (std::exchange(item.event.resent, true)) {
        return false;
    }
    const auto shard = static_cast<std::size_t>(item.event.shard);
    if (!batch.loaded[shard]) {
        if (!load_event_script(batch.r, item.event, nullptr)) {
            return false;
        }
        batch.loaded[shard] = true;
    }
    return send_item(item);
}

// `replicated`: as many replicas have it as the location asks for.
void judge_item(BatchItem& item, const redisReply* reply, bool replicated) {
    const EventReply answer = read_event_reply(item.batch->r, item.event, nullptr, reply);
    if (!replicated && answer.fate != EventFate::kConflict) {
        reject(item, NGX_HTTP_SERVICE_UNAVAILABLE, kNotStored);
        return;
    }
    switch (answer.fate) {
        case EventFate::kStored:
            item.stored = true;
            count_stored(item.batch->r, item.event);
            return;
        case EventFate::kReplayed:
            item.stored = item.replayed = true;
            count(current_worker(item.batch->r).counters().events_replayed);
            ngx_memcpy(item.event.id, answer.first_id.data(), kEventIdBytes);
            return;
        case EventFate::kConflict:
            reject(item, 422, kKeyConflict);
            return;
        case EventFate::kUnknown:
            reject(item, NGX_HTTP_SERVICE_UNAVAILABLE, kNotStored);
    }
}

// Sends what could not run because keys were on their way, one event of each ordering key at a time. One of which a
// later one has been stored meanwhile, or may have been, is not sent: it would stand behind that.
void send_paused(Batch& batch) {
    std::unordered_set<std::string_view> passed;
    for (auto item = batch.items.rbegin(); item != batch.items.rend(); ++item) {
        const std::string_view key = view(item->event.ordering_key);
        if (item->status == NGX_HTTP_SERVICE_UNAVAILABLE || (item->stored && !item->replayed)) {
            passed.insert(key);
        } else if (item->again && passed.contains(key)) {
            item->again = false;
            --batch.paused;
            reject(*item, NGX_HTTP_SERVICE_UNAVAILABLE, kNotStored);
        }
    }
    std::unordered_set<std::string_view> under_way;
    batch.sending = true;
    for (BatchItem& item : batch.items) {
        if (!item.again) {
            continue;
        }
        if (under_way.contains(view(item.event.ordering_key))) {
            item.event.hops.pause_ms = 0;  // it will have waited for the one before it
            continue;
        }
        item.again = false;
        --batch.paused;
        if (send_item(item)) {
            under_way.insert(view(item.event.ordering_key));
        } else {
            reject(item, NGX_HTTP_SERVICE_UNAVAILABLE, kNotStored);
        }
    }
    batch.sending = false;
}

void on_item_reply(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto& item = *static_cast<BatchItem*>(asker);
    Batch& batch = *item.batch;
    item.command = nullptr;
    --batch.unanswered;
    const ngx_int_t rc = guarded(batch.r, [&]() -> ngx_int_t {
        if (outcome == RedisOutcome::kUnavailable) {
            reject(item, NGX_HTTP_SERVICE_UNAVAILABLE, kNotStored);
            return NGX_OK;
        }
        const bool redirected = current_worker(batch.r).events().redirected(reply, item.event.hops);
        item.again = redirected && item.ordered && item.event.hops.pause_ms != 0;
        batch.paused += item.again ? 1 : 0;
        const bool goes_on = item.again || (redirected ? send_item(item) : is_noscript(reply) && send_item_again(item));
        if (!goes_on) {
            judge_item(item, reply, outcome == RedisOutcome::kReply);
        }
        return NGX_OK;
    });
    batch.broken = batch.broken || rc != NGX_OK;
    while (batch.unanswered == 0 && batch.paused != 0 && !batch.sending && !batch.broken) {
        const ngx_int_t sent = guarded(batch.r, [&batch]() -> ngx_int_t {
            send_paused(batch);
            return NGX_OK;
        });
        batch.broken = batch.broken || sent != NGX_OK;
    }
    if (batch.unanswered == 0 && !batch.sending) {
        current_worker(batch.r).settle_inflight(batch.ctx);
        finish(batch.ctx, guarded(batch.r, [&] { return respond_batch(batch); }));
    }
}

// The request died: its commands are written to their end, and their replies dropped.
void abandon_batch(void* data) noexcept {
    for (BatchItem& item : static_cast<Batch*>(data)->items) {
        if (item.command != nullptr) {
            std::exchange(item.command, nullptr)->abandon();
        }
    }
}

// Where order counts, each event brings the script. If Redis had forgotten it, others might load it while it goes
// through ours: what then runs would be stored before what did not, and has to be sent again.
void mark_ordered(Batch& batch) {
    if (batch.client_key.empty()) {
        return;
    }
    std::unordered_map<std::string_view, BatchItem*> first;
    for (BatchItem& item : batch.items) {
        if (item.status != 0 || item.event.ordering_key.len == 0) {
            continue;
        }
        const auto [found, is_first] = first.emplace(view(item.event.ordering_key), &item);
        if (!is_first) {
            found->second->ordered = found->second->event.brings_script = true;
            item.ordered = item.event.brings_script = true;
        }
    }
}

// NGX_DONE: the last reply will end the request. Else: what to finalize it with.
ngx_int_t send_batch(Batch& batch) {
    Worker& worker = current_worker(batch.r);
    if (const std::string_view obstacle = publish_obstacle(batch.r, batch.body.bytes()); !obstacle.empty()) {
        return respond_not_stored(batch.r, obstacle);
    }
    batch.loaded.resize(main_conf(batch.r)->shards);
    batch.ctx->traceparent = find_traceparent(batch.r);
    batch.ctx->batch = &batch;
    batch.ctx->abandon_batch = abandon_batch;
    worker.add_inflight(batch.ctx, batch.body.bytes());
    mark_ordered(batch);
    batch.sending = true;
    for (BatchItem& item : batch.items) {
        item.batch = &batch;
        if (item.status != 0) {
            continue;
        }
        if (shard_is_full(batch.r, item.event)) {
            reject(item, NGX_HTTP_SERVICE_UNAVAILABLE, kBacklogFull);
        } else if (!send_item(item)) {
            reject(item, NGX_HTTP_SERVICE_UNAVAILABLE, kNotStored);
        }
    }
    batch.sending = false;
    if (batch.unanswered != 0) {
        suspend(batch.r);
        return NGX_DONE;
    }
    worker.settle_inflight(batch.ctx);
    return respond_batch(batch);
}

ngx_int_t go_on(Batch& batch, RestOutcome outcome) {
    switch (outcome) {
        case RestOutcome::kGranted:
            return send_batch(batch);
        case RestOutcome::kRefused:
            return respond_limited(batch.r, batch.ctx);
        case RestOutcome::kUnavailable:
            break;
    }
    return respond_unavailable(batch.r, "Rate limits cannot be checked now");
}

void after_rest(RequestCtx* ctx, void* data, RestOutcome outcome) {
    auto& batch = *static_cast<Batch*>(data);
    const ngx_int_t rc = guarded(batch.r, [&] { return go_on(batch, outcome); });
    if (rc != NGX_DONE) {
        finish(ctx, rc);
    }
}

// ---- the body --------------------------------------------------------------------------------

// What ends the whole batch; nullopt: some event is valid.
std::optional<ngx_int_t> refuse_batch(const Batch& batch, const BatchScanner& scanner, BatchStatus status) {
    ngx_http_request_t* r = batch.r;
    switch (status) {
        case BatchStatus::kEmpty:
            return respond_problem(r, {NGX_HTTP_BAD_REQUEST, "The request has no body"});
        case BatchStatus::kInvalidJson:
            return respond_problem(r, {NGX_HTTP_BAD_REQUEST,
                                       invalid_json_text("The body", scanner.error_message(), scanner.error_offset())});
        case BatchStatus::kNotArray:
            return respond_problem(r, {422,
                                       "A batch is a JSON array of events, or one event on each line",
                                       {},
                                       R"("errors":[{"loc":["body"],"msg":"must be an array"}])"});
        case BatchStatus::kTooMany:
            return respond_problem(
                r, {NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                    "A batch may have at most " + std::to_string(loc_conf(r)->publish.batch_events_max) + " events"});
        case BatchStatus::kOk:
            break;
    }
    if (batch.valid == 0) {
        return respond_problem(r, {422,
                                   batch.items.empty() ? "The batch has no events" : "No event of the batch is valid",
                                   {},
                                   result_members(batch, 0)});
    }
    return std::nullopt;
}

// What an Idempotency-Key remembers of each event: the digest of its bytes as they came.
bool digest_events(Batch& batch) noexcept {
    Sha256 digest;
    for (BatchItem& item : batch.items) {
        if (item.status != 0) {
            continue;
        }
        const bool whole = batch.body.read(item.bytes, [&](const char* data, std::size_t bytes) {
            digest.update({data, bytes});
            return true;
        });
        if (!whole) {
            return false;
        }
        item.event.body_digest = digest.finish();
    }
    return true;
}

}  // namespace

ngx_int_t publish_batch(ngx_http_request_t* r, RequestCtx* ctx) {
    const PublishConf& conf = loc_conf(r)->publish;
    auto* batch = make_in_pool<Batch>(r->pool, r, ctx);
    if (batch == nullptr) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (!find_idempotency_key(r, batch->client_key)) {
        return respond_problem(r, {NGX_HTTP_BAD_REQUEST, kBadKey});
    }
    BatchScanner scanner(batch_format(r), static_cast<std::size_t>(conf.batch_events_max), conf.event_max_bytes,
                         *batch);
    const auto feed = [&scanner](const char* data, std::size_t bytes) { return scanner.feed(data, bytes); };
    if (!batch->body.read({0, batch->body.bytes()}, feed)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    const BatchStatus status = scanner.finish();
    if (const auto rc = refuse_batch(*batch, scanner, status)) {
        return *rc;
    }
    if (!batch->client_key.empty() && !digest_events(*batch)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    const auto outcome = charge_rest(ctx, static_cast<std::int64_t>(batch->valid) - 1, after_rest, batch);
    return outcome ? go_on(*batch, *outcome) : NGX_DONE;
}

}  // namespace headgate::edge
