// What the configuration's values refer to, opened and checked: secrets, addresses, the guard of
// webhook targets, the store. `serve`, the other commands and check-config share it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/hmac.h"
#include "common/jwks.h"
#include "common/result.h"
#include "sidecar/base/text.h"
#include "sidecar/config.h"
#include "sidecar/deliver/http_client.h"
#include "sidecar/deliver/target_guard.h"
#include "sidecar/io/redis_client.h"
#include "sidecar/store/store.h"

namespace headgate {

// 32 bytes each.
struct MasterKeys {
    std::string current;
    std::vector<std::string> previous;
};

struct Secrets {
    HmacSha256Key pepper;
    std::string pepper_fp;
    VerificationKey token_key;
    MasterKeys master_keys;
};

// Every problem is in the message, one line each.
[[nodiscard]] Result<Secrets> load_secrets(const Config& config);
// The master keys alone: what commands need that only open the store.
[[nodiscard]] Result<MasterKeys> load_master_keys(const Config& config);
[[nodiscard]] Result<HmacSha256Key> load_pepper(const Config& config);

[[nodiscard]] Result<RedisAddress> events_redis(const Config& config);
[[nodiscard]] Result<RedisAddress> keys_redis(const Config& config);

// The ceiling of networks, and our own Redis, store, API and proxy, which no webhook may reach: host names
// are resolved, and this machine's addresses listed, now.
[[nodiscard]] TargetGuardOptions guard_options(const Config& config);
// For the servers that are found later: told by connections, asked by the guard. Knows this machine's addresses.
[[nodiscard]] std::shared_ptr<OwnServers> make_own_servers();

// Connections kept, and the proxy with its credentials.
[[nodiscard]] Result<HttpClientOptions> http_client_options(const Config& config);

// Can the store have other instances of `serve`? SQLite's file lock allows one.
[[nodiscard]] bool is_shared_store(const Config& config);

// With the password of store.password_file.
[[nodiscard]] Result<StoreOptions> store_options(const Config& config, const MasterKeys& master_keys);
enum class StoreUse : std::uint8_t { kServe, kBeside };  // kBeside: another process may hold it
[[nodiscard]] Result<std::unique_ptr<Store>> open_configured_store(const Config& config, const MasterKeys& master_keys,
                                                                   StoreUse use,
                                                                   std::shared_ptr<OwnServers> own_servers = {});

}  // namespace headgate
