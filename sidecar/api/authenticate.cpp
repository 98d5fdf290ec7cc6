// Authentication of the management API; see authenticate.h.
#include "sidecar/api/authenticate.h"

#include <algorithm>

#include "common/api_key.h"
#include "common/scopes.h"
#include "sidecar/api/reply.h"
#include "sidecar/base/text.h"
#include "sidecar/base/wall_clock.h"

namespace headgate {
namespace {

constexpr std::chrono::seconds kKnownFor{1};
constexpr std::size_t kKnownMax = 4096;

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

bool is_trusted(const IpAddress& address, const std::vector<IpNetwork>& networks) {
    return std::any_of(networks.begin(), networks.end(),
                       [&](const auto& network) { return network.contains(address); });
}

Authentication refused(ServerResponse response) { return {std::nullopt, std::move(response)}; }

// What the DB thread does for look_up. A named function object: its members travel by value.
struct ReadKnown {
    std::string hash, org, key_id;
    Result<std::pair<ApiKey, Organization>> operator()(Store& store) const {
        ApiKey key;
        if (!hash.empty() || !key_id.empty()) {
            auto found = hash.empty() ? store.get_key(org, key_id) : store.find_key_by_hash(hash);
            if (!found) return tl::unexpected(found.error());
            key = std::move(*found);
        }
        auto organization = store.get_org(hash.empty() ? org : key.org);
        if (!organization) return tl::unexpected(organization.error());
        return std::pair(std::move(key), std::move(*organization));
    }
};

}  // namespace

std::optional<IpAddress> client_address(const ServerRequest& request, const std::vector<IpNetwork>& trusted_proxies) {
    std::optional<IpAddress> address;
    if (!request.peer.empty()) {
        address = parse_ip(request.peer);
        if (!address || !is_trusted(*address, trusted_proxies)) return address;
    }
    std::string forwarded;
    for (const auto& [name, value] : request.headers)
        if (name == "x-forwarded-for") forwarded += (forwarded.empty() ? "" : ",") + value;
    std::string_view rest = forwarded;
    while (!rest.empty()) {
        auto comma = rest.rfind(',');
        auto entry = trimmed(comma == std::string_view::npos ? rest : rest.substr(comma + 1));
        rest = comma == std::string_view::npos ? std::string_view() : rest.substr(0, comma);
        auto parsed = parse_ip(entry);
        if (!parsed) return std::nullopt;  // nobody can say who it was: fails closed
        address = parsed;
        if (!is_trusted(*parsed, trusted_proxies)) break;
    }
    return address;
}

Credential find_credential(const ServerRequest& request) {
    std::size_t authorizations = request.header_count("authorization");
    std::size_t keys = request.header_count("x-api-key");
    if (authorizations + keys > 1) return {Credential::Kind::kAmbiguous, {}};
    if (keys == 1) return {Credential::Kind::kApiKey, trimmed(request.header("x-api-key"))};
    std::string_view value = request.header("authorization");
    if (to_lower(value.substr(0, 7)) != "bearer ") return {};
    value = trimmed(value.substr(7));
    return {value.starts_with("hg_") ? Credential::Kind::kApiKey : Credential::Kind::kJwt, value};
}

ServerResponse unauthorized(std::string_view detail, bool credential_was_given) {
    auto response = problem_response(401, detail);
    std::string challenge = "Bearer realm=\"" + std::string(kRealm) + "\"";
    if (credential_was_given)
        challenge += ", error=\"invalid_token\", error_description=\"" + std::string(detail) + "\"";
    response.headers.emplace_back("WWW-Authenticate", std::move(challenge));
    return response;
}

ServerResponse insufficient_scope(std::string_view scope) {
    auto response = problem_response(403, "The credential lacks the scope " + std::string(scope));
    response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"" + std::string(kRealm) +
                                                          "\", error=\"insufficient_scope\", scope=\"" +
                                                          std::string(scope) + "\"");
    return response;
}

Authenticator::Authenticator(const ApiServices& services) : services_(services) {
    source_.keys.keys.push_back(services.token_key);
}

