// RedisConn on its way to be ready: an address, its name resolved, TCP or unix, TLS, the greeting. Where the address is
// a Sentinel's its answer is the next to be dialed. Commands and replies are in redis_conn.cpp.
#include "ngx_module/redis_conn.h"

namespace headgate::edge {

void RedisConn::connect() noexcept {
    if (state_ != RedisState::kIdle && state_ != RedisState::kBackoff) {
        return;
    }
    requests_may_wait_ = state_ == RedisState::kIdle;
    began_at_ms_ = ngx_current_msec;
    address_index_ = target_.current;
    asks_sentinel_ = !conf_.sentinel.empty();
    dial(target_.addresses[address_index_]);
}

void RedisConn::dial(const RedisAddress& address) noexcept {
    set_state(RedisState::kConnecting);
    doomed_ = nullptr;
    wrong_address_ = false;
    try {
        dialed_ = address;
        if (conf_.tls && window_ == nullptr) {
            window_ = std::make_unique<char[]>(kTlsWindowBytes);
        }
    } catch (const std::exception& e) {
        fail(e.what());
        return;
    }
    ngx_add_timer(&timeout_event_, conf_.connect_timeout_ms);
    locator_.locate(dialed_, this, on_located);
}

void RedisConn::on_located(void* conn, bool found) noexcept {
    auto* self = static_cast<RedisConn*>(conn);
    if (found) {
        self->open_socket();
    } else {
        self->fail("its name could not be resolved");
    }
}

void RedisConn::open_socket() noexcept {
    ngx_str_t name;
    ngx_peer_connection_t peer{};
    peer.sockaddr = &locator_.found().sockaddr.sockaddr;
    peer.socklen = locator_.found().socklen;
    peer.name = as_ngx_str(name, dialed_.text);
    peer.get = ngx_event_get_peer;
    peer.log = world_.log;
    peer.log_error = NGX_ERROR_ERR;

    const ngx_int_t rc = ngx_event_connect_peer(&peer);
    // NGX_ERROR may leave a connection behind (a failed epoll_ctl, say).
    connection_ = peer.connection;
    if (rc == NGX_ERROR || rc == NGX_BUSY || rc == NGX_DECLINED) {
        fail("could not connect");
        return;
    }
    connection_->data = this;
    connection_->pool = conf_.tls ? ngx_create_pool(512, world_.log) : nullptr;
    connection_->read->handler = on_read_event;
    connection_->write->handler = on_connect_event;
    if (conf_.tls && connection_->pool == nullptr) {
        fail("there is no memory");
        return;
    }
    if (rc == NGX_OK) {
        on_connected();
    }
}

void RedisConn::on_connect_event(ngx_event_t* event) noexcept {
    auto* self = static_cast<RedisConn*>(static_cast<ngx_connection_t*>(event->data)->data);
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
    self->on_connected();
}

void RedisConn::on_connected() noexcept {
    if (!dialed_.host.empty() && ngx_tcp_nodelay(connection_) != NGX_OK) {
        fail("TCP_NODELAY could not be set");
        return;
    }
    // nginx would cork the socket for a spooled body's sendfile() and, as nobody uncorks it here, every such
    // event would wait 200 ms for the kernel to give up.
    connection_->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;
    if (!conf_.tls) {
        say_hello();
        return;
    }
    const std::string& host = conf_.tls_name.empty() ? dialed_.host : conf_.tls_name;
    if (start_redis_tls(connection_, conf_, host, world_.tls_sessions, dialed_.text, on_tls_session, on_tls) !=
        NGX_AGAIN) {
        on_tls(connection_);
    }
}

void RedisConn::on_tls_session(ngx_connection_t* c) noexcept {
    auto* self = static_cast<RedisConn*>(c->data);
    self->world_.tls_sessions.keep(c, self->dialed_.text);
}

void RedisConn::on_tls(ngx_connection_t* c) noexcept {
    auto* self = static_cast<RedisConn*>(c->data);
    if (!redis_tls_is_up(c)) {
        self->world_.tls_sessions.forget(self->dialed_.text);
        self->fail("TLS could not be agreed on");
        return;
    }
    c->read->handler = on_read_event;
    self->say_hello();
}

// ---- the greeting -----------------------------------------------------------------------------

void RedisConn::say_hello() noexcept {
    connection_->write->handler = on_write_event;
    count(world_.shared->own_counters().redis_connects);
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
    if (asks_sentinel_) {
        sentinel_.hello(commands);
    } else {
        greeter_.hello(commands);
    }
    hello_replies_ = commands.size();
    for (std::string& bytes : commands) {
        RedisCommand* command = RedisCommand::of_bytes(std::move(bytes), this, on_hello_reply);
        if (command == nullptr) {
            throw std::bad_alloc();
        }
        hello_.push(command);
    }
}

void RedisConn::on_hello_reply(void* conn, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<RedisConn*>(conn);
    if (outcome != RedisOutcome::kReply) {
        return;
    }
    --self->hello_replies_;
    try {
        if (self->hello_refused_) {
            return;  // what a replica says of our data, say, is not to be believed
        }
        const std::size_t index = self->hello_index_++;
        const bool welcome =
            self->asks_sentinel_ ? self->sentinel_.learn(index, reply) : self->greeter_.learn(index, reply);
        self->hello_refused_ = !welcome;
    } catch (const std::exception&) {
        self->hello_refused_ = true;
    }
}

// Every reply to the greeting is there.
void RedisConn::finish_hello() noexcept {
    if (asks_sentinel_) {
        if (!sentinel_.master()) {
            fail("this Sentinel does not know the master");
            return;
        }
        asks_sentinel_ = false;
        drop_socket(false);
        try {
            dial(address_of(*sentinel_.master()));
        } catch (const std::exception& e) {
            fail(e.what());
        }
        return;
    }
    backoff_ms_ = 0;
    tried_ = 0;
    ready_since_ms_ = ngx_current_msec;
    set_state(RedisState::kReady);
    ngx_log_error(NGX_LOG_NOTICE, world_.log, 0, "headgate: Redis %s is ready%s", dialed_.text.c_str(),
                  redis_tls_resumed(connection_) ? ", its TLS session resumed" : "");
    if (!greeter_.may_publish()) {
        pipeline_.fail_events();
    }
    greeter_.on_ready();
    flush();
}

void RedisConn::on_retry_event(ngx_event_t* event) noexcept {
    auto* self = static_cast<RedisConn*>(event->data);
    if (self->state_ == RedisState::kConnecting) {  // the next address, and requests still wait
        self->address_index_ = self->target_.current;
        self->asks_sentinel_ = !self->conf_.sentinel.empty();
        self->dial(self->target_.addresses[self->address_index_]);
        return;
    }
    self->connect();
}

}  // namespace headgate::edge
