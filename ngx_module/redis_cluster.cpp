// See redis_cluster.h.
#include "ngx_module/redis_cluster.h"

#include <algorithm>

#include "common/resp.h"
#include "ngx_module/redis_reply.h"

namespace headgate::edge {

namespace {

constexpr ngx_msec_t kAskAgainMs = 100;  // a storm of MOVED asks for the map no oftener
constexpr unsigned kRefreshTicks = 10;   // and without any reason so many seconds pass
// Pauses after TRYAGAIN: 20, 40, … 320 ms. A slot's last keys move in milliseconds, unless they are large.
constexpr ngx_msec_t kPauseFirstMs = 20;
constexpr std::uint8_t kPausesMax = 5;

}  // namespace

RedisCluster::RedisCluster(const RedisConn::World& world, RedisMeta& meta, void* owner,
                           void (*map_known)(void* owner) noexcept)
    : world_(world),
      meta_(meta),
      owner_(owner),
      map_known_(map_known),
      map_target_{world.conf.addresses},
      map_line_(world, map_target_, *this) {
    ngx_queue_init(&waiting_);
    ngx_queue_init(&paused_);
    pause_event_.handler = on_pause_event;
    pause_event_.data = this;
    pause_event_.log = world.log;
}

RedisCluster::~RedisCluster() { stop(); }

void RedisCluster::stop() noexcept {
    map_line_.close();
    for (Member& member : members_) {
        member.node->stop();
    }
    on_failed();
    end_pauses(true);
}

void RedisCluster::refresh() noexcept {
    bool serving_failed = false;
    for (Member& member : members_) {
        member.node->refresh();
        serving_failed |= member.node->failed() && map_.serves(member.where);
    }
    std::erase_if(members_,
                  [this](const Member& member) { return !map_.serves(member.where) && member.node->unused(); });
    // A map that keeps naming a node that is gone may come from somebody who is cut off from the others, too.
    failed_ticks_ = serving_failed ? failed_ticks_ + 1 : 0;
    if (failed_ticks_ != 0 && failed_ticks_ % 3 == 0 && map_line_.ready()) {
        map_line_.move_on("its map names a master that does not answer");
    } else if (serving_failed || ++ticks_ % kRefreshTicks == 0) {
        ask_slots();
    }
}

// ---- the map ----------------------------------------------------------------------------------

void RedisCluster::hello(std::vector<std::string>& commands) {
    std::string auth = auth_command(world_.conf.login);
    map_has_auth_ = !auth.empty();
    if (map_has_auth_) {
        commands.push_back(std::move(auth));
    }
    RespWriter(commands.emplace_back()).command("CLUSTER", "SLOTS");
}

bool RedisCluster::learn(std::size_t index, const redisReply* reply) {
    const bool is_auth = map_has_auth_ && index == 0;
    if (reply->type == REDIS_REPLY_ERROR) {
        log_refused_greeting(world_.log, is_auth, reply);
        return false;
    }
    if (is_auth) {
        return true;
    }
    if (!learn_slots(reply)) {
        ngx_log_error(NGX_LOG_ERR, world_.log, 0, "headgate: Redis %s serves no cluster, or has no slots yet",
                      map_line_.dialed().text.c_str());
        return false;
    }
    return true;
}

bool RedisCluster::learn_slots(const redisReply* reply) {
    const bool was_known = map_.known();
    if (!map_.learn(reply, map_line_.dialed().host)) {
        return false;
    }
    RedisTarget target{world_.conf.addresses};
    for (const HostPort& master : map_.masters()) {
        if (target.addresses.size() < kRedisAddressesMax) {
            target.addresses.push_back(address_of(master));
        }
    }
    target.current = map_target_.current % target.addresses.size();
    map_target_ = std::move(target);
    if (!was_known || !meta_known_) {
        map_known_(owner_);
    }
    send_waiting(false);
    return true;
}

void RedisCluster::ask_slots() noexcept {
    if (asking_slots_ || !map_line_.ready() || ngx_current_msec - asked_at_ms_ < kAskAgainMs) {
        return;
    }
    asked_at_ms_ = ngx_current_msec;
    try {
        std::string bytes;
        RespWriter(bytes).command("CLUSTER", "SLOTS");
        asking_slots_ = map_line_.send_bytes(std::move(bytes), this, on_slots) != nullptr;
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, world_.log, 0, "headgate: %s", e.what());
    }
}

void RedisCluster::on_slots(void* cluster, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<RedisCluster*>(cluster);
    self->asking_slots_ = false;
    try {
        if (outcome == RedisOutcome::kReply && !self->learn_slots(reply)) {
            self->map_line_.move_on("it does not know the cluster's slots");
        }
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, self->world_.log, 0, "headgate: %s", e.what());
    }
}

