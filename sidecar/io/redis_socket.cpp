// Connecting, TLS, bytes; see redis_socket.h.
#include "sidecar/io/redis_socket.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "sidecar/base/own_servers.h"
#include "sidecar/io/redis_tls.h"

namespace headgate {
namespace asio = boost::asio;
using asio::redirect_error;
using asio::use_awaitable;

asio::awaitable<boost::system::error_code> RedisSocket::open(const RedisAddress& address) {
    boost::system::error_code ec;
    if (!address.unix_path.empty()) {
        // A path too long for sockaddr_un throws in the constructor.
        std::optional<asio::local::stream_protocol::endpoint> endpoint;
        try {
            endpoint.emplace(address.unix_path);
        } catch (const boost::system::system_error& failure) {
            co_return failure.code();
        }
        co_await socket_.async_connect(*endpoint, redirect_error(use_awaitable, ec));
        co_return ec;
    }
    asio::ip::tcp::resolver resolver(executor_);
    auto found = co_await resolver.async_resolve(address.host, address.port, redirect_error(use_awaitable, ec));
    if (ec) co_return ec;
    if (address.own_servers) {
        for (const auto& entry : found) {
            const auto ip = parse_ip(entry.endpoint().address().to_string());
            if (ip) address.own_servers->learn(*ip, entry.endpoint().port());
        }
    }
    for (const auto& entry : found) {
        if (is_closed_) co_return asio::error::operation_aborted;
        boost::system::error_code ignored;
        socket_.close(ignored);
        co_await socket_.async_connect(asio::generic::stream_protocol::endpoint(entry.endpoint()),
                                       redirect_error(use_awaitable, ec));
        if (!ec) break;
    }
    if (!ec) socket_.set_option(asio::ip::tcp::no_delay(true), ec);
    co_return ec;
}

asio::awaitable<Result<void>> RedisSocket::connect(const RedisAddress& address) {
    boost::system::error_code ec = co_await open(address);
    if (!ec && is_closed_) ec = asio::error::operation_aborted;
    if (ec) co_return fail(ErrorCode::kUnavailable, "cannot connect: " + ec.message());
    if (!address.wants_tls) co_return Result<void>();
    if (!address.tls) co_return fail(ErrorCode::kInternal, "TLS without its settings");
    tls_.emplace(socket_, address.tls->context());
    if (!address.tls->expect(tls_->native_handle(), address.host))
        co_return fail(ErrorCode::kInvalidArgument, "its name cannot be verified by TLS");
    co_await tls_->async_handshake(asio::ssl::stream_base::client, redirect_error(use_awaitable, ec));
    if (!ec) co_return Result<void>();
    long verified = SSL_get_verify_result(tls_->native_handle());
    if (verified != X509_V_OK)
        co_return fail(ErrorCode::kUnavailable,
                       std::string("its certificate is refused: ") + X509_verify_cert_error_string(verified));
    co_return fail(ErrorCode::kUnavailable, "the TLS handshake failed: " + ec.message());
}

asio::awaitable<boost::system::error_code> RedisSocket::write(const std::string& bytes) {
    boost::system::error_code ec;
    if (tls_) {
        co_await asio::async_write(*tls_, asio::buffer(bytes), redirect_error(use_awaitable, ec));
    } else {
        co_await asio::async_write(socket_, asio::buffer(bytes), redirect_error(use_awaitable, ec));
    }
    co_return ec;
}

asio::awaitable<std::size_t> RedisSocket::read_some(asio::mutable_buffer into, boost::system::error_code& ec) {
    std::size_t count = 0;
    if (tls_) {
        count = co_await tls_->async_read_some(into, redirect_error(use_awaitable, ec));
        // Redis closes without a close_notify.
        if (ec == asio::ssl::error::stream_truncated) ec = asio::error::eof;
    } else {
        count = co_await socket_.async_read_some(into, redirect_error(use_awaitable, ec));
    }
    co_return count;
}

void RedisSocket::close() {
    is_closed_ = true;
    boost::system::error_code ignored;
    socket_.close(ignored);
}

}  // namespace headgate
