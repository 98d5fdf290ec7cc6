// See redis_conn.h. The vocabulary is that of nginx's own event-loop clients (compare
// ngx_event_openssl_stapling.c): connect, write handler, read handler, fail, one place of release.
#include "ngx_module/redis_conn.h"

#include <algorithm>
#include <vector>

namespace headgate::edge {

namespace {

constexpr ngx_msec_t kBackoffFirstMs = 100;
constexpr ngx_msec_t kBackoffMaxMs = 2000;
constexpr std::size_t kReadBytes = 16 * 1024;
// nginx's writev takes 64 pieces at once (NGX_IOVS_PREALLOCATE): with at most as many a call of
// send_chain is one system call, and `redis_writes` counts what strace would.
constexpr std::size_t kBufsPerWrite = 64;

RedisConn* conn_of(ngx_event_t* event) noexcept {
    return static_cast<RedisConn*>(static_cast<ngx_connection_t*>(event->data)->data);
}

}  // namespace

RedisConn::RedisConn(const RedisConf& conf, RedisGreeter& greeter, ZoneShared* shared, ngx_log_t* log) noexcept
    : conf_(conf), greeter_(greeter), shared_(shared), log_(log) {
    for (ngx_event_t* event : {&flush_event_, &timeout_event_, &retry_event_}) {
        // At debug level nginx logs the word where a connection's fd would be: it lies inside this object.
        event->data = this;
        event->log = log_;
    }
    flush_event_.handler = on_flush_event;
    timeout_event_.handler = on_timeout_event;
    retry_event_.handler = on_retry_event;
    retry_event_.cancelable = 1;
}

RedisConn::~RedisConn() { close(); }

void RedisConn::connect() noexcept {
    if (state_ != RedisState::kIdle && state_ != RedisState::kBackoff) {
        return;
    }
    requests_may_wait_ = state_ == RedisState::kIdle;
    ngx_peer_connection_t peer{};
    peer.sockaddr = conf_.addr.sockaddr;
    peer.socklen = conf_.addr.socklen;
    peer.name = const_cast<ngx_str_t*>(&conf_.addr.name);
    peer.get = ngx_event_get_peer;
    peer.log = log_;
    peer.log_error = NGX_ERROR_ERR;

    set_state(RedisState::kConnecting);
    const ngx_int_t rc = ngx_event_connect_peer(&peer);
    if (rc == NGX_ERROR || rc == NGX_BUSY || rc == NGX_DECLINED) {
        // NGX_ERROR may leave a connection behind (a failed epoll_ctl, say).
        connection_ = peer.connection;
        fail("could not connect");
        return;
    }
    connection_ = peer.connection;
    connection_->data = this;
    connection_->pool = nullptr;
    connection_->read->handler = on_read_event;
    connection_->write->handler = on_connect_event;
    ngx_add_timer(&timeout_event_, conf_.connect_timeout_ms);
    if (rc == NGX_OK) {
        say_hello();
    }
}

void RedisConn::say_hello() noexcept {
    if (conf_.addr.sockaddr->sa_family != AF_UNIX && ngx_tcp_nodelay(connection_) != NGX_OK) {
        fail("TCP_NODELAY could not be set");
        return;
    }
    // nginx would cork the socket for a spooled body's sendfile() and, as nobody uncorks it here, every such
    // event would wait 200 ms for the kernel to give up.
    connection_->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;
    connection_->write->handler = on_write_event;
    count(shared_->own_counters().redis_connects);
    set_state(RedisState::kHandshake);
    try {
        queue_hello();
    } catch (const std::exception& e) {
        fail(e.what());
        return;
    }
    ngx_add_timer(&timeout_event_, conf_.timeout_ms);
    flush();
}

void RedisConn::queue_hello() {
    hello_index_ = 0;
    hello_refused_ = false;
    std::vector<std::string> commands;
    greeter_.hello(commands);
    hello_replies_ = commands.size();
    for (std::string& bytes : commands) {
        auto* command = new RedisCommand;
        command->bytes = std::move(bytes);
        command->write_own_bytes();
        command->done = on_hello_reply;
        command->asker = this;
        hello_.push(command);
    }
}

void RedisConn::on_hello_reply(void* conn, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<RedisConn*>(conn);
    if (outcome != RedisOutcome::kReply) {
        return;
    }
    --self->hello_replies_;
    if (!self->greeter_.learn(self->hello_index_++, reply)) {
        self->hello_refused_ = true;
    }
}

bool RedisConn::send(RedisCommand* command) noexcept {
    if (state_ == RedisState::kIdle) {
        connect();  // a quitting worker closed its idle connection, and a late request needs it again
    }
    const bool may_wait = (state_ == RedisState::kConnecting || state_ == RedisState::kHandshake) && requests_may_wait_;
    if (failing_ || (state_ != RedisState::kReady && !may_wait)) {
        return false;
    }
    pipeline_.push(command);
    count(shared_->own_counters().redis_commands);
    if (state_ == RedisState::kReady) {
        connection_->idle = 0;
        watch_timeout();
        if (!flush_event_.posted) {
            ngx_post_event(&flush_event_, &ngx_posted_events);
        }
    }
    return true;
}

RedisCommand* RedisConn::send_bytes(std::string bytes, void* asker,
                                    void (*done)(void* asker, RedisOutcome outcome, const redisReply* reply)) noexcept {
    auto* command = new (std::nothrow) RedisCommand;
    if (command == nullptr) {
        return nullptr;
    }
    command->bytes = std::move(bytes);
    command->write_own_bytes();
    command->asker = asker;
    command->done = done;
    if (!send(command)) {
        delete command;
        return nullptr;
    }
    return command;
}

void RedisConn::flush() noexcept {
    if (connection_ == nullptr || state_ == RedisState::kConnecting) {
        return;
    }
    RedisPipeline& pipeline = active();
    while (connection_->write->ready) {
        ngx_chain_t* chain = pipeline.next_chain(kBufsPerWrite);
        if (chain == nullptr) {
            break;
        }
        count(shared_->own_counters().redis_writes);
        const bool broken = connection_->send_chain(connection_, chain, 0) == NGX_CHAIN_ERROR;
        pipeline.wrote();
        if (connection_ == nullptr) {
            return;
        }
        if (broken) {
            fail("a write failed");
            return;
        }
    }
    if (ngx_handle_write_event(connection_->write, 0) != NGX_OK) {
        fail("the write event could not be set");
    }
}

void RedisConn::read() noexcept {
    char buffer[kReadBytes];
    ngx_connection_t* c = connection_;
    while (c->read->ready) {
        const ssize_t n = c->recv(c, reinterpret_cast<u_char*>(buffer), sizeof buffer);
        if (n == NGX_AGAIN) {
            break;
        }
        if (n == 0) {
            fail("Redis closed the connection");
            return;
        }
        if (n < 0) {
            fail("a read failed");
            return;
        }
        const bool understood = active().feed(buffer, static_cast<std::size_t>(n));
        count(shared_->own_counters().redis_replies, static_cast<ngx_atomic_int_t>(active().take_replies()));
        if (!understood) {
            fail("Redis sent what is no reply, or a reply to nothing");
            return;
        }
        if (connection_ != c) {
            return;
        }
        if (hello_refused_) {
            fail("the connection was refused");
            return;
        }
        if (state_ == RedisState::kHandshake && hello_replies_ == 0) {
            backoff_ms_ = 0;
            ready_since_ms_ = ngx_current_msec;
            set_state(RedisState::kReady);
            ngx_log_error(NGX_LOG_NOTICE, log_, 0, "headgate: Redis %V is ready", &conf_.addr.name);
            if (!greeter_.may_publish()) {
                pipeline_.fail_events();
            }
            flush();
            if (connection_ != c) {
                return;
            }
        }
    }
    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        fail("the read event could not be set");
        return;
    }
    settle();
}

