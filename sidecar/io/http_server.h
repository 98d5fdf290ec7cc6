// An HTTP/1.1 server on TCP or a unix socket, for the management API and `headgate receive`.
//
// Behind this interface stands Boost.Beast, in http_server.cpp alone. Everything is bounded: the
// bytes of headers and body, the connections, the time to send a request and to wait for the next
// one. What breaks a bound is answered with problem+json (431, 413, 408, 400) and closed. All calls
// are made on one event loop thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/limits.h"
#include "common/result.h"

namespace headgate {

using ServerHeaders = std::vector<std::pair<std::string, std::string>>;

struct ServerRequest {
    std::string method;     // as sent
    std::string path;       // the target up to `?`, still percent-encoded; begins with `/`
    std::string query;      // after `?`
    ServerHeaders headers;  // names in lower case, in the order of arrival
    std::string body;
    std::string peer;  // the address of the other end; empty on a unix socket

    [[nodiscard]] std::string_view header(std::string_view lower_case_name) const noexcept;  // the first, or empty
    [[nodiscard]] std::size_t header_count(std::string_view lower_case_name) const noexcept;
};

struct ServerResponse {
    int status = 200;
    std::string content_type = "application/json";
    ServerHeaders headers;
    std::string body;
};

struct HttpServerOptions {
    std::string listen;                   // host:port (port 0: one that is free) or unix:/path
    std::string setting = "http.listen";  // what the operator called it
    std::size_t header_bytes_max = limits::kApiHeaderBytesMax;
    std::size_t body_bytes_max = limits::kApiBodyBytesMax;
    int connections_max = 256;
    std::chrono::milliseconds request_timeout{15'000};  // for the whole request, and again for the response
    std::chrono::milliseconds idle_timeout{60'000};     // until the next request begins
};

// Called once for each request; several run at once on different connections. A thrown exception becomes 500.
using ServerHandler = std::function<boost::asio::awaitable<ServerResponse>(ServerRequest)>;

class HttpServer {
 public:
    HttpServer(boost::asio::any_io_executor executor, HttpServerOptions options, ServerHandler handler);
    ~HttpServer();
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;

    // Binds. Returns where: host:port with the real port, or unix:/path. A dead process's socket file is replaced.
    Result<std::string> listen();
    // Accepts until stop().
    boost::asio::awaitable<void> run();
    // Takes no more connections, closes the idle ones; requests under way are answered.
    void stop();
    // Waits until the last connection is closed; after `grace` closes the rest.
    boost::asio::awaitable<void> drain(std::chrono::milliseconds grace);

 private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace headgate
