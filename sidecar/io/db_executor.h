// One thread that owns one Store. Everything that touches SQL runs here; the event loop only waits.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

#include "sidecar/base/measures.h"
#include "sidecar/store/store.h"

namespace headgate {

class DbExecutor {
 public:
    explicit DbExecutor(std::unique_ptr<Store> store) : store_(std::move(store)) {}
    ~DbExecutor() { pool_.join(); }

    // Runs `work(store)` on the thread and resumes the caller on its own executor with the result.
    // `work` returns a Result<T>; calls run in the order they were made. What it throws becomes
    // kInternal. The caller's io_context must outlive the call; it does not run out of work meanwhile.
    // Name the lambda first and move it in: g++ 12 destroys a capturing lambda twice that is made
    // inside an expression with co_await.
    template <typename Work>
    auto run(Work work) -> boost::asio::awaitable<std::invoke_result_t<Work&, Store&>> {
        using R = std::invoke_result_t<Work&, Store&>;
        co_return co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>&, void(R)>(
            [this](auto handler, Work moved_work) {
                auto asked_at = std::chrono::steady_clock::now();
                auto executor = boost::asio::prefer(boost::asio::get_associated_executor(handler),
                                                    boost::asio::execution::outstanding_work.tracked);
                boost::asio::post(pool_, [this, asked_at, executor, handler = std::move(handler),
                                          moved_work = std::move(moved_work)]() mutable {
                    measures().store_wait.observe_since(asked_at);
                    R result = guarded<R>(moved_work);
                    boost::asio::post(executor, [handler = std::move(handler), result = std::move(result)]() mutable {
                        std::move(handler)(std::move(result));
                    });
                });
            },
            boost::asio::use_awaitable, std::move(work));
    }

    void join() { pool_.join(); }

 private:
    template <typename R, typename Work>
    R guarded(Work& work) {
        auto began = std::chrono::steady_clock::now();
        try {
            R result = work(*store_);
            measures().store_work.observe_since(began);
            if (!result) add(measures().store_errors);
            return result;
        } catch (const std::exception& failure) {
            measures().store_work.observe_since(began);
            add(measures().store_errors);
            return fail(ErrorCode::kInternal, failure.what());
        }
    }

    std::unique_ptr<Store> store_;
    boost::asio::thread_pool pool_{1};
};

}  // namespace headgate