void RedisCluster::on_failed() noexcept {
    if (!map_.known()) {
        map_failed_ = true;
    }
    if (!map_.known() || !meta_known_) {
        meta_is(false);
    }
}

void RedisCluster::meta_is(bool known) noexcept {
    meta_known_ |= known;
    meta_failed_ |= !known;
    if (map_.known()) {
        send_waiting(true);
        return;
    }
    while (!ngx_queue_empty(&waiting_)) {
        ngx_queue_t* link = ngx_queue_head(&waiting_);
        ngx_queue_remove(link);
        RedisPipeline::refuse(ngx_queue_data(link, RedisCommand, link));
    }
}

// Sends what waited for the map; `events`: also what waited for headgate:meta.
void RedisCluster::send_waiting(bool events) noexcept {
    ngx_queue_t waiting;
    ngx_queue_init(&waiting);
    if (!ngx_queue_empty(&waiting_)) {
        ngx_queue_add(&waiting, &waiting_);
        ngx_queue_init(&waiting_);
    }
    while (!ngx_queue_empty(&waiting)) {
        ngx_queue_t* link = ngx_queue_head(&waiting);
        ngx_queue_remove(link);
        RedisCommand* command = ngx_queue_data(link, RedisCommand, link);
        if (command->is_event && !events) {
            ngx_queue_insert_tail(&waiting_, link);
        } else if ((command->is_event && !meta_.may_publish()) || !send_to_owner(command)) {
            RedisPipeline::refuse(command);
        }
    }
}

// ---- the nodes --------------------------------------------------------------------------------

RedisNode* RedisCluster::node_by_id(std::uint32_t id) noexcept {
    for (Member& member : members_) {
        if (member.node->id() == id) {
            return member.node.get();
        }
    }
    return nullptr;
}

RedisNode* RedisCluster::node_at(const HostPort& where) {
    for (Member& member : members_) {
        if (member.where == where) {
            return member.node.get();
        }
    }
    if (members_.size() == kRedisNodesMax) {
        return nullptr;
    }
    auto node = std::make_unique<RedisNode>(world_, meta_, RedisTarget{{address_of(where)}}, ++last_id_);
    return members_.emplace_back(Member{where, std::move(node)}).node.get();
}

bool RedisCluster::send_to(RedisNode* node, RedisCommand* command, bool asking) noexcept {
    command->node = node->id();
    if (command->hops != nullptr) {
        command->hops->asked = node->id();
    }
    if (node->send(command, command->slot, asking)) {
        return true;
    }
    ask_slots();
    return false;
}

bool RedisCluster::send_to_owner(RedisCommand* command) noexcept {
    const HostPort* owner = map_.owner(command->slot);
    if (owner == nullptr) {
        ask_slots();
        return false;
    }
    try {
        RedisNode* node = node_at(*owner);
        return node != nullptr && send_to(node, command, false);
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, world_.log, 0, "headgate: %s", e.what());
        return false;
    }
}

bool RedisCluster::send(RedisCommand* command, std::uint16_t slot) noexcept {
    const RedisHops* hops = command->hops;
    command->slot = slot;
    if (command->chain == &command->own_link) {
        command->retake = on_redirected;
        command->retaker = this;
    }
    if (hops != nullptr && hops->pause_ms != 0) {
        pause(command, std::exchange(command->hops->pause_ms, 0));
        return true;
    }
    if (hops != nullptr && hops->ask_next != 0) {
        RedisNode* node = node_by_id(hops->ask_next);
        return node != nullptr && send_to(node, command, true);
    }
    const bool map_comes = !map_.known() && !map_failed_;
    const bool meta_comes = command->is_event && !meta_known_ && !meta_failed_;
    if (map_comes || meta_comes) {
        map_line_.connect();
        if (map_failed_) {
            return false;  // it could not even be tried
        }
        ngx_queue_insert_tail(&waiting_, &command->link);
        return true;
    }
    return map_.known() && send_to_owner(command);
}

bool RedisCluster::load_script(std::string_view script, std::uint16_t slot) {
    const HostPort* owner = map_.owner(slot);
    const RedisNode* needed = owner == nullptr ? nullptr : node_at(*owner);
    bool loaded = false;
    // Everywhere: while a slot moves, its command may be led from the owner to a node that lacks the script as well.
    for (Member& member : members_) {
        const bool done = member.node->load_script(script);
        loaded |= done && member.node.get() == needed;
    }
    return loaded;
}

// ---- redirections -----------------------------------------------------------------------------

