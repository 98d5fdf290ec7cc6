// A byte stream to one Redis server: TCP or a unix socket, with TLS where the address says so. Used by one
// connection of redis_client.cpp, on its executor.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <optional>
#include <string>

#include "sidecar/io/redis_address.h"

namespace headgate {

class RedisSocket {
 public:
    explicit RedisSocket(boost::asio::any_io_executor executor) : executor_(std::move(executor)), socket_(executor_) {}

    // Any name's addresses one after the other, then the handshake. `address` names one server and outlives the
    // call. The caller bounds the time: close() ends it.
    boost::asio::awaitable<Result<void>> connect(const RedisAddress& address);
    boost::asio::awaitable<boost::system::error_code> write(const std::string& bytes);
    // 0 bytes with an error.
    boost::asio::awaitable<std::size_t> read_some(boost::asio::mutable_buffer into, boost::system::error_code& ec);
    void close();

 private:
    using Socket = boost::asio::generic::stream_protocol::socket;
    boost::asio::awaitable<boost::system::error_code> open(const RedisAddress& address);

    boost::asio::any_io_executor executor_;
    Socket socket_;
    std::optional<boost::asio::ssl::stream<Socket&>> tls_;
    bool is_closed_ = false;
};

}  // namespace headgate
