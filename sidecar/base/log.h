// Logging: one line for each thing that happened, on standard error, as key=value pairs or as a JSON object. What is
// logged is the same in both: the name of an event, then pairs. docs/operations.md lists the names; they stay.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace headgate {

// Call once, before other threads exist. `level`: trace, debug, info, warn, error. `format`: logfmt, json.
void start_logging(std::string_view level, std::string_view format = "logfmt");
// A value as it stands in a line: quoted and escaped when it has spaces, quotes or control characters.
[[nodiscard]] std::string log_value(std::string_view text);

// `event=<name> key=value …`, without the first key, as the members of a JSON object: "event":"<name>","key":"value",…
// Counts and times are numbers, everything else is text, whatever it looks like. What cannot be read as pairs becomes
// the member `message`.
[[nodiscard]] std::string log_members_json(std::string_view line);

// Holds back warnings and errors of one name beyond kLinesMax in kSpan, so that something that fails without end does
// not fill a disk: what was held back is counted, and told with the first line that is let through afterwards.
class LogLimit {
 public:
    static constexpr std::size_t kLinesMax = 20;
    static constexpr std::chrono::seconds kSpan{10};
    static constexpr std::size_t kNamesMax = 256;

    struct Verdict {
        bool is_let_through = true;
        std::uint64_t held_back = 0;  // of this name, until now; to be told
    };
    [[nodiscard]] Verdict judge(std::string_view name, std::chrono::steady_clock::time_point now);

 private:
    struct Name {
        std::chrono::steady_clock::time_point began;
        std::size_t lines = 0;
        std::uint64_t held_back = 0;
    };
    std::map<std::string, Name, std::less<>> names_;
};

}  // namespace headgate