void RedisConn::settle() noexcept {
    if (connection_ == nullptr || state_ != RedisState::kReady) {
        return;
    }
    if (!pipeline_.idle()) {
        watch_timeout();
        return;
    }
    connection_->idle = 1;
    if (ngx_exiting || ngx_terminate) {
        close();
    }
}

void RedisConn::watch_timeout() noexcept {
    // The timer is set lazily: it looks at the oldest command when it fires, and is not moved by each reply.
    if (!timeout_event_.timer_set) {
        ngx_add_timer(&timeout_event_, conf_.timeout_ms);
    }
}

void RedisConn::fail(const char* why) noexcept {
    if (failing_) {
        return;
    }
    failing_ = true;
    count(shared_->own_counters().redis_errors);
    ngx_log_error(NGX_LOG_ERR, log_, 0, "headgate: Redis %V: %s; next attempt in %M ms", &conf_.addr.name, why,
                  backoff_ms_ == 0 ? kBackoffFirstMs : std::min(backoff_ms_ * 2, kBackoffMaxMs));
    drop_socket();
    backoff_ms_ = backoff_ms_ == 0 ? kBackoffFirstMs : std::min(backoff_ms_ * 2, kBackoffMaxMs);
    set_state(RedisState::kBackoff);
    hello_.fail_all();
    pipeline_.fail_all();
    failing_ = false;
    if (!ngx_exiting && !ngx_terminate) {
        ngx_add_timer(&retry_event_, backoff_ms_);
    } else {
        set_state(RedisState::kIdle);
    }
}

