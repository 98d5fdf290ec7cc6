// The HTTP server on Boost.Beast: the only translation unit that includes it. See http_server.h.
#include "sidecar/io/http_server.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <unordered_set>

#include "common/problem.h"
#include "sidecar/base/text.h"

namespace headgate {
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Stream = beast::basic_stream<asio::generic::stream_protocol>;

std::string_view ServerRequest::header(std::string_view lower_case_name) const noexcept {
    for (const auto& [name, value] : headers)
        if (name == lower_case_name) return value;
    return {};
}

std::size_t ServerRequest::header_count(std::string_view lower_case_name) const noexcept {
    std::size_t count = 0;
    for (const auto& [name, value] : headers) count += name == lower_case_name ? 1 : 0;
    return count;
}

namespace {

struct Connection {
    Stream stream;
    std::string peer;
    bool is_idle = true;  // between requests: may be closed at any time
    Connection(asio::generic::stream_protocol::socket socket, std::string peer_address)
        : stream(std::move(socket)), peer(std::move(peer_address)) {}
};

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

ServerRequest to_request(http::request<http::string_body>&& message, const std::string& peer) {
    ServerRequest request;
    request.method = std::string(view(message.method_string()));
    std::string_view target = view(message.target());
    auto question = target.find('?');
    request.path = std::string(target.substr(0, question));
    if (question != std::string_view::npos) request.query = std::string(target.substr(question + 1));
    for (const auto& field : message)
        request.headers.emplace_back(to_lower(view(field.name_string())), std::string(view(field.value())));
    request.body = std::move(message.body());
    request.peer = peer;
    return request;
}

ServerResponse problem(int status, std::string_view detail) {
    return ServerResponse{status, std::string(kProblemContentType), {}, problem_json(status, {}, detail)};
}

// What a request that could not be read is answered; status 0: nobody is there to read an answer.
ServerResponse refusal(const error_code& ec) {
    if (ec == http::error::body_limit) return problem(413, "The request body is too large");
    if (ec == http::error::header_limit) return problem(431, "The request header is too large");
    if (ec == beast::error::timeout) return problem(408, "The request took too long to arrive");
    if (ec == http::error::end_of_stream || ec == http::error::partial_message ||
        ec.category() != make_error_code(http::error::bad_method).category())
        return ServerResponse{0, {}, {}, {}};
    return problem(400, "The request is not valid HTTP: " + ec.message());
}

http::response<http::string_body> to_message(ServerResponse&& response, unsigned version, bool is_head,
                                             bool keep_alive) {
    http::response<http::string_body> message;
    message.version(version);
    message.result(static_cast<unsigned>(response.status));
    for (auto& [name, value] : response.headers) message.insert(name, value);
    bool has_no_body = response.status == 204 || response.status == 304;
    if (!has_no_body) {
        if (!response.content_type.empty()) message.set(http::field::content_type, response.content_type);
        message.content_length(response.body.size());
    }
    message.keep_alive(keep_alive);
    if (!is_head && !has_no_body) message.body() = std::move(response.body);
    return message;
}

asio::awaitable<error_code> write_response(Connection& connection, ServerResponse response, unsigned version,
                                           bool is_head, bool keep_alive) {
    auto message = to_message(std::move(response), version, is_head, keep_alive);
    http::response_serializer<http::string_body> serializer(message);
    error_code ec;
    if (is_head)
        co_await http::async_write_header(connection.stream, serializer, asio::redirect_error(asio::use_awaitable, ec));
    else
        co_await http::async_write(connection.stream, serializer, asio::redirect_error(asio::use_awaitable, ec));
    co_return ec;
}

// After an early refusal the client may still be sending: closing at once would make its kernel throw away our
// answer with the reset. So: say that nothing follows, then read and drop for a moment.
asio::awaitable<void> linger(Connection& connection) {
    constexpr std::size_t kDropBytesMax = 4 * 1024 * 1024;
    error_code ec;
    connection.stream.socket().shutdown(asio::socket_base::shutdown_send, ec);
    connection.stream.expires_after(std::chrono::seconds(2));
    std::vector<char> dropped(16 * 1024);
    for (std::size_t total = 0; !ec && total < kDropBytesMax;)
        total += co_await connection.stream.async_read_some(asio::buffer(dropped),
                                                            asio::redirect_error(asio::use_awaitable, ec));
}

}  // namespace

struct HttpServer::Impl : std::enable_shared_from_this<HttpServer::Impl> {
    using TcpAcceptor = asio::basic_socket_acceptor<asio::ip::tcp>;
    using UnixAcceptor = asio::basic_socket_acceptor<asio::local::stream_protocol>;

