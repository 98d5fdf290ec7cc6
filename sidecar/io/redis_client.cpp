// A pipelined RESP2 connection on Asio; see redis_client.h.
//
// One coroutine (`drive`) lives for each connection: it connects, introduces itself (AUTH, SELECT),
// then reads until the connection ends. A second one writes what is queued. Callers wait on a timer
// of their own that is also their deadline. All of it runs on the client's executor.
#include "sidecar/io/redis_client.h"

#include <hiredis/hiredis.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <deque>
#include <optional>

#include "common/resp.h"
#include "sidecar/base/measures.h"

namespace headgate {

namespace asio = boost::asio;
using asio::redirect_error;
using asio::use_awaitable;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr int kReplyElementsMax = 1024 * 1024;  // of one array; nesting is bounded by hiredis itself (7 levels)

struct ReaderDeleter {
    void operator()(redisReader* reader) const noexcept { redisReaderFree(reader); }
};
using ReaderPtr = std::unique_ptr<redisReader, ReaderDeleter>;

// hiredis allocates an array as soon as its length is read: a length that nothing legitimate has is
// refused before that.
void* create_bounded_array(const redisReadTask* task, int elements);

const redisReplyObjectFunctions& default_functions() {
    static const redisReplyObjectFunctions functions = *ReaderPtr(redisReaderCreate())->fn;
    return functions;
}

redisReplyObjectFunctions& bounded_functions() {
    static redisReplyObjectFunctions functions = [] {
        redisReplyObjectFunctions bounded = default_functions();
        bounded.createArray = create_bounded_array;
        return bounded;
    }();
    return functions;
}

void* create_bounded_array(const redisReadTask* task, int elements) {
    if (elements > kReplyElementsMax) return nullptr;
    return default_functions().createArray(task, elements);
}

ReaderPtr make_reader() {
    ReaderPtr reader(redisReaderCreateWithFunctions(&bounded_functions()));
    reader->maxbuf = kReadBytes;
    return reader;
}

}  // namespace

void RedisReplyDeleter::operator()(redisReply* reply) const noexcept { freeReplyObject(reply); }

struct RedisClient::Impl : std::enable_shared_from_this<Impl> {
    // One send() in progress. Its timer runs to the deadline and is cancelled when it is done.
    struct Waiter {
        Waiter(const asio::any_io_executor& executor, std::size_t wanted, milliseconds timeout)
            : timer(executor, timeout), wanted(wanted) {}
        asio::steady_timer timer;
        std::size_t wanted;
        std::vector<RedisReplyPtr> replies;
        std::optional<Error> error;
        bool done = false;
        void finish() {
            done = true;
            timer.cancel();
        }
    };
    using WaiterPtr = std::shared_ptr<Waiter>;
    using Socket = asio::generic::stream_protocol::socket;

    // One socket's life. Coroutines of an older one notice that they are no longer the current one.
    struct Connection {
        explicit Connection(const asio::any_io_executor& executor) : socket(executor), reader(make_reader()) {}
        Socket socket;
        ReaderPtr reader;
        bool ready = false;    // connected and introduced
        bool writing = false;  // a write is in progress
        std::string output;
        std::size_t unanswered_bytes = 0;  // read since the last whole reply
        char input[kReadBytes];
    };
    using ConnectionPtr = std::shared_ptr<Connection>;

    Impl(asio::any_io_executor executor_in, RedisAddress address_in, milliseconds timeout_in)
        : executor(std::move(executor_in)), address(std::move(address_in)), timeout(timeout_in) {}

    asio::any_io_executor executor;
    RedisAddress address;
    milliseconds timeout;
    std::size_t reply_bytes_max = kRedisReplyBytesMax;
    ConnectionPtr connection;
    std::deque<WaiterPtr> waiters;
    std::string queued;  // commands that wait for the connection to be ready
    steady_clock::time_point last_reply = steady_clock::now();

    // `of` by value: the member it may come from is reset here.
    void end(ConnectionPtr of, ErrorCode code, const std::string& reason) {
        if (connection != of) return;
        connection.reset();
        boost::system::error_code ignored;
        of->socket.close(ignored);
        queued.clear();
        std::deque<WaiterPtr> failed = std::exchange(waiters, {});
        for (const WaiterPtr& waiter : failed) {
            waiter->error = Error{code, "Redis " + name() + ": " + reason};
            waiter->finish();
        }
    }

