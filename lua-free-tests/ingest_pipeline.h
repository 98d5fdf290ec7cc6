// Ingest between a real redis-server (AOF, appendfsync always) and a real SQLite file, for tests.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "lua-free-tests/redis_fixture.h"
#include "lua-free-tests/run_awaitable.h"
#include "lua-free-tests/store_conformance.h"  // last
#include "lua-free-tests/temp_dir.h"
#include "sidecar/ingest/ingest.h"
#include "sidecar/base/wall_clock.h"

namespace headgate {

inline constexpr const char* kPrefix = "test:";

class RecordingSink : public DeliverySink {
 public:
    bool reserve(std::string_view) override {
        std::lock_guard lock(mutex_);
        if (room_ == 0) return false;
        room_--;
        return true;
    }
    void release(std::string_view) override {
        std::lock_guard lock(mutex_);
        room_++;
    }
    void accept(std::vector<ClaimedDelivery> more, std::size_t more_unclaimed) override {
        for (ClaimedDelivery& delivery : more) claimed.push_back(std::move(delivery));
        unclaimed += more_unclaimed;
    }
    void set_room(int room) {
        std::lock_guard lock(mutex_);
        room_ = room;
    }
    std::vector<ClaimedDelivery> claimed;
    std::size_t unclaimed = 0;

 private:
    std::mutex mutex_;
    int room_ = 0;
};

// Cannot take an organization's subscriptions `failures` times, as when its rows cannot be read.
class MoodyMatcher : public conformance::ExactMatcher {
 public:
    void load(std::string_view org, std::int64_t generation, std::vector<Webhook> webhooks) override {
        if (org == failing_org && failures-- > 0) throw std::runtime_error("the subscriptions cannot be read");
        conformance::ExactMatcher::load(org, generation, std::move(webhooks));
    }
    std::string failing_org = "org-a";
    std::atomic<int> failures{0};
};

// Redis, a store with org-a, and an ingest that runs while the test turns the event loop.
struct Pipeline {
    // `of_redis`: further words of redis-server's command line.
    explicit Pipeline(int shards = 3, std::vector<std::string> of_redis = {})
        : shards(shards), redis(std::move(of_redis)) {
        store = open();
        conformance::World::require(store->migrate().has_value());
        Organization org;
        org.id = org.name = "org-a";
        conformance::World::require(store->create_org(org).has_value());
        owned = conformance::take_parts(*store, "owner", shards);
    }
    ~Pipeline() { stop(); }

    std::unique_ptr<Store> open() {
        StoreOptions of_store;
        of_store.url = "sqlite:" + store_path();
        of_store.master_key = std::string(32, 'k');
        return std::move(*open_store(of_store));
    }
    [[nodiscard]] std::string store_path() const { return dir.path() + "/store.db"; }

    void start() {
        db = std::make_unique<DbExecutor>(open());
        options.redis.unix_path = redis.socket_path();
        options.key_prefix = kPrefix;
        options.shards = shards;
        options.owned = owned;
        ingest = std::make_unique<Ingest>(io.get_executor(), *db, matcher, sink, options);
        is_running = true;
        boost::asio::co_spawn(io, ingest->run(), [this](std::exception_ptr) { is_running = false; });
    }
    bool stop() {
        if (!ingest) return true;
        ingest->stop();
        bool ended = run_until(io, [this] { return !is_running; });
        if (ended) ingest.reset();
        db.reset();
        return ended;
    }

    std::vector<std::string> entry(const conformance::SampleEvent& event, int shard) const {
        return {"XADD",
                stream_key(kPrefix, shard),
                "*",
                "v",
                "1",
                "id",
                event.id,
                "org",
                event.org,
                "key",
                "key-1",
                "type",
                event.type,
                "source",
                "shop",
                "payload",
                event.payload,
                "ord",
                "",
                "tp",
                "",
                "via",
                "api",
                "at",
                std::to_string(event.at)};
    }
    // The ids that Redis answered for.
    void publish(const conformance::SampleEvent& event, int shard) {
        if (redis.command(entry(event, shard))->type == REDIS_REPLY_STRING) published.push_back(event.id);
    }
    void publish_many(int count, std::size_t payload_bytes = 100) {
        for (int i = 0; i < count; i++) {
            conformance::SampleEvent event{.org = "org-a"};
            event.payload = "{\"n\":\"" + std::string(payload_bytes, static_cast<char>('a' + i % 26)) + "\"}";
            publish(event, i % shards);
        }
    }
    // Entries in the streams, acknowledged or not.
    long long left() {
        long long sum = 0;
        for (int shard = 0; shard < shards; shard++) sum += redis.number({"XLEN", stream_key(kPrefix, shard)});
        return sum;
    }
    long long pending() {
        long long sum = 0;
        for (int shard = 0; shard < shards; shard++) {
            auto reply = redis.command({"XPENDING", stream_key(kPrefix, shard), "headgate"});
            if (reply->type == REDIS_REPLY_ARRAY) sum += reply->element[0]->integer;
        }
        return sum;
    }
    bool run_until_empty() {
        return run_until(io, [this] { return left() == 0; });
    }
    std::size_t missing() {
        std::size_t count = 0;
        for (const std::string& id : published) count += store->get_event("org-a", id).has_value() ? 0 : 1;
        return count;
    }
    [[nodiscard]] std::size_t events() { return static_cast<std::size_t>(store->totals()->events); }
    [[nodiscard]] const IngestCounters& counters() const { return ingest->counters(); }

    int shards;
    IngestOptions options;
    TempDir dir;
    RedisFixture redis;
    std::unique_ptr<Store> store;
    OwnedPartsPtr owned;
    boost::asio::io_context io;
    std::unique_ptr<DbExecutor> db;
    MoodyMatcher matcher;
    RecordingSink sink;
    std::unique_ptr<Ingest> ingest;
    bool is_running = false;
    std::vector<std::string> published;
};

}  // namespace headgate
