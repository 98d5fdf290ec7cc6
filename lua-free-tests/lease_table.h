// The leases of a store as the Store interface promises them, in memory and on a clock that the test turns.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "sidecar/store/store.h"

namespace headgate {

class LeaseTable {
 public:
    LeaseTable(int shards, int lanes)
        : shards_(static_cast<std::size_t>(shards)), lanes_(static_cast<std::size_t>(lanes)) {}

    struct Row {
        std::string owner;
        std::int64_t epoch = 0;
        TimeMs until = 0;
    };

    // `may_take`: nobody else is taking at the moment.
    LeaseView renew(const LeaseRound& round, bool may_take = true) {
        std::string owner(round.owner);
        release(shards_, owner, round.released_shards);
        release(lanes_, owner, round.released_lanes);
        if (round.is_leaving) {
            for (auto* rows : {&shards_, &lanes_}) {
                for (Row& row : *rows) {
                    if (row.owner == owner) row = {"", row.epoch + 1, 0};
                }
            }
            alive_.erase(owner);
            return {};
        }
        alive_[owner] = round.now + kLeaseMs;
        std::erase_if(alive_, [&](const auto& entry) { return entry.second <= round.now; });
        LeaseView view;
        view.instances = static_cast<int>(alive_.size());
        auto rank = static_cast<std::size_t>(std::distance(alive_.begin(), alive_.find(owner)));
        for (const auto* rows : {&shards_, &lanes_}) {
            for (const Row& row : *rows) {
                if (row.owner == owner || row.until <= round.now) continue;
                view.next_end_ms = std::min(view.next_end_ms.value_or(kLeaseMs), row.until - round.now);
            }
        }
        view.shards = take(shards_, owner, rank, round.now, may_take, view.shards_excess, view.is_short);
        view.lanes = take(lanes_, owner, rank, round.now, may_take, view.lanes_excess, view.is_short);
        return view;
    }

    [[nodiscard]] const std::vector<Row>& shards() const { return shards_; }
    [[nodiscard]] const std::vector<Row>& lanes() const { return lanes_; }

 private:
    static void release(std::vector<Row>& rows, const std::string& owner, std::span<const int> parts) {
        for (int part : parts) {
            Row& row = rows[static_cast<std::size_t>(part)];
            if (row.owner == owner) row = {"", row.epoch + 1, 0};
        }
    }

    std::vector<Lease> take(std::vector<Row>& rows, const std::string& owner, std::size_t rank, TimeMs now,
                            bool may_take, int& excess, bool& is_short) {
        std::size_t share = rows.size() / alive_.size() + (rank < rows.size() % alive_.size() ? 1 : 0);
        std::size_t held = 0;
        for (Row& row : rows) {
            if (row.owner != owner) continue;
            row.until = now + kLeaseMs;
            held++;
        }
        for (Row& row : rows) {
            if (held >= share || !may_take) break;
            if (row.owner == owner || (!row.owner.empty() && row.until > now)) continue;
            row = {owner, row.epoch + 1, now + kLeaseMs};
            held++;
        }
        is_short = is_short || held < share;
        excess = static_cast<int>(held > share ? held - share : 0);
        std::vector<Lease> mine;
        for (std::size_t part = 0; part < rows.size(); part++) {
            if (rows[part].owner == owner) mine.push_back({static_cast<int>(part), rows[part].epoch});
        }
        return mine;
    }

    std::vector<Row> shards_, lanes_;
    std::map<std::string, TimeMs> alive_;  // until when
};

}  // namespace headgate
