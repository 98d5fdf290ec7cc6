// Times as they are typed; see recovery_options.h.
#include "sidecar/cli/recovery_options.h"

#include "common/rfc3339.h"
#include "sidecar/base/text.h"

namespace headgate {

Result<TimeMs> time_option(const char* option, const std::string& text, TimeMs now) {
    if (auto time = rfc3339_parse(text)) return *time;
    if (auto ago = parse_duration_ms(text)) return now - *ago;
    return fail(ErrorCode::kInvalidArgument,
                std::string(option) + " must be a time such as 2026-01-31T08:00:00Z, or how long ago, such as 24h");
}

Result<void> time_option_into(const char* option, const std::string& text, std::optional<TimeMs>& out) {
    if (text.empty()) return {};
    auto time = time_option(option, text, wall_clock_ms());
    if (!time) return tl::unexpected(time.error());
    out = *time;
    return {};
}

void add_page_options(CLI::App& command, ListOptions& options) {
    command.add_option("--until", options.until, "the same; before it");
    command.add_option("--limit", options.limit, "at most so many")
        ->check(CLI::Range(1, 100'000))
        ->capture_default_str();
}

}  // namespace headgate