    Impl(asio::any_io_executor executor_in, HttpServerOptions options_in, ServerHandler handler_in)
        : executor(std::move(executor_in)),
          options(std::move(options_in)),
          handler(std::move(handler_in)),
          tcp(executor),
          local(executor),
          connection_closed(executor) {}

    Result<std::string> listen_tcp() {
        auto where = parse_host_port(options.listen);
        if (!where)
            return fail(ErrorCode::kInvalidArgument,
                        options.setting + ": \"" + options.listen + "\" is neither host:port nor unix:/path");
        error_code ec;
        asio::ip::tcp::resolver resolver(executor);
        std::string host = where->host == "*" ? "0.0.0.0" : where->host;
        auto found = resolver.resolve(host, std::to_string(where->port), asio::ip::tcp::resolver::passive, ec);
        if (ec || found.empty()) return failed("cannot resolve", ec);
        auto endpoint = found.begin()->endpoint();
        tcp.open(endpoint.protocol(), ec);
        if (!ec) tcp.set_option(asio::socket_base::reuse_address(true), ec);
        if (!ec) tcp.bind(endpoint, ec);
        if (!ec) tcp.listen(asio::socket_base::max_listen_connections, ec);
        if (ec) return failed("cannot listen on", ec);
        auto bound = tcp.local_endpoint();
        bool is_v6 = bound.address().is_v6();
        return (is_v6 ? "[" : "") + bound.address().to_string() + (is_v6 ? "]:" : ":") + std::to_string(bound.port());
    }

    Result<std::string> listen_unix() {
        std::string path = options.listen.substr(5);
        error_code ec;
        asio::local::stream_protocol::endpoint endpoint;
        try {
            endpoint.path(path);
        } catch (const std::exception&) {
            return fail(ErrorCode::kInvalidArgument, options.setting + ": the socket path is too long: " + path);
        }
        // A socket file that nobody answers is left over from a process that died.
        struct stat status {};
        if (stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
            asio::local::stream_protocol::socket probe(executor);
            probe.connect(endpoint, ec);
            if (!ec)
                return fail(ErrorCode::kConflict,
                            options.listen + " is served by another process; stop it, or set " + options.setting);
            unlink(path.c_str());
        }
        local.open(endpoint.protocol(), ec);
        if (!ec) local.bind(endpoint, ec);
        if (!ec) local.listen(asio::socket_base::max_listen_connections, ec);
        if (ec) return failed("cannot listen on", ec);
        socket_path = path;
        return options.listen;
    }

    Result<std::string> failed(std::string_view what, const error_code& ec) const {
        return fail(ErrorCode::kUnavailable, options.setting + ": " + std::string(what) + " " + options.listen + ": " +
                                                 ec.message() + "; choose another address with " + options.setting);
    }

    asio::awaitable<void> run() {
        auto self = shared_from_this();
        while (!stopping) {
            while (!stopping && static_cast<int>(connections.size()) >= options.connections_max) {
                error_code ignored;
                connection_closed.expires_at(Clock::time_point::max());
                co_await connection_closed.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
            }
            if (stopping) break;
            error_code ec;
            std::string peer;
            asio::generic::stream_protocol::socket socket(executor);
            if (tcp.is_open()) {
                asio::ip::tcp::socket accepted(executor);
                asio::ip::tcp::endpoint from;
                co_await tcp.async_accept(accepted, from, asio::redirect_error(asio::use_awaitable, ec));
                if (!ec) {
                    error_code ignored;
                    accepted.set_option(asio::ip::tcp::no_delay(true), ignored);
                    peer = from.address().to_string();
                    socket = std::move(accepted);
                }
            } else {
                asio::local::stream_protocol::socket accepted(executor);
                co_await local.async_accept(accepted, asio::redirect_error(asio::use_awaitable, ec));
                if (!ec) socket = std::move(accepted);
            }
            if (!ec) {
                auto connection = std::make_shared<Connection>(std::move(socket), std::move(peer));
                connections.insert(connection);
                asio::co_spawn(executor, serve(self, connection), asio::detached);
            } else if (!stopping) {
                // Out of descriptors, or the peer left at once: accepting again right away would spin.
                asio::steady_timer pause(executor, std::chrono::milliseconds(50));
                error_code ignored;
                co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
            }
        }
    }

    static asio::awaitable<void> serve(std::shared_ptr<Impl> self, std::shared_ptr<Connection> connection) {
        try {
            beast::flat_buffer buffer;
            while (!self->stopping && co_await self->serve_one(*connection, buffer)) {
            }
        } catch (const std::exception& error) {
            spdlog::error("http_connection_failed error=\"{}\"", error.what());
        }
        error_code ignored;
        connection->stream.socket().close(ignored);
        self->connections.erase(connection);
        self->connection_closed.cancel();
    }

