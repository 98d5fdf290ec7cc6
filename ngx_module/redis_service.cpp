// See redis_service.h.
#include "ngx_module/redis_service.h"

#include "common/resp.h"

namespace headgate::edge {

void RedisService::refresh() noexcept {
    if (conn_.ready()) {
        meta_.refresh(conn_);
    }
}

bool RedisService::send(RedisCommand* command, std::string_view) noexcept { return conn_.send(command); }

RedisCommand* RedisService::send_bytes(std::string bytes, std::string_view, void* asker,
                                       void (*done)(void* asker, RedisOutcome outcome,
                                                    const redisReply* reply)) noexcept {
    return conn_.send_bytes(std::move(bytes), asker, done);
}

bool RedisService::load_script(std::string_view script, std::string_view) noexcept {
    try {
        std::string load;
        RespWriter(load).command("SCRIPT", "LOAD", script);
        return conn_.send_bytes(std::move(load), nullptr, nullptr) != nullptr;
    } catch (const std::exception&) {
        return false;
    }
}

}  // namespace headgate::edge