boost::asio::awaitable<Authentication> Authenticator::authenticate(const ServerRequest& request) {
    Credential credential = find_credential(request);
    switch (credential.kind) {
        case Credential::Kind::kNone:
            break;
        case Credential::Kind::kAmbiguous:
            co_return refused(problem_response(400, "Credentials in two places; send one"));
        case Credential::Kind::kApiKey:
            co_return co_await by_api_key(request, credential.text);
        case Credential::Kind::kJwt:
            co_return co_await by_jwt(request, credential.text);
    }
    co_return refused(unauthorized("A credential is required: Authorization: Bearer, or X-API-Key", false));
}

boost::asio::awaitable<Authentication> Authenticator::by_api_key(const ServerRequest& request, std::string_view text) {
    if (!api_key_is_well_formed(text)) co_return refused(unauthorized("The credential is invalid", true));
    auto known = co_await look_up(api_key_hash(services_.pepper, text), {}, {});
    if (!known && known.error().code == ErrorCode::kNotFound)
        co_return refused(unauthorized("The credential is invalid", true));
    if (!known) co_return refused(error_response(known.error()));
    if (auto refusal = refuse(request, *known, {})) co_return refused(std::move(*refusal));
    const ApiKey& key = known->key;
    co_return Authentication{Principal{key.org, key.id, key.scopes, key.plan}, {}};
}

boost::asio::awaitable<Authentication> Authenticator::by_jwt(const ServerRequest& request, std::string_view text) {
    JwtVerification verified = verify_jwt(text, {&source_}, JwtPolicy{}, wall_clock_ms() / 1000);
    if (verified.status != JwtStatus::kOk) {
        bool expired = verified.status == JwtStatus::kExpired;
        co_return refused(unauthorized(expired ? "Token expired" : "The credential is invalid", true));
    }
    const JwtClaims& claims = verified.claims;
    auto known = co_await look_up({}, claims.org, claims.key_id);
    if (!known && known.error().code == ErrorCode::kNotFound)
        co_return refused(unauthorized("The credential is invalid", true));
    if (!known) co_return refused(error_response(known.error()));
    if (auto refusal = refuse(request, *known, claims.allowed_ips)) co_return refused(std::move(*refusal));
    // A key that was narrowed after the token was made narrows the token.
    std::string scopes = known->key.id.empty() ? claims.scope : scopes_under_ceiling(claims.scope, known->key.scopes);
    co_return Authentication{Principal{claims.org, claims.key_id, std::move(scopes), claims.plan}, {}};
}

boost::asio::awaitable<Result<Authenticator::Known>> Authenticator::look_up(std::string hash, std::string org,
                                                                            std::string key_id) {
    // NUL cannot occur in any of them, so that the three forms never meet.
    std::string cache_key = hash + '\0' + org + '\0' + key_id;
    auto now = std::chrono::steady_clock::now();
    auto cached = known_.find(cache_key);
    if (cached != known_.end() && cached->second.until > now) co_return cached->second;
    ReadKnown read{std::move(hash), std::move(org), std::move(key_id)};
    auto found = co_await services_.reader.run(std::move(read));
    if (!found) co_return tl::unexpected(found.error());
    Known known{std::move(found->first), std::move(found->second), now + kKnownFor};
    if (known_.size() >= kKnownMax) known_.clear();
    known_.insert_or_assign(std::move(cache_key), known);
    co_return known;
}

std::optional<ServerResponse> Authenticator::refuse(const ServerRequest& request, const Known& known,
                                                    std::string_view token_allowed_ips) const {
    const ApiKey& key = known.key;
    if (!key.is_active || (key.expires_at && *key.expires_at <= wall_clock_ms()))
        return unauthorized("The credential is invalid", true);
    for (std::string_view networks : {std::string_view(key.allowed_ips), token_allowed_ips}) {
        if (networks.empty()) continue;
        auto address = client_address(request, services_.trusted_proxies);
        if (!address || !ip_in_list(*address, networks))
            return problem_response(403, "The credential may not be used from this address");
    }
    if (known.org.is_suspended) return problem_response(403, "The organization is suspended");
    return std::nullopt;
}

}  // namespace headgate