RedisNode* RedisCluster::follow(std::string_view error, std::uint32_t asked, bool& asking) noexcept {
    try {
        if (error.starts_with("CLUSTERDOWN")) {
            ask_slots();
            return nullptr;
        }
        const RedisNode* from = node_by_id(asked);
        const Redirect redirect = read_redirect(error, from == nullptr ? std::string_view() : from->host());
        if (redirect.kind == RedirectKind::kNone || redirect.to.host.empty()) {
            return nullptr;
        }
        asking = redirect.kind == RedirectKind::kAsk;
        if (!asking) {
            if (!map_.move(redirect.slot, redirect.to)) {
                return nullptr;
            }
            ask_slots();
        }
        return node_at(redirect.to);
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, world_.log, 0, "headgate: %s", e.what());
        return nullptr;
    }
}

bool RedisCluster::on_redirected(void* cluster, RedisCommand* command, std::string_view error) noexcept {
    auto* self = static_cast<RedisCluster*>(cluster);
    bool asking = false;
    RedisNode* node = command->moves == kRedisMovesMax ? nullptr : self->follow(error, command->node, asking);
    if (node == nullptr) {
        return false;
    }
    ++command->moves;
    command->write_own_bytes();
    return self->send_to(node, command, asking);
}

// A command with several keys, of which some have moved and some have not, can run on neither side.
bool RedisCluster::plan_pause(RedisHops& hops) noexcept {
    ask_slots();
    if (hops.pauses == 0) {
        hops.pauses_end_ms = ngx_current_msec + world_.conf.timeout_ms;
    }
    const ngx_msec_t pause_ms = kPauseFirstMs << hops.pauses;
    const auto left_ms = static_cast<ngx_msec_int_t>(hops.pauses_end_ms - ngx_current_msec);
    if (hops.pauses == kPausesMax || left_ms < static_cast<ngx_msec_int_t>(pause_ms)) {
        return false;
    }
    ++hops.pauses;
    hops.pause_ms = pause_ms;
    hops.ask_next = 0;  // from the owner anew, whoever that is then
    hops.moves = 0;
    return true;
}

void RedisCluster::pause(RedisCommand* command, ngx_msec_t pause_ms) noexcept {
    command->due_ms = ngx_current_msec + pause_ms;
    ngx_queue_insert_tail(&paused_, &command->link);
    const bool sooner =
        pause_event_.timer_set && static_cast<ngx_msec_int_t>(pause_event_.timer.key - command->due_ms) > 0;
    if (!pause_event_.timer_set || sooner) {
        ngx_add_timer(&pause_event_, pause_ms);
    }
}

void RedisCluster::on_pause_event(ngx_event_t* event) noexcept {
    static_cast<RedisCluster*>(event->data)->end_pauses(false);
}

// Sends what is due; with `all` refuses everything.
void RedisCluster::end_pauses(bool all) noexcept {
    if (pause_event_.timer_set) {
        ngx_del_timer(&pause_event_);
    }
    ngx_queue_t due;
    ngx_queue_init(&due);
    ngx_msec_int_t next_ms = -1;
    for (ngx_queue_t* q = ngx_queue_head(&paused_); q != ngx_queue_sentinel(&paused_);) {
        RedisCommand* command = ngx_queue_data(q, RedisCommand, link);
        q = ngx_queue_next(q);
        const auto left_ms = static_cast<ngx_msec_int_t>(command->due_ms - ngx_current_msec);
        if (all || left_ms <= 0) {
            ngx_queue_remove(&command->link);
            ngx_queue_insert_tail(&due, &command->link);
        } else if (next_ms < 0 || left_ms < next_ms) {
            next_ms = left_ms;
        }
    }
    if (next_ms > 0) {
        ngx_add_timer(&pause_event_, static_cast<ngx_msec_t>(next_ms));
    }
    while (!ngx_queue_empty(&due)) {  // whoever is told may pause again, in the other queue
        RedisCommand* command = ngx_queue_data(ngx_queue_head(&due), RedisCommand, link);
        ngx_queue_remove(&command->link);
        if (all || !send_to_owner(command)) {
            RedisPipeline::refuse(command);
        }
    }
}

bool RedisCluster::redirected(std::string_view error, RedisHops& hops) noexcept {
    if (error.starts_with("TRYAGAIN")) {
        return plan_pause(hops);
    }
    bool asking = false;
    const RedisNode* node = hops.moves == kRedisMovesMax ? nullptr : follow(error, hops.asked, asking);
    if (node == nullptr) {
        return false;
    }
    ++hops.moves;
    hops.ask_next = asking ? node->id() : 0;
    return true;
}

}  // namespace headgate::edge
