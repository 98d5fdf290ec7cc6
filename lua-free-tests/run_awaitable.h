// Runs one awaitable on an io_context until it has its result.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <optional>
#include <stdexcept>

namespace headgate {

inline constexpr std::chrono::seconds kTestDeadline{60};

// Until `condition` holds; false when the deadline came first.
template <typename Condition>
bool run_until(boost::asio::io_context& io, Condition condition) {
    auto deadline = std::chrono::steady_clock::now() + kTestDeadline;
    io.restart();
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        io.run_one_for(std::chrono::milliseconds(20));
        if (io.stopped()) io.restart();
    }
    return true;
}

template <typename T>
T run_awaitable(boost::asio::io_context& io, boost::asio::awaitable<T> work) {
    std::optional<T> result;
    boost::asio::co_spawn(io, std::move(work), [&result](std::exception_ptr failure, T value) {
        if (failure) std::rethrow_exception(failure);
        result.emplace(std::move(value));
    });
    if (!run_until(io, [&result] { return result.has_value(); })) throw std::runtime_error("no result in time");
    return std::move(*result);
}

}  // namespace headgate
