// Making and ending the groups; see ingest_groups.h.
//
// A group that is no longer wanted is told to stop; its shards go to a new one when it has ended, after the batch that
// it has in hand is in the store. What it could not acknowledge is pending: the new one reads it again, from 0. One
// whose shards are no longer ours is not told to stop while it works: first its last read is answered, and what that
// gave is persisted and acknowledged. Cut short, the read might still take entries along that the next owner would find
// late.
#include "sidecar/ingest/ingest_groups.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <list>

#include "sidecar/base/wall_clock.h"
#include "sidecar/ingest/stream_groups.h"

namespace headgate {
namespace asio = boost::asio;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kPlanInterval{1000};  // also when nothing is heard: some shard may have nobody to read it

struct Group {
    StreamGroup streams;
    std::shared_ptr<Ingest> ingest;
    std::int64_t started_ms = wall_clock_ms();
    bool is_stopping = false;
};

bool overlaps(const StreamGroup& a, const StreamGroup& b) {
    return std::any_of(a.shards.begin(), a.shards.end(), [&b](int shard) {
        return std::find(b.shards.begin(), b.shards.end(), shard) != b.shards.end();
    });
}

void add_counts(IngestTotals& totals, const IngestCounters& counters) {
    totals.drained += counters.drained;
    totals.duplicates += counters.duplicates;
    totals.quarantined += counters.quarantined;
    totals.batches += counters.batches;
    totals.persist_errors += counters.persist_errors;
}

}  // namespace

struct IngestGroups::Impl : std::enable_shared_from_this<Impl> {
    Impl(asio::any_io_executor executor_in, DbExecutor& db_in, SubscriptionMatcher& matcher_in, DeliverySink& sink_in,
         IngestOptions options_in)
        : executor(std::move(executor_in)),
          db(db_in),
          matcher(matcher_in),
          sink(sink_in),
          options(std::move(options_in)),
          link(make_redis_link(executor, options.redis, kIngestCommandTimeout)),
          catch_up(std::make_shared<CatchUp>(executor, link, options.key_prefix, options.shards, options.owned)),
          changed(executor) {}

    asio::any_io_executor executor;
    DbExecutor& db;
    SubscriptionMatcher& matcher;
    DeliverySink& sink;
    IngestOptions options;
    std::shared_ptr<RedisLink> link;
    std::shared_ptr<CatchUp> catch_up;
    asio::steady_timer changed;  // cancelled when the groups may have to be others
    std::list<std::shared_ptr<Group>> groups;
    IngestTotals of_ended;
    std::int64_t unserved_since_ms = 0;  // some shard has nobody to be read from, since then; 0: none
    bool is_dirty = false;
    bool is_running = false;
    bool stopping = false;
    std::exception_ptr thrown;  // by a group

    void wake() {
        is_dirty = true;
        changed.cancel();
    }

    void start(const StreamGroup& streams) {
        IngestOptions of_group = options;
        of_group.link = link;
        of_group.catch_up = catch_up;
        of_group.server = streams.server;
        of_group.owned = owned_of_group(*options.owned, streams);
        auto group = std::make_shared<Group>();
        group->streams = streams;
        group->ingest = std::make_shared<Ingest>(executor, db, matcher, sink, std::move(of_group));
        groups.push_back(group);
        asio::co_spawn(executor, group->ingest->run(),
                       [self = shared_from_this(), group](const std::exception_ptr& why) { self->ended(group, why); });
    }

    void ended(const std::shared_ptr<Group>& group, const std::exception_ptr& why) {
        add_counts(of_ended, group->ingest->counters());
        groups.remove(group);
        if (why) {
            thrown = why;
            stop();
        }
        wake();
    }

    void stop_group(Group& group) {
        if (group.is_stopping) return;
        group.is_stopping = true;
        group.ingest->stop();
    }

    [[nodiscard]] bool is_owned(const StreamGroup& streams) const {
        return std::any_of(streams.shards.begin(), streams.shards.end(), [this](int shard) {
            return options.owned->shard_epochs[static_cast<std::size_t>(shard)] != 0;
        });
    }

