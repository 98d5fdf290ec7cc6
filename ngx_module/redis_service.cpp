// See redis_service.h.
#include "ngx_module/redis_service.h"

#include "common/event_record.h"
#include "ngx_module/redis_reply.h"

namespace headgate::edge {

RedisService::RedisService(const RedisConf& conf, MetaExpectation expected, RedisGauge& gauge, ZoneShared* shared,
                           ngx_log_t* log)
    : world_{conf, gauge, shared, log, tls_sessions_}, meta_(std::move(expected), log) {
    if (conf.cluster) {
        cluster_ = std::make_unique<RedisCluster>(world_, meta_, this, on_map_known);
    } else {
        node_ = std::make_unique<RedisNode>(world_, meta_, RedisTarget{conf.addresses}, 1);
    }
}

void RedisService::start() noexcept {
    if (cluster_ != nullptr) {
        cluster_->start();
    } else {
        node_->start();
    }
}

void RedisService::stop() noexcept {
    if (cluster_ != nullptr) {
        cluster_->stop();
    } else {
        node_->stop();
    }
}

void RedisService::refresh() noexcept {
    if (cluster_ != nullptr) {
        cluster_->refresh();
    } else {
        node_->refresh();
    }
    if (cluster_ != nullptr || node_->ready()) {
        ask_meta();
    }
}

bool RedisService::ready() const noexcept { return cluster_ != nullptr ? cluster_->ready() : node_->ready(); }

void RedisService::on_map_known(void* service) noexcept { static_cast<RedisService*>(service)->ask_meta(); }

void RedisService::ask_meta() noexcept {
    if (asking_meta_) {
        return;  // the last reply is still to come
    }
    try {
        const std::string key = meta_key(kDefaultKeyPrefix);
        std::vector<std::string> commands;
        meta_.meta_commands(commands);
        for (std::size_t i = 0; i < commands.size(); ++i) {
            const bool is_last = i + 1 == commands.size();
            const bool sent = send_bytes(std::move(commands[i]), key, is_last ? this : nullptr,
                                         is_last ? on_meta : nullptr) != nullptr;
            if (!sent) {
                break;
            }
            asking_meta_ = is_last;
        }
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, world_.log, 0, "headgate: %s", e.what());
    }
    if (!asking_meta_ && cluster_ != nullptr) {
        cluster_->meta_is(false);
    }
}

void RedisService::on_meta(void* service, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<RedisService*>(service);
    self->asking_meta_ = false;
    const bool known = outcome == RedisOutcome::kReply && reply->type == REDIS_REPLY_ARRAY;
    try {
        if (known) {
            self->meta_.learn_meta(reply);
        } else if (outcome == RedisOutcome::kReply) {
            log_refused_greeting(self->world_.log, false, reply);
        }
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, self->world_.log, 0, "headgate: %s", e.what());
    }
    if (self->cluster_ != nullptr) {
        self->cluster_->meta_is(known);
    }
}

bool RedisService::send(RedisCommand* command, std::string_view key, RedisHops* hops) noexcept {
    const std::uint16_t slot = redis_slot(key);
    if (cluster_ == nullptr) {
        return node_->send(command, slot, false);
    }
    command->hops = hops;
    return cluster_->send(command, slot);
}

RedisCommand* RedisService::send_bytes(std::string bytes, std::string_view key, void* asker,
                                       RedisCommand::Done done) noexcept {
    RedisCommand* command = RedisCommand::of_bytes(std::move(bytes), asker, done);
    if (command != nullptr && !send(command, key)) {
        delete std::exchange(command, nullptr);
    }
    return command;
}

bool RedisService::redirected(const redisReply* reply, RedisHops& hops) noexcept {
    return cluster_ != nullptr && reply->type == REDIS_REPLY_ERROR && cluster_->redirected(text_of(reply), hops);
}

bool RedisService::load_script(std::string_view script, std::string_view key) noexcept {
    try {
        return cluster_ != nullptr ? cluster_->load_script(script, redis_slot(key)) : node_->load_script(script);
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, world_.log, 0, "headgate: %s", e.what());
        return false;
    }
}

}  // namespace headgate::edge
