// Waiting for what was published before: GET /inbox sees what was answered 201. Input: the streams, and what ingest
// says that it has persisted. One for all readers of the streams: a shard may go from one to another, or to another
// instance, while somebody waits.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/io/redis_link.h"
#include "sidecar/store/owned_parts.h"

namespace headgate {

class CatchUp : public std::enable_shared_from_this<CatchUp> {
 public:
    // `owned`: the shards that we read, until follow() says otherwise.
    CatchUp(boost::asio::any_io_executor executor, std::shared_ptr<RedisLink> link, std::string key_prefix, int shards,
            OwnedPartsPtr owned);
    // As of Ingest::wait_until_caught_up, for all shards, whoever reads them.
    boost::asio::awaitable<bool> wait(std::chrono::milliseconds timeout);
    // Everything of this shard is in the store up to there.
    void note_persisted(const StreamPosition& newest);
    void wake();  // after note_persisted, for some shards
    void follow(OwnedPartsPtr owned);
    // Who waits is told that it is not there; so is who comes later.
    void stop();

 private:
    using Positions = std::vector<StreamPosition>;
    static boost::asio::awaitable<bool> run(std::shared_ptr<CatchUp> self, std::chrono::milliseconds timeout);
    boost::asio::awaitable<Result<Positions>> undrained();
    boost::asio::awaitable<Result<Positions>> still_in_streams(Positions targets);
    [[nodiscard]] bool is_persisted(const StreamPosition& target) const;
    [[nodiscard]] std::string key_of(int shard) const;

    boost::asio::any_io_executor executor_;
    std::shared_ptr<RedisLink> link_;
    std::string key_prefix_;
    OwnedPartsPtr owned_;
    Positions persisted_;                              // the newest of each shard
    std::vector<boost::asio::steady_timer*> waiting_;  // of run(), in its frames
    bool stopping_ = false;
};

}  // namespace headgate
