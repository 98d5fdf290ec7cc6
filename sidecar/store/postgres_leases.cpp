// Leases of shards and lanes among the living instances, on the server's clock; see store.h (leases) and the order of
// locks in postgres_store.h.
#include <algorithm>

#include "sidecar/base/failpoint.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {
namespace {

constexpr TimeMs kDeadInstanceKeptMs = 3'600'000;

constexpr const char* kClock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
// One takes at a time; who does not get this lock takes nothing in this round, and is short. "leases" as bytes.
constexpr const char* kTryTaking = "SELECT pg_try_advisory_xact_lock(119182902125939)";

constexpr const char* kRelease =
    "WITH mine AS (SELECT kind, part FROM leases WHERE owner = $1 AND kind = $2 AND (part = ANY ($3) OR part >= $4)"
    " ORDER BY part FOR UPDATE)"
    " UPDATE leases l SET owner = '', until = 0, epoch = epoch + 1 FROM mine"
    " WHERE l.kind = mine.kind AND l.part = mine.part";
constexpr const char* kTake =
    "WITH free AS (SELECT kind, part FROM leases WHERE kind = $1 AND part < $2 AND (owner = '' OR until <= $3)"
    "  ORDER BY part LIMIT $4 FOR UPDATE SKIP LOCKED)"
    " UPDATE leases l SET owner = $5, until = $6, epoch = epoch + 1 FROM free"
    " WHERE l.kind = free.kind AND l.part = free.part RETURNING l.part, l.epoch";

struct Parts {
    int total = 0;
    int rows = 0;  // that exist
    std::vector<Lease> held;
    bool has_free = false;
};

// Fair: parts divided by instances, the remainder to those of the lowest rank.
int share_of(int parts, int instances, int rank) { return parts / instances + (rank < parts % instances ? 1 : 0); }

}  // namespace

Result<LeaseView> PostgresStore::renew_leases(const LeaseRound& round) {
    return write([&] {
        LeaseView view;
        if (round.is_leaving) {
            for (const char* kind : {"shard", "lane"})
                db_.send(kRelease, round.owner, std::string_view(kind), PgArray::numbers(), 0);
            db_.send("DELETE FROM instances WHERE owner = $1", round.owner);
            db_.flush();
            return view;
        }
        auto clock = db_.query(kClock);
        clock.step();
        const TimeMs now = clock.number(0);
        const TimeMs until = now + kLeaseMs;
        db_.send("INSERT INTO instances (owner, until) VALUES ($1, $2) ON CONFLICT (owner) DO UPDATE SET until = $2",
                 round.owner, until);
        db_.send(kRelease, round.owner, std::string_view("shard"), round.released_shards, round.shards);
        db_.send(kRelease, round.owner, std::string_view("lane"), round.released_lanes, round.lanes);
        db_.send("UPDATE leases SET until = $1 WHERE owner = $2", until, round.owner);
        // The server's clock was set back: who died before would be waited for until the old time comes again. The
        // living set their own times anew in their next round.
        for (const char* ahead :
             {"UPDATE leases SET until = $1 WHERE until > $2", "UPDATE instances SET until = $1 WHERE until > $2"}) {
            db_.send(ahead, until, until + kClockAheadMs);
        }
        std::size_t locked = db_.send(kTryTaking);
        std::size_t living = db_.send("SELECT owner FROM instances WHERE until > $1 ORDER BY owner", now);
        std::size_t leases = db_.send(
            "SELECT kind, part, owner, epoch, owner = '' OR until <= $1, until FROM leases ORDER BY kind, part", now);
        db_.flush();

        auto locked_row = db_.take(locked);
        const bool may_take = locked_row.step() && locked_row.number(0) != 0;
        auto instances = db_.take(living);
        int rank = 0;
        for (view.instances = 0; instances.step(); view.instances++) {
            if (instances.view(0) == round.owner) rank = view.instances;
        }
        Parts shards{.total = round.shards, .held = {}};
        Parts lanes{.total = round.lanes, .held = {}};
        auto rows = db_.take(leases);
        while (rows.step()) {
            Parts& parts = rows.view(0) == "shard" ? shards : lanes;
            if (rows.number(1) >= parts.total) continue;
            parts.rows++;
            if (rows.view(2) == round.owner) parts.held.push_back({static_cast<int>(rows.number(1)), rows.number(3)});
            if (rows.number(4) != 0) parts.has_free = true;
            if (rows.view(2) != round.owner && rows.number(5) > now) {
                view.next_end_ms = std::min(view.next_end_ms.value_or(kLeaseMs), rows.number(5) - now);
            }
        }
        auto share = [&](const Parts& parts) { return share_of(parts.total, view.instances, rank); };
        auto balance = [&](std::string_view kind, Parts& parts, std::vector<Lease>& held, int& excess) {
            const int wanted = share(parts) - static_cast<int>(parts.held.size());
            held = std::move(parts.held);
            excess = std::max(0, -wanted);
            if (wanted <= 0) return;
            if (!may_take) return;
            if (parts.rows < parts.total) {
                db_.send(
                    "INSERT INTO leases (kind, part, owner, epoch, until) SELECT $1, part, '', 0, 0"
                    " FROM generate_series(0, $2 - 1) part ON CONFLICT DO NOTHING",
                    kind, parts.total);
            } else if (!parts.has_free) {
                return;
            }
            auto taken = db_.query(kTake, kind, parts.total, now, wanted, round.owner, until);
            while (taken.step()) held.push_back({static_cast<int>(taken.number(0)), taken.number(1)});
            std::sort(held.begin(), held.end(), [](const Lease& a, const Lease& b) { return a.part < b.part; });
        };
        balance("shard", shards, view.shards, view.shards_excess);
        failpoint("in_renew");
        balance("lane", lanes, view.lanes, view.lanes_excess);
        view.is_short = std::ssize(view.shards) < share(shards) || std::ssize(view.lanes) < share(lanes);
        if (may_take) db_.send("DELETE FROM instances WHERE until < $1", now - kDeadInstanceKeptMs);
        return view;
    });
}

