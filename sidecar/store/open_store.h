// The engines' openers, behind open_store() of store.h.
#pragma once

#include "sidecar/store/store.h"

namespace headgate {

[[nodiscard]] Result<std::unique_ptr<Store>> open_sqlite_store(const StoreOptions& options);
[[nodiscard]] Result<std::unique_ptr<Store>> open_postgres_store(const StoreOptions& options);

[[nodiscard]] inline bool is_postgres_url(std::string_view url) {
    return url.starts_with("postgresql://") || url.starts_with("postgres://");
}

// The TCP addresses that a store URL names, every host of a list; none of SQLite, unix sockets, or what cannot be read.
[[nodiscard]] std::vector<std::pair<std::string, std::uint16_t>> store_addresses(const std::string& url);

}  // namespace headgate