    void plan() {
        std::vector<StreamGroup> wanted = stream_groups(*options.owned, *link, options.key_prefix);
        for (const auto& group : groups) {
            auto becomes = std::find_if(wanted.begin(), wanted.end(), [this, &group](const StreamGroup& streams) {
                return may_become(group->streams, streams, *link);
            });
            if (becomes != wanted.end()) {
                group->streams = *becomes;
                continue;
            }
            bool is_working = std::any_of(group->streams.shards.begin(), group->streams.shards.end(),
                                          [&group](int shard) { return group->ingest->is_shard_in_use(shard); });
            if (group->is_stopping || (is_working && !is_owned(group->streams))) continue;
            spdlog::info("ingest.group_ends server={} first_shard={}", group->streams.server,
                         group->streams.shards.empty() ? -1 : group->streams.shards.front());
            stop_group(*group);
        }
        std::size_t shards = 0;
        for (const StreamGroup& streams : wanted) {
            shards += streams.shards.size();
            bool is_taken = std::any_of(groups.begin(), groups.end(), [this, &streams](const auto& group) {
                return may_become(group->streams, streams, *link) || overlaps(group->streams, streams);
            });
            if (!is_taken) start(streams);
        }
        const auto& epochs = options.owned->shard_epochs;
        auto owned = epochs.size() - static_cast<std::size_t>(std::count(epochs.begin(), epochs.end(), 0));
        if (shards == owned) unserved_since_ms = 0;
        if (shards < owned && unserved_since_ms == 0) unserved_since_ms = wall_clock_ms();
    }

    static asio::awaitable<void> run(std::shared_ptr<Impl> self) {
        std::weak_ptr<Impl> weak = self;
        self->link->on_change([weak] {
            if (auto impl = weak.lock()) impl->wake();
        });
        self->is_running = true;
        while (!self->stopping || !self->groups.empty()) {
            self->is_dirty = false;
            if (!self->stopping) self->plan();
            if (self->is_dirty) continue;
            self->changed.expires_after(kPlanInterval);
            boost::system::error_code ignored;
            co_await self->changed.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
        self->link->on_change(nullptr);
        self->link->close();
        if (self->thrown) std::rethrow_exception(self->thrown);
    }

    // At once: a shard that was lost must not be read once more.
    void follow(OwnedPartsPtr owned) {
        options.owned = std::move(owned);
        catch_up->follow(options.owned);
        if (!is_running || stopping) return;
        plan();
        for (const auto& group : groups) group->ingest->follow(owned_of_group(*options.owned, group->streams));
    }

    [[nodiscard]] bool is_shard_in_use(int shard) const {
        return std::any_of(groups.begin(), groups.end(),
                           [shard](const auto& group) { return group->ingest->is_shard_in_use(shard); });
    }

    void stop() {
        stopping = true;
        catch_up->stop();
        for (const auto& group : groups) stop_group(*group);
        wake();
    }

    [[nodiscard]] IngestTotals totals() const {
        IngestTotals sum = of_ended;
        if (unserved_since_ms != 0) sum.last_redis_reply_ms = unserved_since_ms;
        for (const auto& group : groups) {
            const IngestCounters& counters = group->ingest->counters();
            add_counts(sum, counters);
            std::int64_t replied = std::max<std::int64_t>(counters.last_redis_reply_ms, group->started_ms);
            sum.last_redis_reply_ms = std::min(sum.last_redis_reply_ms, replied);
            std::int64_t undrained = counters.oldest_undrained_ms;
            if (undrained != 0 && (sum.oldest_undrained_ms == 0 || undrained < sum.oldest_undrained_ms))
                sum.oldest_undrained_ms = undrained;
            std::int64_t refused = counters.refused_since_ms;
            if (refused != 0 && (sum.refused_since_ms == 0 || refused < sum.refused_since_ms))
                sum.refused_since_ms = refused;
        }
        return sum;
    }
};

IngestGroups::IngestGroups(asio::any_io_executor executor, DbExecutor& db, SubscriptionMatcher& matcher,
                           DeliverySink& sink, IngestOptions options)
    : impl_(std::make_shared<Impl>(std::move(executor), db, matcher, sink, std::move(options))) {}

IngestGroups::~IngestGroups() = default;

asio::awaitable<void> IngestGroups::run() { return Impl::run(impl_); }
void IngestGroups::stop() { impl_->stop(); }
void IngestGroups::follow(OwnedPartsPtr owned) { impl_->follow(std::move(owned)); }
bool IngestGroups::is_shard_in_use(int shard) const { return impl_->is_shard_in_use(shard); }
IngestTotals IngestGroups::counters() const { return impl_->totals(); }
asio::awaitable<bool> IngestGroups::wait_until_caught_up(milliseconds timeout) {
    return impl_->catch_up->wait(timeout);
}

}  // namespace headgate