    // One request and its response. False: close the connection.
    asio::awaitable<bool> serve_one(Connection& connection, beast::flat_buffer& buffer) {
        http::request_parser<http::string_body> parser;
        parser.header_limit(static_cast<std::uint32_t>(options.header_bytes_max));
        parser.body_limit(options.body_bytes_max);
        error_code ec;
        connection.is_idle = true;
        if (buffer.size() == 0) {
            connection.stream.expires_after(options.idle_timeout);
            auto bytes = co_await connection.stream.async_read_some(buffer.prepare(4096),
                                                                    asio::redirect_error(asio::use_awaitable, ec));
            buffer.commit(bytes);
            if (ec) co_return false;
        }
        connection.is_idle = false;
        connection.stream.expires_after(options.request_timeout);
        co_await http::async_read_header(connection.stream, buffer, parser,
                                         asio::redirect_error(asio::use_awaitable, ec));
        if (!ec && beast::iequals(parser.get()[http::field::expect], "100-continue")) {
            http::response<http::empty_body> go_on(http::status::continue_, parser.get().version());
            co_await http::async_write(connection.stream, go_on, asio::redirect_error(asio::use_awaitable, ec));
        }
        if (!ec)
            co_await http::async_read(connection.stream, buffer, parser, asio::redirect_error(asio::use_awaitable, ec));
        unsigned version = parser.get().version() == 10 ? 10 : 11;
        if (ec || !parser.get().target().starts_with('/')) {
            ServerResponse answer = ec ? refusal(ec) : problem(400, "The request target must begin with a slash");
            if (answer.status == 0) co_return false;
            connection.stream.expires_after(options.request_timeout);
            auto written = co_await write_response(connection, std::move(answer), version, false, false);
            if (!written) co_await linger(connection);
            co_return false;
        }
        bool keep_alive = parser.get().keep_alive();
        bool is_head = parser.get().method() == http::verb::head;
        connection.stream.expires_never();  // the handler has deadlines of its own
        ServerResponse response = co_await answer(to_request(parser.release(), connection.peer));
        keep_alive = keep_alive && !stopping;
        connection.stream.expires_after(options.request_timeout);
        auto failed = co_await write_response(connection, std::move(response), version, is_head, keep_alive);
        co_return keep_alive && !failed;
    }

    asio::awaitable<ServerResponse> answer(ServerRequest request) {
        try {
            co_return co_await handler(std::move(request));
        } catch (const std::exception& error) {
            spdlog::error("http_handler_failed error=\"{}\"", error.what());
        }
        co_return problem(500, "An unexpected error; the log of the server has more");
    }

    void stop() {
        stopping = true;
        error_code ignored;
        tcp.close(ignored);
        local.close(ignored);
        if (!socket_path.empty()) unlink(socket_path.c_str());
        connection_closed.cancel();
        for (const auto& connection : connections)
            if (connection->is_idle) connection->stream.cancel();
    }

    asio::awaitable<void> drain(std::chrono::milliseconds grace) {
        auto self = shared_from_this();
        auto deadline = Clock::now() + grace;
        while (!connections.empty() && Clock::now() < deadline) {
            error_code ignored;
            connection_closed.expires_at(deadline);
            co_await connection_closed.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
        for (const auto& connection : connections) connection->stream.cancel();
    }

    asio::any_io_executor executor;
    HttpServerOptions options;
    ServerHandler handler;
    TcpAcceptor tcp;
    UnixAcceptor local;
    std::string socket_path;
    asio::steady_timer connection_closed;  // cancelled to wake whoever waits for a connection to close
    std::unordered_set<std::shared_ptr<Connection>> connections;
    bool stopping = false;
};

HttpServer::HttpServer(asio::any_io_executor executor, HttpServerOptions options, ServerHandler handler)
    : impl_(std::make_shared<Impl>(std::move(executor), std::move(options), std::move(handler))) {}
HttpServer::~HttpServer() { impl_->stop(); }

Result<std::string> HttpServer::listen() {
    return impl_->options.listen.starts_with("unix:") ? impl_->listen_unix() : impl_->listen_tcp();
}
asio::awaitable<void> HttpServer::run() { return impl_->run(); }
void HttpServer::stop() { impl_->stop(); }
asio::awaitable<void> HttpServer::drain(std::chrono::milliseconds grace) { return impl_->drain(grace); }

}  // namespace headgate