// ---- what other transactions ask ------------------------------------------------------------

std::size_t PostgresStore::send_shard_locks(const std::vector<int>& shards) {
    return db_.send(
        "SELECT part, epoch FROM leases WHERE kind = 'shard' AND part = ANY ($1) ORDER BY part FOR KEY SHARE",
        std::span<const int>(shards));
}

void PostgresStore::check_shards(PgResult rows, const std::vector<int>& shards, Epochs epochs) {
    auto lost = [](int shard) -> PgError {
        return PgError({ErrorCode::kLeaseLost, "the lease of shard " + std::to_string(shard) + " is not held"});
    };
    std::size_t found = 0;
    while (rows.step()) {
        auto part = static_cast<std::size_t>(rows.number(0));
        if (part >= epochs.size() || epochs[part] == 0 || epochs[part] != rows.number(1)) {
            throw lost(static_cast<int>(part));
        }
        found++;
    }
    if (found != shards.size()) throw lost(shards.back());
}

std::size_t PostgresStore::send_lane_locks(const std::vector<int>& sorted_lanes) {
    return db_.send(
        "SELECT part, epoch FROM leases WHERE kind = 'lane' AND part = ANY ($1) ORDER BY part FOR KEY SHARE",
        std::span<const int>(sorted_lanes));
}

std::vector<bool> PostgresStore::held_lanes(PgResult rows, Epochs epochs) {
    std::vector<bool> held(epochs.size());
    while (rows.step()) {
        auto part = static_cast<std::size_t>(rows.number(0));
        if (part < epochs.size()) held[part] = epochs[part] != 0 && epochs[part] == rows.number(1);
    }
    return held;
}

std::vector<bool> PostgresStore::held_lanes_now(const std::vector<int>& sorted_lanes, Epochs epochs) {
    std::size_t rows = send_lane_locks(sorted_lanes);
    db_.flush();
    return held_lanes(db_.take(rows), epochs);
}

}  // namespace headgate
