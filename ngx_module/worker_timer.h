// A timer of a worker, for those that live as long as it does: calls its owner from the event loop.
#pragma once

#include "ngx_module/ngx.h"

namespace headgate::edge {

class WorkerTimer {
 public:
    // Does a worker that quits wait for it? It ends without those that are dropped, set or not
    // (ngx_event_no_timers_left()).
    enum class OnQuit : bool { kAwaited, kDropped };

    // Calls fire(owner) once for each time that it is set; `fire` may set it again. `owner` is who has it, or outlives
    // it, and `log` the cycle's.
    WorkerTimer(void* owner, void (*fire)(void* owner), OnQuit on_quit, ngx_log_t* log) noexcept
        : owner_(owner), fire_(fire) {
        ident_.data = this;
        ident_.fd = static_cast<ngx_socket_t>(-1);
        event_.handler = on_event;
        event_.data = &ident_;
        event_.log = log;
        event_.cancelable = on_quit == OnQuit::kDropped ? 1 : 0;
    }
    ~WorkerTimer() { clear(); }
    WorkerTimer(const WorkerTimer&) = delete;
    WorkerTimer& operator=(const WorkerTimer&) = delete;

    // Unless it is set already.
    void set(ngx_msec_t after_ms) noexcept {
        if (!is_set()) {
            ngx_add_timer(&event_, after_ms);
        }
    }
    void clear() noexcept {
        if (is_set()) {
            ngx_del_timer(&event_);
        }
    }
    [[nodiscard]] bool is_set() const noexcept { return event_.timer_set != 0; }

 private:
    static void on_event(ngx_event_t* event) noexcept {
        const auto* self = static_cast<WorkerTimer*>(static_cast<ngx_connection_t*>(event->data)->data);
        self->fire_(self->owner_);
    }

    void* owner_;
    void (*fire_)(void* owner);
    ngx_event_t event_{};
    ngx_connection_t ident_{};  // nginx logs ev->data as a connection
};

}  // namespace headgate::edge
