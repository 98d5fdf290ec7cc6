// A real store, a real dispatcher and a real loop, as one process after another would have them; and a receiver that
// verifies what it gets.
#pragma once

#include <spdlog/spdlog.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "common/event_id.h"
#include "common/webhook_signature.h"
#include "lua-free-tests/loopback_server.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/deliver/dispatcher.h"
#include "sidecar/match/subscriptions.h"
#include "sidecar/store/lane.h"

namespace headgate {

using Connection = LoopbackServer::Connection;
using std::chrono::milliseconds;
using std::chrono::seconds;

inline constexpr std::string_view kSecret = "a-secret-of-the-webhook";

struct TempDir {
    std::filesystem::path path;
    TempDir() {
        std::string name = (std::filesystem::temp_directory_path() / "headgate-dispatcher-XXXXXX").string();
        if (mkdtemp(name.data()) == nullptr) {
            std::abort();
        }
        path = name;
    }
    ~TempDir() { std::filesystem::remove_all(path); }
};

// One "process": its store connection, its thread, its loop. Several may follow each other on one directory.
struct Process {
    boost::asio::io_context loop;
    std::unique_ptr<DbExecutor> db;
    Subscriptions subscriptions;
    std::unique_ptr<Dispatcher> dispatcher;
    headgate::OwnedPartsPtr owned;
    bool has_stopped = false;
    std::vector<std::string> published;          // ids of events, in order
    static inline std::uint64_t stream_seq = 0;  // goes on over several lives

    static std::unique_ptr<Store> open(const TempDir& dir) {
        StoreOptions options;
        options.url = "sqlite:" + (dir.path / "test.db").string();
        options.master_key = std::string(32, 'k');
        auto store = open_store(options);
        if (!store || !(*store)->migrate()) {
            std::abort();
        }
        return std::move(*store);
    }

    explicit Process(const TempDir& dir, int max_in_flight = 256) {
        auto store = open(dir);
        headgate::LeaseRound round;
        round.owner = "test";
        round.shards = 8;
        round.lanes = headgate::kLanes;
        round.now = wall_clock_ms();
        owned = headgate::owned_parts(store->renew_leases(round).value(), round.shards, round.lanes);
        db = std::make_unique<DbExecutor>(std::move(store));
        DispatcherOptions options;
        options.max_in_flight = max_in_flight;
        options.owned = owned;
        options.guard.allow_networks = {parse_network("127.0.0.0/8").value()};
        dispatcher = std::make_unique<Dispatcher>(loop.get_executor(), *db, options);
        boost::asio::co_spawn(loop, dispatcher->run(), boost::asio::detached);
    }
    // What a crash leaves: nothing is written any more.
    ~Process() {
        dispatcher.reset();
        db->join();
    }

    bool run_until(const std::function<bool()>& condition, milliseconds limit = seconds(30)) {
        const auto deadline = std::chrono::steady_clock::now() + limit;
        while (!condition()) {
            if (std::chrono::steady_clock::now() >= deadline) {
                return false;
            }
            loop.run_one_for(milliseconds(20));
        }
        return true;
    }

    bool stop(milliseconds grace) {
        boost::asio::co_spawn(loop, dispatcher->stop(grace), [this](const std::exception_ptr&) { has_stopped = true; });
        return run_until([this] { return has_stopped; });
    }

    // Persists events as ingest does, and hands on what was claimed.
    // `keys`: an ordering key for each, or none.
    void publish(const std::vector<std::string>& types, std::size_t payload_bytes = 0,
                 const std::vector<std::string>& keys = {}) {
        std::vector<std::string> ids;
        std::vector<EventRecord> records;
        const std::string payload = R"({"n":")" + std::string(payload_bytes, 'x') + "\"}";
        for (std::size_t i = 0; i < types.size(); ++i) {
            ids.push_back(uuid7(wall_clock_ms()));
            published.push_back(ids.back());
        }
        for (std::size_t i = 0; i < types.size(); ++i) {
            EventRecord record;
            record.id = ids[i];
            record.org = "org_1";
            record.key_id = "key_1";
            record.type = types[i];
            record.source = "test";
            record.payload = payload;
            record.via = "api";
            if (!keys.empty()) {
                record.ordering_key = keys[i];
            }
            record.at_ms = wall_clock_ms();
            records.push_back(record);
        }
        bool done = false;
        boost::asio::co_spawn(loop, persist(records), [&](const std::exception_ptr& error) {
            if (error) {
                std::rethrow_exception(error);
            }
            done = true;
        });
        if (!run_until([&] { return done; })) {
            std::abort();
        }
    }