void RedisConn::close() noexcept {
    drop_socket();
    if (retry_event_.timer_set) {
        ngx_del_timer(&retry_event_);
    }
    set_state(RedisState::kIdle);
    failing_ = true;
    hello_.fail_all();
    pipeline_.fail_all();
    failing_ = false;
}

void RedisConn::drop_socket() noexcept {
    if (timeout_event_.timer_set) {
        ngx_del_timer(&timeout_event_);
    }
    if (flush_event_.posted) {
        ngx_delete_posted_event(&flush_event_);
    }
    if (connection_ != nullptr) {
        ngx_close_connection(std::exchange(connection_, nullptr));
    }
}

void RedisConn::set_state(RedisState state) noexcept {
    state_ = state;
    if (shows_state_) {
        shared_->workers[ngx_process_slot].redis_state = static_cast<ngx_atomic_uint_t>(state);
    }
}

void RedisConn::on_connect_event(ngx_event_t* event) noexcept {
    RedisConn* self = conn_of(event);
    int error = 0;
    socklen_t bytes = sizeof error;
    if (getsockopt(self->connection_->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) == -1) {
        error = ngx_socket_errno;
    }
    if (error != 0) {
        (void)ngx_connection_error(self->connection_, error, const_cast<char*>("connect() failed"));
        self->fail("could not connect");
        return;
    }
    self->say_hello();
}

void RedisConn::on_read_event(ngx_event_t* event) noexcept {
    RedisConn* self = conn_of(event);
    if (self->connection_->close) {  // ngx_close_idle_connections()
        self->close();
        return;
    }
    if (self->state_ == RedisState::kConnecting) {
        return;  // the write event reports the connection's outcome
    }
    self->read();
}

void RedisConn::on_write_event(ngx_event_t* event) noexcept { conn_of(event)->flush(); }

void RedisConn::on_flush_event(ngx_event_t* event) noexcept { static_cast<RedisConn*>(event->data)->flush(); }

void RedisConn::on_timeout_event(ngx_event_t* event) noexcept {
    auto* self = static_cast<RedisConn*>(event->data);
    if (self->state_ == RedisState::kConnecting) {
        self->fail("no connection within connect_timeout");
        return;
    }
    if (self->state_ == RedisState::kHandshake) {
        self->fail("no answer to the greeting within timeout");
        return;
    }
    if (self->pipeline_.idle()) {
        return;
    }
    // Commands that waited for the first connection have their whole timeout from when it was ready.
    const auto oldest = static_cast<ngx_msec_int_t>(self->pipeline_.oldest_ms() - self->ready_since_ms_) > 0
                            ? self->pipeline_.oldest_ms()
                            : self->ready_since_ms_;
    const auto left = static_cast<ngx_msec_int_t>(oldest + self->conf_.timeout_ms - ngx_current_msec);
    if (left > 0) {
        ngx_add_timer(event, static_cast<ngx_msec_t>(left));
        return;
    }
    self->fail("no reply within timeout");
}

void RedisConn::on_retry_event(ngx_event_t* event) noexcept { static_cast<RedisConn*>(event->data)->connect(); }

}  // namespace headgate::edge
