// The app's connections to its store, each on a thread of its own, and how they are opened when the server of a shared
// store may come later than we do. Next file: app.cpp.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <optional>
#include <string>

#include "sidecar/config.h"
#include "sidecar/io/db_executor.h"
#include "sidecar/settings.h"

namespace headgate {

class Stores {
 public:
    // `config` outlives the object.
    Stores(const Config& config, MasterKeys master_keys, std::shared_ptr<OwnServers> own_servers);

    // Opens all of them, or none, and brings the schema up to date; on a thread, as it may block for long.
    boost::asio::awaitable<Result<void>> open();
    // May this error of open() pass by itself? Not where a file is missing, a password wrong or the schema another's.
    [[nodiscard]] bool is_worth_waiting(const Error& error) const;

    // Only when they are open.
    [[nodiscard]] DbExecutor& writer() { return *writer_; }
    [[nodiscard]] DbExecutor& reader() { return *reader_; }
    [[nodiscard]] DbExecutor& counter() { return *counter_; }
    // Of their own where the store may have other instances: a slow batch must not make a renewal late, nor a purge a
    // batch.
    [[nodiscard]] DbExecutor& leases() { return leases_ ? *leases_ : *writer_; }
    [[nodiscard]] DbExecutor& chores() { return chores_ ? *chores_ : *writer_; }

    // Waits for what still runs on the threads.
    void join();

 private:
    Result<void> open_now();

    const Config& config_;
    const MasterKeys master_keys_;
    const std::shared_ptr<OwnServers> own_servers_;
    boost::asio::thread_pool opener_{1};
    std::optional<DbExecutor> writer_, reader_, counter_, leases_, chores_;
};

}  // namespace headgate
