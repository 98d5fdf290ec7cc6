// See redis_conn.h; how a connection comes to be ready is in redis_dial.cpp. The vocabulary is that of nginx's own
// event-loop clients (compare ngx_event_openssl_stapling.c): connect, write handler, read handler, fail, one place of
// release.
#include "ngx_module/redis_conn.h"

#include <algorithm>
#include <vector>

#include "common/resp.h"
#include "ngx_module/redis_reply.h"

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

void RedisGauge::move(RedisState from, RedisState to) noexcept {
    const auto count_of = [this](RedisState state) -> std::size_t& { return counts_[static_cast<std::size_t>(state)]; };
    if (from != RedisState::kIdle) {
        --count_of(from);
    }
    if (to != RedisState::kIdle) {
        ++count_of(to);
    }
    RedisState worst = RedisState::kIdle;
    for (const RedisState state :
         {RedisState::kReady, RedisState::kHandshake, RedisState::kConnecting, RedisState::kBackoff}) {
        worst = count_of(state) != 0 ? state : worst;
    }
    slot_ = static_cast<ngx_atomic_uint_t>(worst);
}

RedisConn::RedisConn(const World& world, RedisTarget& target, RedisGreeter& greeter) noexcept
    : world_(world),
      conf_(world.conf),
      target_(target),
      greeter_(greeter),
      locator_(world.conf, world.log),
      sentinel_(world.conf, world.log),
      reply_timeout_ms_(world.conf.timeout_ms) {
    for (ngx_event_t* event : {&flush_event_, &timeout_event_, &retry_event_}) {
        // At debug level nginx logs the word where a connection's fd would be: it lies inside this object.
        event->data = this;
        event->log = world_.log;
    }
    flush_event_.handler = on_flush_event;
    timeout_event_.handler = on_timeout_event;
    retry_event_.handler = on_retry_event;
    retry_event_.cancelable = 1;
    pipeline_.watch_errors(this, on_error_reply);
}

RedisConn::~RedisConn() { close(); }

void RedisConn::wait_for_replicas() noexcept {
    // A command may have to wait for the WAIT before its own, too: both together stay within `timeout`, and Redis,
    // which keeps the clock of a WAIT, answers before the connection is given up.
    pipeline_.wait_for_replicas(std::max<ngx_msec_t>(1, conf_.timeout_ms / 2));
    reply_timeout_ms_ = 2 * conf_.timeout_ms;
}

// ---- commands and replies ---------------------------------------------------------------------

bool RedisConn::send(RedisCommand* command) noexcept {
    if (state_ == RedisState::kIdle && !failing_) {
        connect();  // it is made when first needed, and a quitting worker may have closed it while idle
    }
    const bool may_wait = (state_ == RedisState::kConnecting || state_ == RedisState::kHandshake) && requests_may_wait_;
    if (failing_ || (state_ != RedisState::kReady && !may_wait)) {
        return false;
    }
    pipeline_.push(command);
    count(world_.shared->own_counters().redis_commands);
    if (state_ == RedisState::kReady) {
        connection_->idle = 0;
        watch_timeout();
        if (!flush_event_.posted) {
            ngx_post_event(&flush_event_, &ngx_posted_events);
        }
    }
    return true;
}

RedisCommand* RedisConn::send_bytes(std::string bytes, void* asker, RedisCommand::Done done) noexcept {
    RedisCommand* command = RedisCommand::of_bytes(std::move(bytes), asker, done);
    if (command != nullptr && !send(command)) {
        delete std::exchange(command, nullptr);
    }
    return command;
}

