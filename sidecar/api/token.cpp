// POST /token: an API key in, a token out. Takes the password form of older clients
// (`username=api&password=<key>`) and client_credentials (RFC 6749, section 4.4) with the key as the
// client's secret. Errors carry the codes of RFC 6749, section 5.2, inside problem+json.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "common/api_key.h"
#include "common/base64url.h"
#include "common/event_id.h"
#include "common/limits.h"
#include "common/problem.h"
#include "common/scopes.h"
#include "sidecar/api/authenticate.h"
#include "sidecar/api/form.h"
#include "sidecar/api/reply.h"
#include "sidecar/api/token_mint.h"
#include "sidecar/base/text.h"
#include "sidecar/base/wall_clock.h"

namespace headgate {
namespace {

struct FindKey {
    std::string hash;
    Result<std::pair<ApiKey, Organization>> operator()(Store& store) const {
        auto key = store.find_key_by_hash(hash);
        if (!key) return tl::unexpected(key.error());
        auto org = store.get_org(key->org);
        if (!org) return tl::unexpected(org.error());
        return std::pair(std::move(*key), std::move(*org));
    }
};

ServerResponse oauth_problem(int status, std::string_view code, std::string_view detail) {
    std::string json = "{\"type\":\"about:blank\",\"title\":";
    append_json_string(json, status_title(status));
    json += ",\"status\":" + std::to_string(status) + ",\"detail\":";
    append_json_string(json, detail);
    json += ",\"success\":false,\"error\":";
    append_json_string(json, code);
    json += ",\"error_description\":";
    append_json_string(json, detail);
    ServerResponse response{status, std::string(kProblemContentType), {{"Cache-Control", "no-store"}}, json + "}"};
    // A 401 names a scheme that the endpoint takes (RFC 9110, section 15.5.2).
    if (status == 401) response.headers.emplace_back("WWW-Authenticate", "Basic realm=\"" + std::string(kRealm) + "\"");
    return response;
}

ServerResponse wrong_key() { return oauth_problem(401, "invalid_client", "The API key is invalid"); }

struct KeyRequest {
    std::string api_key, scope;
    std::optional<ServerResponse> refusal;
};

KeyRequest refused(ServerResponse response) { return {{}, {}, std::move(response)}; }

// `client_id:client_secret` of the Authorization header, both form-encoded (RFC 6749, section 2.3.1).
std::optional<std::string> basic_secret(std::string_view authorization) {
    if (to_lower(authorization.substr(0, 6)) != "basic ") return std::nullopt;
    auto decoded = base64_decode(authorization.substr(6));
    if (!decoded) return std::nullopt;
    auto colon = decoded->find(':');
    if (colon == std::string::npos) return std::nullopt;
    return percent_decode(std::string_view(*decoded).substr(colon + 1));
}

KeyRequest read_request(const ServerRequest& request) {
    std::string type = to_lower(request.header("content-type"));
    if (type.substr(0, type.find(';')) != "application/x-www-form-urlencoded")
        return refused(
            oauth_problem(415, "invalid_request", "The Content-Type must be application/x-www-form-urlencoded"));
    auto form = Form::parse(request.body);
    if (!form) return refused(oauth_problem(400, "invalid_request", form.error().message));
    if (form->has_repeated_member())
        return refused(oauth_problem(400, "invalid_request", "A parameter is given twice"));
    std::string_view grant = form->value("grant_type");
    std::string_view authorization = request.header("authorization");
    KeyRequest asked;
    asked.scope = form->value("scope");
    if (grant.empty() || grant == "password") {
        const std::string* password = form->find("password");
        if (form->value("username") != "api" || password == nullptr)
            return refused(oauth_problem(400, "invalid_request",
                                         "Send username=api and password=<API key>, or "
                                         "grant_type=client_credentials and client_secret=<API key>"));
        asked.api_key = *password;
    } else if (grant == "client_credentials") {
        const std::string* secret = form->find("client_secret");
        if (secret != nullptr && !authorization.empty())
            return refused(oauth_problem(400, "invalid_request", "Credentials in two places; send one"));
        auto from_header = basic_secret(authorization);
        if (secret == nullptr && !from_header)
            return refused(
                oauth_problem(401, "invalid_client", "Send the API key as client_secret, or as the password of Basic"));
        asked.api_key = secret != nullptr ? *secret : *from_header;
    } else {
        return refused(
            oauth_problem(400, "unsupported_grant_type", "The grant types are password and client_credentials"));
    }
    return asked;
}

// `admin` would satisfy any text, and the edge takes no token with more scopes than it reads.
bool scopes_are_valid(std::string_view list) {
    std::size_t count = 0;
    for (bool more = !list.empty(); more;) {
        std::string_view scope = list.substr(0, list.find(' '));
        if (++count > limits::kScopesMax || scope.size() > limits::kScopeBytesMax || !scope_is_valid(scope))
            return false;
        more = scope.size() < list.size();
        list.remove_prefix(std::min(scope.size() + 1, list.size()));
    }
    return true;
}

std::optional<ServerResponse> refuse(const ApiServices& services, const ServerRequest& request, const ApiKey& key,
                                     const Organization& org) {
    if (!key.is_active || (key.expires_at && *key.expires_at / 1000 <= wall_clock_ms() / 1000)) return wrong_key();
    if (!key.allowed_ips.empty()) {
        auto address = client_address(request, services.trusted_proxies);
        if (!address || !ip_in_list(*address, key.allowed_ips))
            return oauth_problem(403, "access_denied", "The API key may not be used from this address");
    }
    if (org.is_suspended) return oauth_problem(403, "access_denied", "The organization is suspended");
    return std::nullopt;
}

}  // namespace

boost::asio::awaitable<ServerResponse> post_token(const ApiServices& services, Call call) {
    KeyRequest asked = read_request(call.request);
    if (asked.refusal) co_return std::move(*asked.refusal);
    if (!api_key_is_well_formed(asked.api_key)) co_return wrong_key();
    FindKey find{api_key_hash(services.pepper, asked.api_key)};
    auto found = co_await services.reader.run(std::move(find));
    if (!found && found.error().code == ErrorCode::kNotFound) co_return wrong_key();
    if (!found) co_return error_response(found.error());
    const auto& [key, org] = *found;
    if (auto refusal = refuse(services, call.request, key, org)) co_return std::move(*refusal);
    if (!scopes_are_valid(asked.scope))
        co_return oauth_problem(400, "invalid_scope",
                                "The scope must be at most " + std::to_string(limits::kScopesMax) +
                                    " of such as events:write, each after a single space");
    if (!scopes_allow_all(key.scopes, asked.scope))
        co_return oauth_problem(400, "invalid_scope", "The API key does not have every scope that was asked for");
    TimeMs now = wall_clock_ms();
    MintedToken token = mint_token(key, asked.scope, services.token_key, now, services.token_lifetime_ms, uuid7(now));
    std::string json = "{\"access_token\":";
    append_json_string(json, token.text);
    json += ",\"token_type\":\"bearer\",\"expires_in\":" + std::to_string(token.expires_in_seconds) + ",\"scope\":";
    append_json_string(json, token.scope);
    auto response = bare_response(200, json + "}");
    response.headers.emplace_back("Cache-Control", "no-store");
    response.headers.emplace_back("Pragma", "no-cache");
    spdlog::info("token_issued org={} key={} expires_in_s={}", key.org, key.id, token.expires_in_seconds);
    co_return response;
}

}  // namespace headgate
