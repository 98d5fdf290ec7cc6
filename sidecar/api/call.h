// What a handler of the management API gets: the request, who sent it, and the services.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/json/fwd.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/hmac.h"
#include "common/ip_network.h"
#include "common/jwks.h"
#include "sidecar/api/probe_limits.h"
#include "sidecar/deliver/http_client.h"
#include "sidecar/deliver/target_guard.h"
#include "sidecar/io/db_executor.h"
#include "sidecar/io/http_server.h"

namespace headgate {

struct HealthReport {
    bool is_healthy = false;
    std::string checks;   // a JSON object
    std::string reasons;  // a JSON array of strings: what is not well, each with its number
};

// Everything that handlers may use; made by the app, outlives the server.
struct ApiServices {
    DbExecutor& writer;
    DbExecutor& reader;
    DbExecutor& counter;  // for what may take seconds, and must hold up neither of the others
    const HmacSha256Key& pepper;
    const VerificationKey& token_key;
    std::int64_t token_lifetime_ms;
    const TargetGuard& guard;
    const std::vector<IpNetwork>& trusted_proxies;
    std::function<boost::asio::awaitable<bool>()> inbox_barrier;  // what was answered 201 before is in the store
    std::function<void()> keys_changed;
    std::function<void(std::string_view webhook_id)> webhook_changed;
    std::function<HealthReport()> health;
    std::function<std::string()> metrics;  // in Prometheus' text format
    HttpClient& http;                      // the dispatcher's
    ProbeLimits& probes;                   // of what is sent at once beside its deliveries
};

// Who sent the request, as its credential says.
struct Principal {
    std::string org, key_id, scopes, plan;
};

struct Call {
    ServerRequest request;
    Principal principal;              // empty on routes without authentication
    std::vector<std::string> params;  // of the route's pattern, percent-decoded, in order
};

// A named coroutine; parameters by value. `services` outlives every call.
using Handler = boost::asio::awaitable<ServerResponse> (*)(const ApiServices& services, Call call);

// One file for each resource.
boost::asio::awaitable<ServerResponse> get_live(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> get_health(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> get_metrics(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> post_token(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> get_inbox(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> post_inbox_ack(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> post_webhook(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> list_webhooks(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> get_webhook(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> post_webhook_test(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> get_explain_url(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> post_explain_url(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> delete_webhook(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> patch_webhook(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> put_webhook(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> post_webhook_secret(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> post_webhook_key_pair(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> get_webhook_jwks(const ApiServices& services, Call call);

// What became of events, and what to do about it.
boost::asio::awaitable<ServerResponse> list_deliveries(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> get_delivery(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> list_attempts(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> retry_delivery(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> cancel_delivery(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> post_replay(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> list_replays(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> get_replay(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> pause_replay(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> resume_replay(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> cancel_replay(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> list_events(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> get_event(const ApiServices& services, Call call);
boost::asio::awaitable<ServerResponse> explain_event(const ApiServices& services, Call call);

}  // namespace headgate