    [[nodiscard]] std::string name() const {
        return address.unix_path.empty() ? address.host + ":" + address.port : address.unix_path;
    }

    void start() {
        add(measures().redis_connections);
        connection = std::make_shared<Connection>(executor);
        asio::co_spawn(executor, drive(shared_from_this(), connection), asio::detached);
    }

    void start_writing(const ConnectionPtr& on) {
        if (!on->ready || on->writing || queued.empty()) return;
        on->writing = true;
        asio::co_spawn(executor, write_queued(shared_from_this(), on), asio::detached);
    }

    static asio::awaitable<void> write_queued(std::shared_ptr<Impl> self, ConnectionPtr on) {
        while (self->connection == on && !self->queued.empty()) {
            on->output = std::exchange(self->queued, {});
            boost::system::error_code ec;
            co_await asio::async_write(on->socket, asio::buffer(on->output), redirect_error(use_awaitable, ec));
            if (ec) {
                self->end(on, ErrorCode::kUnavailable, ec.message());
                break;
            }
        }
        on->writing = false;
    }

    static asio::awaitable<boost::system::error_code> open_socket(std::shared_ptr<Impl> self, ConnectionPtr on) {
        boost::system::error_code ec;
        if (!self->address.unix_path.empty()) {
            // A path too long for sockaddr_un throws in the constructor.
            std::optional<asio::local::stream_protocol::endpoint> endpoint;
            try {
                endpoint.emplace(self->address.unix_path);
            } catch (const boost::system::system_error& failure) {
                co_return failure.code();
            }
            co_await on->socket.async_connect(*endpoint, redirect_error(use_awaitable, ec));
            co_return ec;
        }
        asio::ip::tcp::resolver resolver(self->executor);
        auto found =
            co_await resolver.async_resolve(self->address.host, self->address.port, redirect_error(use_awaitable, ec));
        if (ec) co_return ec;
        for (const auto& entry : found) {
            if (self->connection != on) co_return asio::error::operation_aborted;
            boost::system::error_code ignored;
            on->socket.close(ignored);
            co_await on->socket.async_connect(asio::generic::stream_protocol::endpoint(entry.endpoint()),
                                              redirect_error(use_awaitable, ec));
            if (!ec) break;
        }
        if (!ec) on->socket.set_option(asio::ip::tcp::no_delay(true), ec);
        co_return ec;
    }

    // The next whole reply, read from the socket as needed.
    static asio::awaitable<Result<RedisReplyPtr>> next_reply(std::shared_ptr<Impl> self, ConnectionPtr on) {
        for (;;) {
            void* parsed = nullptr;
            if (redisReaderGetReply(on->reader.get(), &parsed) != REDIS_OK) {
                co_return fail(ErrorCode::kUnavailable, std::string("protocol error: ") + on->reader->errstr);
            }
            if (parsed != nullptr) {
                on->unanswered_bytes = 0;
                self->last_reply = steady_clock::now();
                co_return RedisReplyPtr(static_cast<redisReply*>(parsed));
            }
            boost::system::error_code ec;
            std::size_t count =
                co_await on->socket.async_read_some(asio::buffer(on->input), redirect_error(use_awaitable, ec));
            if (ec) {
                co_return fail(ErrorCode::kUnavailable,
                               ec == asio::error::eof ? "the connection was closed" : ec.message());
            }
            on->unanswered_bytes += count;
            if (on->unanswered_bytes > self->reply_bytes_max) {
                co_return fail(ErrorCode::kTooLarge,
                               "a reply exceeds " + std::to_string(self->reply_bytes_max) + " bytes");
            }
            redisReaderFeed(on->reader.get(), on->input, count);
        }
    }

