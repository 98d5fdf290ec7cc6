// Lets one coroutine sleep until a time or until it is woken; a wake before the sleep is not lost.
// One waiter, and everything on the event loop.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <utility>

namespace headgate {

class WakeSignal {
 public:
    using TimePoint = std::chrono::steady_clock::time_point;

    explicit WakeSignal(boost::asio::any_io_executor executor) : timer_(std::move(executor)) {}

    void wake() {
        is_set_ = true;
        timer_.cancel();
    }
    boost::asio::awaitable<void> wait_until(TimePoint deadline) {
        if (!is_set_) {
            timer_.expires_at(deadline);
            boost::system::error_code ignored;  // woken or expired: the caller looks for itself
            co_await timer_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
        }
        is_set_ = false;
    }

 private:
    boost::asio::steady_timer timer_;
    bool is_set_ = false;
};

}  // namespace headgate