    struct Persist {
        std::span<const EventRecord> records;
        Process* process;
        Result<PersistOutcome> operator()(Store& store) const {
            PersistBatch batch;
            batch.shard_epochs = process->owned->shard_epochs;
            batch.lane_epochs = process->owned->lane_epochs;
            batch.events = records;
            std::vector<StreamPosition> positions;
            for (std::size_t i = 0; i < records.size(); ++i) {
                positions.push_back({0, 1, ++process->stream_seq});
            }
            batch.positions = positions;
            batch.now = wall_clock_ms();
            batch.claim = [this](std::string_view webhook_id) { return process->dispatcher->reserve(webhook_id); };
            return store.persist(batch, process->subscriptions);
        }
    };

    boost::asio::awaitable<void> persist(const std::vector<EventRecord>& records) {
        Persist work{records, this};
        auto outcome = co_await db->run(std::move(work));
        if (!outcome) {
            throw std::runtime_error(outcome.error().message);
        }
        std::vector<std::shared_ptr<const Event>> events(records.size());
        std::vector<ClaimedDelivery> claimed;
        std::size_t unclaimed = 0;
        for (const PersistedDelivery& delivery : outcome->deliveries) {
            if (!delivery.claimed) {
                ++unclaimed;
                continue;
            }
            auto& event = events[delivery.event_index];
            if (event == nullptr) {
                const EventRecord& record = records[delivery.event_index];
                Event made;
                made.id = record.id;
                made.org = record.org;
                made.type = record.type;
                made.source = record.source;
                made.payload = record.payload;
                made.created_at = record.at_ms;
                event = std::make_shared<const Event>(std::move(made));
            }
            const auto lane = static_cast<std::size_t>(lane_of(delivery.webhook_id));
            claimed.push_back(
                {delivery.delivery_id, delivery.webhook_id, event, delivery.generation, 0, owned->lane_epochs[lane]});
        }
        dispatcher->accept(std::move(claimed), unclaimed);
    }

    Store::Totals totals() {
        struct Ask {
            Result<Store::Totals> operator()(Store& store) const { return store.totals(); }
        };
        Store::Totals totals;
        bool done = false;
        boost::asio::co_spawn(loop, db->run(Ask{}), [&](const std::exception_ptr&, Result<Store::Totals> result) {
            totals = result.value_or(Store::Totals{});
            done = true;
        });
        run_until([&] { return done; });
        return totals;
    }
    bool run_until_successes(std::int64_t wanted, milliseconds limit = seconds(60)) {
        return run_until([&] { return static_cast<std::int64_t>(dispatcher->counters().delivered) >= wanted; },
                         limit) &&
               run_until([&] { return totals().success >= wanted; }, limit);
    }
};

inline void create_org(Store& store) {
    Organization org;
    org.id = "org_1";
    org.name = "One";
    org.allow_networks = {"*"};
    org.created_at = org.updated_at = wall_clock_ms();
    if (!store.create_org(org)) {
        std::abort();
    }
}

inline Webhook webhook(std::string id, std::string url, std::vector<std::string> events = {"*"}) {
    Webhook made;
    made.id = std::move(id);
    made.org = "org_1";
    made.name = made.id;
    made.url = std::move(url);
    made.events = std::move(events);
    made.secrets = {{std::string(kSecret), wall_clock_ms(), std::nullopt}};
    made.created_at = made.updated_at = wall_clock_ms();
    return made;
}

// Makes the store before any process opens it.
inline void prepare(const TempDir& dir, const std::vector<Webhook>& webhooks) {
    auto store = Process::open(dir);
    create_org(*store);
    for (const Webhook& each : webhooks) {
        if (!store->create_webhook(each)) {
            std::abort();
        }
    }
}

// What a receiver got, by webhook-id.
struct Inbox {
    std::mutex mutex;
    std::map<std::string, int> ids;
    std::atomic<int> count{0};
    std::atomic<int> bad_signatures{0};

    void take(const LoopbackServer::Request& request) {
        std::string head = request.head;
        std::erase(head, '\r');
        const std::string id(find_header(head, "webhook-id"));
        const HmacSha256Key key(kSecret);
        const bool is_good =
            verify_standard(key, id, find_header(head, "webhook-timestamp"), find_header(head, "webhook-signature"),
                            request.body, wall_clock_ms() / 1000, 30) &&
            verify_sha256_hex(key, find_header(head, "x-webhook-signature"), request.body) &&
            request.body.find("\"id\":\"" + id + "\"") != std::string::npos;
        bad_signatures += is_good ? 0 : 1;
        const std::lock_guard lock(mutex);
        ++ids[id];
        ++count;
    }
    LoopbackServer::Handler answering(int status) {
        return [this, status](Connection& connection) {
            while (const auto request = connection.read_request()) {
                take(*request);
                if (!connection.respond(status)) {
                    return;
                }
            }
        };
    }
};

inline std::vector<std::string> types(std::size_t count) { return std::vector<std::string>(count, "order.created"); }

}  // namespace headgate
