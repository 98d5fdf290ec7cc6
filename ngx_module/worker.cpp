// See worker.h.
#include "ngx_module/worker.h"

#include <openssl/rand.h>

#include "common/event_record.h"
#include "common/limits.h"

namespace headgate::edge {

static constexpr ngx_msec_t kRefreshMs = 1000;

namespace {

ZoneShared* claimed(ZoneShared* shared) noexcept {
    claim_counters(*shared);
    return shared;
}

}  // namespace

Worker::Worker(const MainConf& conf, ngx_cycle_t* cycle)
    : shared_(claimed(shared_of(conf.zone))),
      counters_(&shared_->own_counters()),
      redis_(conf, shared_, cycle->log),
      revocations_(keys(), *shared_,
                   conf.redis_of(RedisRole::kKeys)->connect_timeout_ms + conf.redis_of(RedisRole::kKeys)->timeout_ms,
                   cycle->log),
      control_(*conf.redis_of(RedisRole::kKeys), expected_of(conf, false), *shared_, revocations_, cycle->log),
      key_store_(conf, shared_, cycle->log),
      key_waiters_(cycle->log),
      backlog_(events(), shared_->backlog, static_cast<int>(conf.shards), cycle->log),
      leases_(shared_, limits(), cycle->log),
      usage_(keys(), cycle->log),
      report_(*cycle, *counters_),
      refresh_(this, on_refresh, WorkerTimer::OnQuit::kDropped, cycle->log),
      scan_buffer_(std::make_unique<char[]>(limits::kScanBufferBytes)) {
    for (int shard = 0; shard < static_cast<int>(conf.shards); ++shard) {
        stream_keys_.push_back(headgate::stream_key(kDefaultKeyPrefix, shard));
    }
}

Worker::~Worker() { shared_->workers[ngx_process_slot].pid = 0; }

void Worker::start() noexcept {
    ZoneShared::Worker& slot = shared_->workers[ngx_process_slot];
    slot.inflight_bytes = 0;
    slot.redis_state = 0;
    slot.pid = static_cast<ngx_atomic_uint_t>(ngx_pid);
    redis_.start();
    revocations_.start();
    control_.start();
    refresh_.set(kRefreshMs);
}

void Worker::stop() noexcept {
    control_.stop();
    revocations_.stop();
    redis_.stop();
    key_waiters_.stop();
    leases_.stop();
    redis_.stop();  // whoever went on has asked for something else meanwhile
}

void Worker::on_refresh(void* data) noexcept {
    auto* self = static_cast<Worker*>(data);
    if (ngx_exiting) {
        return;
    }
    self->redis_.refresh();
    self->report_.send(self->events(), self->inflight_bytes_);
    self->refresh_.set(kRefreshMs);
}

void Worker::add_inflight(RequestCtx* ctx, std::size_t bytes) noexcept {
    ctx->inflight_bytes = bytes;
    inflight_bytes_ += bytes;
    shared_->workers[ngx_process_slot].inflight_bytes = inflight_bytes_;
}

void Worker::settle_inflight(RequestCtx* ctx) noexcept {
    inflight_bytes_ -= std::exchange(ctx->inflight_bytes, 0);
    shared_->workers[ngx_process_slot].inflight_bytes = inflight_bytes_;
}

bool Worker::random_bytes(std::array<unsigned char, 10>& out) noexcept {
    if (random_left_ < out.size()) {
        if (RAND_bytes(random_.data(), static_cast<int>(random_.size())) != 1) {
            return false;
        }
        random_left_ = random_.size();
    }
    random_left_ -= out.size();
    ngx_memcpy(out.data(), random_.data() + random_left_, out.size());
    return true;
}

namespace {

MainConf* conf_of(ngx_cycle_t* cycle) noexcept {
    return static_cast<MainConf*>(ngx_http_cycle_get_module_main_conf(cycle, ngx_http_headgate_module));
}

}  // namespace

ngx_int_t start_worker(ngx_cycle_t* cycle) noexcept {
    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE) {
        return NGX_OK;  // cache manager and loader
    }
    MainConf* conf = conf_of(cycle);
    if (conf == nullptr || !conf->in_use) {
        return NGX_OK;
    }
    try {
        conf->worker = std::make_unique<Worker>(*conf, cycle);
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "headgate: the worker could not start: %s", e.what());
        return NGX_ERROR;
    }
    conf->worker->start();
    return NGX_OK;
}

void stop_worker(ngx_cycle_t* cycle) noexcept {
    if (MainConf* conf = conf_of(cycle); conf != nullptr && conf->worker != nullptr) {
        conf->worker->stop();  // whoever still waits is answered by a worker that is whole
        conf->worker.reset();
    }
}

}  // namespace headgate::edge