    static asio::awaitable<Result<void>> introduce(std::shared_ptr<Impl> self, ConnectionPtr on) {
        std::string commands;
        RespWriter writer(commands);
        int expected = 0;
        if (!self->address.password.empty()) {
            if (self->address.username.empty()) {
                writer.command("AUTH", self->address.password);
            } else {
                writer.command("AUTH", self->address.username, self->address.password);
            }
            expected++;
        }
        if (self->address.database != 0) {
            writer.command("SELECT", static_cast<long long>(self->address.database));
            expected++;
        }
        if (expected == 0) co_return Result<void>();
        boost::system::error_code ec;
        co_await asio::async_write(on->socket, asio::buffer(commands), redirect_error(use_awaitable, ec));
        if (ec) co_return fail(ErrorCode::kUnavailable, ec.message());
        for (int i = 0; i < expected; i++) {
            Result<RedisReplyPtr> reply = co_await next_reply(self, on);
            if (!reply) co_return tl::unexpected<Error>(reply.error());
            if ((*reply)->type == REDIS_REPLY_ERROR) {
                co_return fail(ErrorCode::kUnavailable,
                               "AUTH or SELECT was refused: " + std::string((*reply)->str, (*reply)->len));
            }
        }
        co_return Result<void>();
    }

    static asio::awaitable<void> drive(std::shared_ptr<Impl> self, ConnectionPtr on) {
        boost::system::error_code ec = co_await open_socket(self, on);
        if (ec || self->connection != on) {
            self->end(on, ErrorCode::kUnavailable, "cannot connect: " + ec.message());
            co_return;
        }
        Result<void> introduced = co_await introduce(self, on);
        if (!introduced) {
            self->end(on, introduced.error().code, introduced.error().message);
            co_return;
        }
        if (self->connection != on) co_return;
        on->ready = true;
        self->start_writing(on);
        while (self->connection == on) {
            Result<RedisReplyPtr> reply = co_await next_reply(self, on);
            if (!reply) {
                self->end(on, reply.error().code, reply.error().message);
                co_return;
            }
            if (self->connection != on) co_return;
            if (self->waiters.empty()) {
                self->end(on, ErrorCode::kUnavailable, "a reply that nobody asked for");
                co_return;
            }
            WaiterPtr waiter = self->waiters.front();
            waiter->replies.push_back(std::move(*reply));
            if (waiter->replies.size() == waiter->wanted) {
                self->waiters.pop_front();
                waiter->finish();
            }
        }
    }

    static asio::awaitable<Result<std::vector<RedisReplyPtr>>> send(std::shared_ptr<Impl> self, std::string commands,
                                                                    std::size_t replies, milliseconds timeout) {
        if (replies == 0) co_return std::vector<RedisReplyPtr>();
        const auto began = steady_clock::now();
        auto waiter = std::make_shared<Waiter>(self->executor, replies, timeout);
        self->waiters.push_back(waiter);
        self->queued += commands;
        // Both run at once as far as they can: on failure the waiter may be done before it waits.
        if (!self->connection) self->start();
        ConnectionPtr on = self->connection;
        if (on) self->start_writing(on);
        boost::system::error_code ignored;
        if (!waiter->done) co_await waiter->timer.async_wait(redirect_error(use_awaitable, ignored));
        if (!waiter->done) {
            self->end(on, ErrorCode::kUnavailable, "no reply within " + std::to_string(timeout.count()) + " ms");
        }
        // A read that may wait for entries says nothing about Redis: it has a time of its own.
        if (timeout == self->timeout) measures().redis_call.observe_since(began);
        if (waiter->error) {
            add(measures().redis_errors);
            co_return tl::unexpected<Error>(*waiter->error);
        }
        co_return std::move(waiter->replies);
    }
};

RedisClient::RedisClient(asio::any_io_executor executor, RedisAddress address, milliseconds timeout)
    : impl_(std::make_shared<Impl>(std::move(executor), std::move(address), timeout)) {}

RedisClient::~RedisClient() { close(); }

asio::awaitable<Result<std::vector<RedisReplyPtr>>> RedisClient::send(std::string commands, std::size_t replies) {
    return Impl::send(impl_, std::move(commands), replies, impl_->timeout);
}

asio::awaitable<Result<std::vector<RedisReplyPtr>>> RedisClient::send(std::string commands, std::size_t replies,
                                                                      milliseconds timeout) {
    return Impl::send(impl_, std::move(commands), replies, timeout);
}

void RedisClient::close() {
    if (impl_->connection) impl_->end(impl_->connection, ErrorCode::kUnavailable, "closed");
}

std::int64_t RedisClient::silent_ms() const {
    return std::chrono::duration_cast<milliseconds>(steady_clock::now() - impl_->last_reply).count();
}

void RedisClient::set_reply_bytes_max(std::size_t bytes) { impl_->reply_bytes_max = bytes; }

}  // namespace headgate
