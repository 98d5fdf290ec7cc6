// Who sent a request: a JWT of ours or an API key, checked by the sidecar itself, whatever nginx
// has checked before. Next: the handlers.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/ip_network.h"
#include "common/jwt.h"
#include "sidecar/api/call.h"

namespace headgate {

inline constexpr std::string_view kRealm = "headgate";

// The client's address. X-Forwarded-For is believed only from a trusted proxy or a unix socket, and then from its
// right end to the first address that is no trusted proxy: what stands further left is the client's own claim.
[[nodiscard]] std::optional<IpAddress> client_address(const ServerRequest& request,
                                                      const std::vector<IpNetwork>& trusted_proxies);

struct Credential {
    enum class Kind : std::uint8_t { kNone, kJwt, kApiKey, kAmbiguous } kind = Kind::kNone;
    std::string_view text;  // of the request
};
// Authorization: Bearer (a JWT, or a key beginning hg_) or X-API-Key. Two of them are ambiguous.
[[nodiscard]] Credential find_credential(const ServerRequest& request);

[[nodiscard]] ServerResponse unauthorized(std::string_view detail, bool credential_was_given);
[[nodiscard]] ServerResponse insufficient_scope(std::string_view scope);

struct Authentication {
    std::optional<Principal> principal;
    ServerResponse refusal;  // when there is no principal
};

class Authenticator {
 public:
    explicit Authenticator(const ApiServices& services);
    // `request` outlives the call. Keys and organizations are read from the store at most once a second each.
    boost::asio::awaitable<Authentication> authenticate(const ServerRequest& request);

 private:
    // A credential's key and organization, as the store had them at most a second ago.
    struct Known {
        ApiKey key;  // without id: the token names no key
        Organization org;
        std::chrono::steady_clock::time_point until;
    };
    boost::asio::awaitable<Authentication> by_api_key(const ServerRequest& request, std::string_view text);
    boost::asio::awaitable<Authentication> by_jwt(const ServerRequest& request, std::string_view text);
    boost::asio::awaitable<Result<Known>> look_up(std::string hash, std::string org, std::string key_id);
    [[nodiscard]] std::optional<ServerResponse> refuse(const ServerRequest& request, const Known& known,
                                                       std::string_view token_allowed_ips) const;

    const ApiServices& services_;
    JwtSource source_;
    std::unordered_map<std::string, Known> known_;
};

}  // namespace headgate
