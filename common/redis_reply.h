// Reading hiredis replies without trusting their shape.
#pragma once

#include <hiredis/hiredis.h>

#include <algorithm>
#include <string_view>

namespace headgate::redis {

// The text of a string, status or error; empty for anything else.
[[nodiscard]] inline std::string_view text_of(const redisReply* reply) noexcept {
    const bool is_text =
        reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS || reply->type == REDIS_REPLY_ERROR;
    return is_text ? std::string_view(reply->str, static_cast<std::size_t>(reply->len)) : std::string_view();
}

// The text of an array's element; empty when there is none.
[[nodiscard]] inline std::string_view element_text(const redisReply* reply, std::size_t index) noexcept {
    return reply->type == REDIS_REPLY_ARRAY && index < reply->elements ? text_of(reply->element[index])
                                                                       : std::string_view();
}

// The value behind "<name>:" in INFO's text; empty without such a line.
[[nodiscard]] inline std::string_view info_field(std::string_view info, std::string_view name) noexcept {
    while (!info.empty()) {
        const std::string_view line = info.substr(0, info.find('\n'));
        info.remove_prefix(std::min(info.size(), line.size() + 1));
        if (line.starts_with(name) && line.substr(name.size()).starts_with(':')) {
            const std::string_view value = line.substr(name.size() + 1);
            return value.substr(0, value.find('\r'));
        }
    }
    return {};
}

}  // namespace headgate::redis
