// A pipelined RESP2 connection on Asio; see redis_client.h.
//
// One coroutine (`drive`) lives for each connection: it connects, introduces itself (AUTH, SELECT, ROLE),
// then reads until the connection ends. A second one writes what is queued. Callers wait on a timer
// of their own that is also their deadline. All of it runs on the client's executor.
#include "sidecar/io/redis_client.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <optional>

#include "common/redis_reply.h"
#include "common/redis_topology.h"
#include "common/resp.h"
#include "sidecar/base/measures.h"
#include "sidecar/io/redis_sentinel.h"
#include "sidecar/io/redis_socket.h"

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

std::string_view error_text(const redisReply& reply) noexcept {
    return reply.type == REDIS_REPLY_ERROR ? redis::text_of(&reply) : std::string_view();
}

void RedisReplyDeleter::operator()(redisReply* reply) const noexcept { freeReplyObject(reply); }

struct RedisClient::Impl : std::enable_shared_from_this<Impl> {
    // One send() in progress. Its timer runs to the deadline and is cancelled when it is done.
    struct Waiter {
        Waiter(const asio::any_io_executor& executor, std::size_t wanted, milliseconds timeout)
            : timer(executor, timeout), wanted(wanted) {}
        asio::steady_timer timer;
        std::size_t wanted;
        RedisReplies replies;
        std::optional<Error> error;
        bool done = false;
        void finish() {
            done = true;
            timer.cancel();
        }
    };
    using WaiterPtr = std::shared_ptr<Waiter>;

    // One socket's life. Coroutines of an older one notice that they are no longer the current one.
    struct Connection {
        std::shared_ptr<RedisSocket> socket;  // of the server that is tried, then of the one that was taken
        ReaderPtr reader = make_reader();
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
    std::size_t first_server = 0;  // of several, the one to try first: the next one after a failure
    std::string queued;            // commands that wait for the connection to be ready
    steady_clock::time_point last_reply = steady_clock::now();

    // `of` by value: the member it may come from is reset here.
    void end(ConnectionPtr of, ErrorCode code, const std::string& reason) {
        if (connection != of) return;
        connection.reset();
        if (!of->ready) first_server++;
        if (of->socket) of->socket->close();
        queued.clear();
        std::deque<WaiterPtr> failed = std::exchange(waiters, {});
        for (const WaiterPtr& waiter : failed) {
            waiter->error = Error{code, "Redis " + address.name() + ": " + reason};
            waiter->finish();
        }
    }

    void start() {
        add(measures().redis_connections);
        connection = std::make_shared<Connection>();
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
            boost::system::error_code ec = co_await on->socket->write(on->output);
            if (ec) {
                self->end(on, ErrorCode::kUnavailable, ec.message());
                break;
            }
        }
        on->writing = false;
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
            std::size_t count = co_await on->socket->read_some(asio::buffer(on->input), ec);
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
        bool asks_role = self->address.looks_for_master();
        if (asks_role) {
            writer.command("ROLE");
            expected++;
        }
        if (expected == 0) co_return Result<void>();
        boost::system::error_code ec = co_await on->socket->write(commands);
        if (ec) co_return fail(ErrorCode::kUnavailable, ec.message());
        for (int i = 0; i < expected; i++) {
            Result<RedisReplyPtr> reply = co_await next_reply(self, on);
            if (!reply) co_return tl::unexpected<Error>(reply.error());
            bool is_role = asks_role && i == expected - 1;
            if ((*reply)->type == REDIS_REPLY_ERROR) {
                co_return fail(ErrorCode::kUnavailable,
                               (is_role ? "ROLE was refused: " : "AUTH or SELECT was refused: ") +
                                   std::string(error_text(**reply)));
            }
            if (is_role && !redis::role_is_master(reply->get())) {
                co_return fail(ErrorCode::kUnavailable, "it is a replica, not the master");
            }
            if (is_role) self->address.tell_servers(redis::replicas_of(reply->get()));
        }
        co_return Result<void>();
    }

    // The servers that may be the one, in the order in which to try them.
    static asio::awaitable<Result<std::vector<redis::HostPort>>> candidates(std::shared_ptr<Impl> self) {
        if (self->address.has_sentinels()) {
            Result<redis::HostPort> master =
                co_await find_sentinel_master(self->executor, self->address, self->first_server, self->timeout);
            if (!master) co_return tl::unexpected<Error>(master.error());
            std::vector<redis::HostPort> only = {*master};
            co_return only;
        }
        std::vector<redis::HostPort> servers = self->address.servers();
        if (!servers.empty()) {
            auto first = static_cast<std::ptrdiff_t>(self->first_server % servers.size());
            std::rotate(servers.begin(), servers.begin() + first, servers.end());
        }
        co_return servers;
    }

    static asio::awaitable<Result<void>> try_server(std::shared_ptr<Impl> self, ConnectionPtr on,
                                                    const RedisAddress& server) {
        on->socket = std::make_shared<RedisSocket>(self->executor);
        on->reader = make_reader();
        std::shared_ptr<RedisSocket> socket = on->socket;
        Result<void> done = co_await socket->connect(server);
        if (done) done = co_await introduce(self, on);
        co_return done;
    }

    static asio::awaitable<Result<void>> open(std::shared_ptr<Impl> self, ConnectionPtr on) {
        if (!self->address.unix_path.empty()) co_return co_await try_server(self, on, self->address);
        auto servers = co_await candidates(self);
        if (!servers) co_return tl::unexpected<Error>(servers.error());
        Result<void> done = fail(ErrorCode::kInvalidArgument, "no server is named");
        for (const redis::HostPort& server : *servers) {
            if (self->connection != on) break;
            RedisAddress address = self->address.of_server(server);
            done = co_await try_server(self, on, address);
            if (done) break;
            if (servers->size() > 1 || self->address.has_sentinels())
                done.error().message = redis::text_of(server) + ": " + done.error().message;
        }
        co_return done;
    }

    static asio::awaitable<void> drive(std::shared_ptr<Impl> self, ConnectionPtr on) {
        Result<void> opened = co_await open(self, on);
        if (!opened) {
            if (on->socket) on->socket->close();
            self->end(on, opened.error().code, opened.error().message);
            co_return;
        }
        if (self->connection != on) {
            on->socket->close();
            co_return;
        }
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
            const char* fault = redis::connection_fault(error_text(**reply));
            waiter->replies.push_back(std::move(*reply));
            if (waiter->replies.size() == waiter->wanted) {
                self->waiters.pop_front();
                waiter->finish();
            }
            if (fault != nullptr && self->address.looks_for_master()) {
                self->end(on, ErrorCode::kUnavailable, fault);
                co_return;
            }
        }
    }

    static asio::awaitable<Result<RedisReplies>> send(std::shared_ptr<Impl> self, std::string commands,
                                                      std::size_t replies, milliseconds timeout) {
        if (replies == 0) co_return RedisReplies();
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

asio::awaitable<Result<RedisReplies>> RedisClient::send(std::string commands, std::size_t replies) {
    return Impl::send(impl_, std::move(commands), replies, impl_->timeout);
}

asio::awaitable<Result<RedisReplies>> RedisClient::send(std::string commands, std::size_t replies,
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
