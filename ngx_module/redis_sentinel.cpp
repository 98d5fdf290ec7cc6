// See redis_sentinel.h.
#include "ngx_module/redis_sentinel.h"

#include "common/resp.h"
#include "ngx_module/redis_greeting.h"
#include "ngx_module/redis_reply.h"

namespace headgate::edge {

void RedisSentinel::hello(std::vector<std::string>& commands) {
    master_.reset();
    if (std::string auth = auth_command(conf_.sentinel_login); !auth.empty()) {
        commands.push_back(std::move(auth));
    }
    question_ = commands.size();
    RespWriter(commands.emplace_back()).command("SENTINEL", "get-master-addr-by-name", conf_.sentinel);
}

bool RedisSentinel::learn(std::size_t index, const redisReply* reply) {
    if (reply->type == REDIS_REPLY_ERROR) {
        log_refused_greeting(log_, index != question_, reply);
        return false;
    }
    if (index == question_) {
        master_ = redis::read_sentinel_master(reply);
    }
    return true;
}

}  // namespace headgate::edge