bool RedisConn::write(ngx_chain_t* chain) noexcept {
    count(world_.shared->own_counters().redis_writes);
    if (conf_.tls) {
        return redis_tls_send_chain(connection_, chain, window_.get()) == NGX_OK;
    }
    return connection_->send_chain(connection_, chain, 0) != NGX_CHAIN_ERROR;
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
        const bool broken = !write(chain);
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
        reading_ = true;
        const bool understood = active().feed(buffer, static_cast<std::size_t>(n));
        reading_ = false;
        count(world_.shared->own_counters().redis_replies, static_cast<ngx_atomic_int_t>(active().take_replies()));
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
        if (doomed_ != nullptr) {
            fail(doomed_);
            return;
        }
        if (state_ == RedisState::kHandshake && hello_replies_ == 0) {
            finish_hello();
            if (state_ != RedisState::kReady) {
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

void RedisConn::on_error_reply(void* conn, std::string_view error) noexcept {
    auto* self = static_cast<RedisConn*>(conn);
    if (const char* fault = connection_fault(error); fault != nullptr && self->doomed_ == nullptr) {
        self->doomed_ = fault;
        self->wrong_address_ = is_role_fault(error);
    }
    // What an ACL withholds concerns one command, and the text says which.
    if (error.starts_with("NOPERM") && self->complained_at_ != ngx_time()) {
        self->complained_at_ = ngx_time();
        ngx_log_error(NGX_LOG_ERR, self->world_.log, 0, "headgate: Redis %s: %*s", self->dialed_.text.c_str(),
                      error.size(), error.data());
    }
}

void RedisConn::settle() noexcept {
    if (connection_ == nullptr || state_ != RedisState::kReady) {
        return;
    }
    if (const long long replicas = pipeline_.take_missed_replicas(); replicas >= 0 && complained_at_ != ngx_time()) {
        complained_at_ = ngx_time();
        ngx_log_error(NGX_LOG_ERR, world_.log, 0,
                      "headgate: Redis %s: events reached only %L replicas within %M ms, and are answered 503",
                      dialed_.text.c_str(), static_cast<std::int64_t>(replicas), conf_.timeout_ms / 2);
    }
    if (!pipeline_.idle()) {
        watch_timeout();
        if (pipeline_.next_batch_is_due() && !flush_event_.posted) {
            ngx_post_event(&flush_event_, &ngx_posted_events);
        }
        return;
    }
    connection_->idle = 1;
    if (ngx_exiting || ngx_terminate) {
        close();
    }
}

// ---- failure, timers, the end -----------------------------------------------------------------

void RedisConn::watch_timeout() noexcept {
    // The timer is set lazily: it looks at the oldest command when it fires, and is not moved by each reply.
    if (!timeout_event_.timer_set) {
        ngx_add_timer(&timeout_event_, reply_timeout_ms_);
    }
}

void RedisConn::move_on(const char* why) noexcept {
    if (state_ != RedisState::kReady) {
        return;
    }
    wrong_address_ = true;
    if (reading_) {
        doomed_ = why;  // somebody who is being told says so: the pipeline is not to be changed under it
    } else {
        fail(why);
    }
}

void RedisConn::fail(const char* why) noexcept {
    if (failing_) {
        return;
    }
    failing_ = true;
    count(world_.shared->own_counters().redis_errors);
    const bool was_ready = state_ == RedisState::kReady;
    // A connection that broke is made again to where it went; what could not be reached or is no master is passed over.
    const bool passes_over = !was_ready || wrong_address_;
    if (passes_over) {
        target_.pass_over(address_index_);
        ++tried_;
    }
    const bool next_at_once = passes_over && tried_ < target_.addresses.size();
    ngx_msec_t pause_ms = 0;
    if (!next_at_once) {
        tried_ = 0;
        backoff_ms_ = backoff_ms_ == 0 ? kBackoffFirstMs : std::min(backoff_ms_ * 2, kBackoffMaxMs);
        pause_ms = backoff_ms_ / 2 + static_cast<ngx_msec_t>(ngx_random()) % (backoff_ms_ / 2 + 1);
    }
    ngx_log_error(NGX_LOG_ERR, world_.log, 0, "headgate: Redis %s: %s; next attempt in %M ms", dialed_.text.c_str(),
                  why, pause_ms);
    drop_socket(true);
    hello_.fail_all();
    const bool still_first =
        !was_ready && next_at_once && requests_may_wait_ && ngx_current_msec - began_at_ms_ < conf_.connect_timeout_ms;
    if (still_first) {
        set_state(RedisState::kConnecting);
    } else {
        requests_may_wait_ = false;
        set_state(RedisState::kBackoff);
        pipeline_.fail_all();
        greeter_.on_failed();
    }
    failing_ = false;
    if (next_at_once && (still_first || !(ngx_exiting || ngx_terminate))) {
        ngx_post_event(&retry_event_, &ngx_posted_events);
    } else if (!ngx_exiting && !ngx_terminate) {
        ngx_add_timer(&retry_event_, pause_ms);
    } else {
        set_state(RedisState::kIdle);
    }
}

void RedisConn::close() noexcept {
    drop_socket(false);
    if (retry_event_.timer_set) {
        ngx_del_timer(&retry_event_);
    }
    if (retry_event_.posted) {
        ngx_delete_posted_event(&retry_event_);
    }
    set_state(RedisState::kIdle);
    failing_ = true;
    hello_.fail_all();
    pipeline_.fail_all();
    failing_ = false;
}

void RedisConn::drop_socket(bool broken) noexcept {
    locator_.cancel();
    if (timeout_event_.timer_set) {
        ngx_del_timer(&timeout_event_);
    }
    if (flush_event_.posted) {
        ngx_delete_posted_event(&flush_event_);
    }
    if (connection_ != nullptr) {
        ngx_connection_t* c = std::exchange(connection_, nullptr);
        close_redis_tls(c, broken);
        ngx_pool_t* pool = c->pool;
        ngx_close_connection(c);
        if (pool != nullptr) {
            ngx_destroy_pool(pool);
        }
    }
}

void RedisConn::set_state(RedisState state) noexcept {
    world_.gauge.move(state_, state);
    state_ = state;
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
    const auto left = static_cast<ngx_msec_int_t>(oldest + self->reply_timeout_ms_ - ngx_current_msec);
    if (left > 0) {
        ngx_add_timer(event, static_cast<ngx_msec_t>(left));
        return;
    }
    self->fail("no reply within timeout");
}

}  // namespace headgate::edge
