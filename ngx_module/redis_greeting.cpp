// See redis_greeting.h.
#include "ngx_module/redis_greeting.h"

#include "common/resp.h"
#include "ngx_module/redis_reply.h"

namespace headgate::edge {

std::string auth_command(const RedisLogin& login) {
    std::string out;
    if (!login.username.empty()) {
        RespWriter(out).command("AUTH", login.username, login.password);
    } else if (!login.password.empty()) {
        RespWriter(out).command("AUTH", login.password);
    }
    return out;
}

void log_refused_greeting(ngx_log_t* log, bool is_auth, const redisReply* reply) noexcept {
    std::string_view text = text_of(reply);
    if (is_auth) {
        text = text.substr(0, text.find(' '));
    }
    ngx_log_error(NGX_LOG_ERR, log, 0, "headgate: Redis refused the %s: %*s", is_auth ? "password" : "greeting",
                  text.size(), text.data());
}

void RedisGreeting::hello(std::vector<std::string>& commands) {
    steps_.clear();
    const auto add = [&](Step step) {
        // Whatever was appended since the last call is this step.
        steps_.resize(commands.size(), step);
    };
    if (std::string auth = auth_command(conf_.login); !auth.empty()) {
        commands.push_back(std::move(auth));
        add(Step::kAuth);
    }
    if (conf_.db != 0) {
        RespWriter(commands.emplace_back()).command("SELECT", static_cast<long long>(conf_.db));
        add(Step::kSelect);
    }
    if (conf_.checks_role()) {
        RespWriter(commands.emplace_back()).command("ROLE");
        add(Step::kRole);
    }
    if (!conf_.cluster) {  // in a cluster one node owns it, and whoever knows the map asks there
        meta_.meta_commands(commands);
        add(Step::kClaim);
        steps_.back() = Step::kReadMeta;
    }
    commands.push_back(RedisMeta::memory_command());
    add(Step::kReadMemory);
    RedisMeta::script_commands(commands);
    add(Step::kLoadScript);
}

bool RedisGreeting::learn(std::size_t index, const redisReply* reply) {
    const Step step = steps_.at(index);
    const bool is_error = reply->type == REDIS_REPLY_ERROR;
    switch (step) {
        case Step::kAuth:
        case Step::kSelect:
            return !is_error || refuse(step, reply);
        case Step::kRole:
            if (!is_error && !role_is_master(reply)) {
                ngx_log_error(NGX_LOG_NOTICE, log_, 0, "headgate: this Redis is a replica");
                return false;
            }
            return !is_error || refuse(step, reply);
        // Only what must be known is insisted on. A Redis at its memory's end refuses HSETNX, and an ACL may hide
        // INFO, but keys can still be looked up there; scripts that could not be loaded are loaded when missed.
        case Step::kClaim:
        case Step::kLoadScript:
            return true;
        case Step::kReadMeta:
            if (is_error) {
                return refuse(step, reply);
            }
            meta_.learn_meta(reply);
            return true;
        case Step::kReadMemory:
            meta_.learn_memory(reply, evicts_);
            return true;
    }
    return false;
}

bool RedisGreeting::refuse(Step step, const redisReply* reply) noexcept {
    log_refused_greeting(log_, step == Step::kAuth, reply);
    return false;
}

void RedisGreeting::refresh(RedisConn& conn, bool memory) noexcept {
    conn_ = &conn;
    try {
        if (memory && !asking_memory_) {
            asking_memory_ = conn.send_bytes(RedisMeta::memory_command(), this, on_memory) != nullptr;
        }
        if (conf_.checks_role() && !asking_role_) {
            std::string role;
            RespWriter(role).command("ROLE");
            asking_role_ = conn.send_bytes(std::move(role), this, on_role) != nullptr;
        }
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, log_, 0, "headgate: %s", e.what());
    }
}

void RedisGreeting::on_role(void* greeting, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<RedisGreeting*>(greeting);
    self->asking_role_ = false;
    if (outcome == RedisOutcome::kReply && reply->type == REDIS_REPLY_ARRAY && !role_is_master(reply)) {
        self->conn_->move_on("it is a replica now");
    }
}

void RedisGreeting::on_memory(void* greeting, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<RedisGreeting*>(greeting);
    self->asking_memory_ = false;
    try {
        if (outcome == RedisOutcome::kReply) {
            self->meta_.learn_memory(reply, self->evicts_);
        }
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, self->log_, 0, "headgate: %s", e.what());
    }
}

}  // namespace headgate::edge
