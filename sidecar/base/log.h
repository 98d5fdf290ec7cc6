// Logging: one line of key=value pairs for each thing that happened, on standard error.
#pragma once

#include <string>
#include <string_view>

namespace headgate {

// Call once, before other threads exist. `level`: trace, debug, info, warn, error.
void start_logging(std::string_view level);
// A value as it stands in a line: quoted and escaped when it has spaces, quotes or control characters.
[[nodiscard]] std::string log_value(std::string_view text);

}  // namespace headgate
