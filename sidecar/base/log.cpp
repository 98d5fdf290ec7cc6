// Logging on spdlog; see log.h.
#include "sidecar/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "common/problem.h"

namespace headgate {

void start_logging(std::string_view level) {
    auto logger = spdlog::stderr_logger_mt("headgate");
    logger->set_pattern("time=%Y-%m-%dT%H:%M:%S.%eZ level=%l event=%v", spdlog::pattern_time_type::utc);
    logger->set_level(spdlog::level::from_str(std::string(level)));
    logger->flush_on(spdlog::level::trace);
    spdlog::set_default_logger(std::move(logger));
}

std::string log_value(std::string_view text) {
    bool plain = !text.empty();
    for (unsigned char c : text) plain = plain && c > ' ' && c != '"' && c != '=' && c != 0x7f;
    if (plain) return std::string(text);
    std::string quoted;
    append_json_string(quoted, text);
    return quoted;
}

}  // namespace headgate
