// See postgres_parts.h; ordering keys and doubtful claims of postgres_store.h.
#include "sidecar/store/postgres_parts.h"

#include <algorithm>
#include <cstring>

#include "common/hmac.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {

namespace {
constexpr TimeMs kHourMs = 3'600'000;
}  // namespace

PgRollups::Change& PgRollups::of(std::string_view webhook_id, TimeMs created_at, std::string_view event_type) {
    return changes_[{std::string(webhook_id), created_at - created_at % kHourMs, std::string(event_type)}];
}

void PgRollups::move(Change& change, std::string_view from, std::string_view to) {
    auto count = [&change](std::string_view status, int by) {
        if (status == "pending") change.pending += by;
        if (status == "success") change.success += by;
        if (status == "failed") change.failed += by;
    };
    count(from, -1);
    count(to, 1);
}

void PgRollups::send(PgConnection& db) {
    if (changes_.empty()) return;
    PgArray webhooks = PgArray::texts();
    PgArray hours = PgArray::numbers();
    PgArray types = PgArray::texts();
    PgArray counts[8] = {PgArray::numbers(), PgArray::numbers(), PgArray::numbers(), PgArray::numbers(),
                         PgArray::numbers(), PgArray::numbers(), PgArray::numbers(), PgArray::numbers()};
    for (const auto& [key, change] : changes_) {
        webhooks.add(std::get<0>(key));
        hours.add(std::get<1>(key));
        types.add(std::get<2>(key));
        const std::int64_t values[8] = {change.success,   change.failed,          change.pending,  change.retries,
                                        change.responses, change.response_ms_sum, change.filtered, change.disabled};
        for (std::size_t i = 0; i < 8; i++) counts[i].add(values[i]);
    }
    db.send(
        "INSERT INTO rollups AS r (webhook_id, hour_at, event_type, success_count, failed_count, pending_count,"
        " retry_count, response_count, response_ms_sum, filtered_count, disabled_count)"
        " SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],"
        " $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])"
        " ON CONFLICT (webhook_id, hour_at, event_type) DO UPDATE SET"
        " success_count = r.success_count + excluded.success_count,"
        " failed_count = r.failed_count + excluded.failed_count,"
        " pending_count = r.pending_count + excluded.pending_count,"
        " retry_count = r.retry_count + excluded.retry_count,"
        " response_count = r.response_count + excluded.response_count,"
        " response_ms_sum = r.response_ms_sum + excluded.response_ms_sum,"
        " filtered_count = r.filtered_count + excluded.filtered_count,"
        " disabled_count = r.disabled_count + excluded.disabled_count",
        webhooks, hours, types, counts[0], counts[1], counts[2], counts[3], counts[4], counts[5], counts[6], counts[7]);
    changes_.clear();
}

// ---- ordering -------------------------------------------------------------------------------

// A number for pg_advisory_xact_lock. Two keys that share one wait for each other, and nothing else.
static std::int64_t ordering_lock(std::string_view webhook_id, std::string_view ordering_key) {
    auto digest = sha256(std::string(webhook_id) + '\0' + std::string(ordering_key));
    std::int64_t number = 0;
    std::memcpy(&number, digest.data(), sizeof number);
    return number;
}

std::size_t PostgresStore::send_heads(const std::vector<std::pair<std::string_view, std::string_view>>& keys) {
    std::vector<std::int64_t> locks;
    PgArray webhooks = PgArray::texts();
    PgArray ordering_keys = PgArray::texts();
    for (const auto& [webhook_id, ordering_key] : keys) {
        locks.push_back(ordering_lock(webhook_id, ordering_key));
        webhooks.add(webhook_id);
        ordering_keys.add(ordering_key);
    }
    std::sort(locks.begin(), locks.end());
    PgArray numbers = PgArray::numbers();
    for (std::int64_t lock : locks) numbers.add(lock);
    // Two statements: the second sees what was committed while the locks were waited for.
    db_.send("SELECT count(pg_advisory_xact_lock(key)) FROM unnest($1::bigint[]) key", numbers);
    return db_.send(
        "SELECT d.webhook_id, d.ordering_key FROM unnest($1::text[], $2::text[]) AS k (webhook_id, ordering_key)"
        " JOIN deliveries d ON d.webhook_id = k.webhook_id AND d.ordering_key = k.ordering_key AND d.holds_order = 1",
        webhooks, ordering_keys);
}

// The webhook's row is locked, and so is its organization: nobody adds or records deliveries of it meanwhile.
void PostgresStore::settle_order(const Webhook& webhook, TimeMs now) {
    if (webhook.ordering != "key") {
        db_.send("UPDATE deliveries SET holds_order = 0 WHERE webhook_id = $1 AND holds_order = 1", webhook.id);
        db_.send(
            "UPDATE deliveries SET state = 'queued', due_at = $1, updated_at = $1 WHERE webhook_id = $2"
            " AND state = 'blocked'",
            now, webhook.id);
        return;
    }
    auto rows = db_.query(
        "UPDATE deliveries SET holds_order = 0 WHERE webhook_id = $1 AND holds_order = 1 AND (state IN ('success',"
        " 'cancelled') OR status = 'failed' AND ($2 = 'skip' OR $2 = 'dead' AND state = 'dead')) RETURNING "
        "ordering_key",
        webhook.id, policy_name(webhook.ordering_policy));
    std::vector<OrderingKey> keys;
    while (rows.step()) keys.push_back({webhook.id, rows.view(0), now});
    if (!keys.empty()) send_next_heads(keys);
}

// ---- doubtful claims ------------------------------------------------------------------------

void PostgresStore::doubt(std::vector<Doubtful> claimed) {
    doubtful_.insert(doubtful_.end(), std::make_move_iterator(claimed.begin()), std::make_move_iterator(claimed.end()));
}

// Of lanes that are still at the epoch of that call: nobody else can have recovered or claimed them since.
void PostgresStore::release_doubtful(Epochs lane_epochs) {
    if (doubtful_.empty()) return;
    PgArray ids = PgArray::texts();
    for (const Doubtful& delivery : doubtful_) {
        const auto lane = static_cast<std::size_t>(delivery.lane);
        if (lane < lane_epochs.size() && lane_epochs[lane] == delivery.epoch) ids.add(delivery.delivery_id);
    }
    db_.execute(
        "UPDATE deliveries SET state = CASE WHEN attempts > 0 THEN 'retrying' ELSE 'queued' END"
        " WHERE id = ANY ($1) AND state = 'in_flight'",
        ids);
    doubtful_.clear();
}

}  // namespace headgate
