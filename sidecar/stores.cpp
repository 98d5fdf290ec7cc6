// See stores.h.
#include "sidecar/stores.h"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>
#include <vector>

namespace headgate {
namespace asio = boost::asio;

Stores::Stores(const Config& config, MasterKeys master_keys, std::shared_ptr<OwnServers> own_servers)
    : config_(config), master_keys_(std::move(master_keys)), own_servers_(std::move(own_servers)) {}

asio::awaitable<Result<void>> Stores::open() {
    auto work = [this]() -> asio::awaitable<Result<void>> { co_return open_now(); };
    co_return co_await asio::co_spawn(opener_, work, asio::use_awaitable);
}

Result<void> Stores::open_now() {
    auto open_one = [this](StoreUse use) { return open_configured_store(config_, master_keys_, use, own_servers_); };
    auto first = open_one(StoreUse::kServe);
    if (!first) return tl::unexpected(first.error());
    auto migrated = (*first)->migrate();
    if (!migrated) return tl::unexpected(migrated.error());
    std::vector<std::optional<DbExecutor>*> others = {&reader_, &counter_};
    if (is_shared_store(config_)) others.insert(others.end(), {&leases_, &chores_});
    std::vector<std::unique_ptr<Store>> stores;
    for (std::size_t i = 0; i < others.size(); i++) {
        auto another = open_one(StoreUse::kBeside);
        if (!another) return tl::unexpected(another.error());
        stores.push_back(std::move(*another));
    }
    spdlog::info("store_open migrations_applied={}", *migrated);
    writer_.emplace(std::move(*first));
    for (std::size_t i = 0; i < others.size(); i++) others[i]->emplace(std::move(stores[i]));
    return {};
}

bool Stores::is_worth_waiting(const Error& error) const {
    return is_shared_store(config_) && error.code == ErrorCode::kUnavailable;
}

void Stores::join() {
    opener_.join();
    for (auto* executor : {&writer_, &reader_, &counter_, &leases_, &chores_}) {
        if (*executor) (*executor)->join();
    }
}

}  // namespace headgate
