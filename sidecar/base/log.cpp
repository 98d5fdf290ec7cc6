// Logging on spdlog; see log.h.
#include "sidecar/base/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <mutex>

#include "common/problem.h"
#include "common/rfc3339.h"

namespace headgate {
namespace {

std::string_view name_of(std::string_view line) { return line.substr(0, line.find(' ')); }

// What a number means anything of; an id may consist of digits as well.
bool is_quantity(std::string_view key) {
    static constexpr std::array<std::string_view, 17> kKeys = {
        "attempt", "status", "entries",   "new",       "duplicates", "quarantined", "claimed",     "queued", "shards",
        "parts",   "late",   "unwritten", "in_flight", "held_back",  "interrupted", "revocations", "keys"};
    return std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end() || key.ends_with("_ms") || key.ends_with("_us") ||
           key.ends_with("_s") || key.ends_with("_bytes");
}
bool is_integer(std::string_view value) {
    if (value.starts_with('-')) value.remove_prefix(1);
    return !value.empty() && value.size() < 19 && value.find_first_not_of("0123456789") == std::string_view::npos &&
           (value.size() == 1 || value.front() != '0');
}

// The end of the quoted text that `text` begins with, behind its second quote; npos when it has none.
std::size_t quoted_end(std::string_view text) {
    for (std::size_t i = 1; i < text.size(); ++i) {
        if (text[i] == '\\')
            ++i;
        else if (text[i] == '"')
            return i + 1;
    }
    return std::string_view::npos;
}

// One pair, taken off the front of `rest`, as a member. False when there is none.
bool take_pair(std::string_view& rest, std::string& members) {
    const auto equals = rest.find('=');
    if (equals == 0 || equals == std::string_view::npos || rest.substr(0, equals).find(' ') != std::string_view::npos)
        return false;
    const std::string_view key = rest.substr(0, equals);
    std::string_view value = rest.substr(equals + 1);
    const bool is_quoted = value.starts_with('"');
    const auto end = is_quoted ? quoted_end(value) : value.find(' ');
    if (is_quoted && (end == std::string_view::npos || (end < value.size() && value[end] != ' '))) return false;
    rest = end == std::string_view::npos || end >= value.size() ? std::string_view() : value.substr(end + 1);
    value = value.substr(0, end);
    members += ',';
    append_json_string(members, key);
    members += ':';
    if (is_quoted || (is_quantity(key) && is_integer(value)))
        members += value;  // quoted as JSON quotes
    else
        append_json_string(members, value);
    return true;
}

class LineSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
    explicit LineSink(bool is_json) : is_json_(is_json) {}

 private:
    void sink_it_(const spdlog::details::log_msg& message) override {
        const std::string_view line(message.payload.data(), message.payload.size());
        if (message.level >= spdlog::level::warn) {
            const LogLimit::Verdict verdict = limit_.judge(name_of(line), std::chrono::steady_clock::now());
            if (!verdict.is_let_through) return;
            if (verdict.held_back > 0) {
                write(message, "log.held_back name=" + log_value(name_of(line)) +
                                   " held_back=" + std::to_string(verdict.held_back));
            }
        }
        write(message, line);
    }
    void flush_() override { std::fflush(stderr); }

    void write(const spdlog::details::log_msg& message, std::string_view line) {
        const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(message.time.time_since_epoch()).count();
        const std::string_view level(spdlog::level::to_string_view(message.level).data());
        std::string text;
        if (is_json_) {
            text = R"({"time":")" + rfc3339_format(ms) + R"(","level":")" + std::string(level) + "\"," +
                   log_members_json(line) + "}\n";
        } else {
            text = "time=" + rfc3339_format(ms) + " level=" + std::string(level) + " event=";
            const std::size_t begin = text.size();
            text += line;
            // One thing is one line, whatever is in a message that nobody escaped.
            std::replace_if(
                text.begin() + static_cast<std::ptrdiff_t>(begin), text.end(),
                [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
            text += '\n';
        }
        std::fwrite(text.data(), 1, text.size(), stderr);
    }

    bool is_json_;
    LogLimit limit_;
};

}  // namespace

void start_logging(std::string_view level, std::string_view format) {
    auto logger = std::make_shared<spdlog::logger>("headgate", std::make_shared<LineSink>(format == "json"));
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

std::string log_members_json(std::string_view line) {
    const std::string_view name = name_of(line);
    std::string members = "\"event\":";
    append_json_string(members, name);
    std::string_view rest = line.substr(std::min(name.size() + 1, line.size()));
    const std::string_view all = rest;
    std::string pairs;
    while (!rest.empty()) {
        if (take_pair(rest, pairs)) continue;
        pairs = ",\"message\":";
        append_json_string(pairs, all);
        break;
    }
    return members + pairs;
}

LogLimit::Verdict LogLimit::judge(std::string_view name, std::chrono::steady_clock::time_point now) {
    auto found = names_.find(name);
    if (found == names_.end()) {
        // Names are words of the code; should one be made of something else, it is not worth memory without end.
        if (names_.size() >= kNamesMax) return {};
        found = names_.emplace(name, Name{now, 0, 0}).first;
    }
    Name& known = found->second;
    if (now - known.began >= kSpan) {
        known.began = now;
        known.lines = 0;
    }
    if (++known.lines > kLinesMax) {
        ++known.held_back;
        return {false, 0};
    }
    return {true, std::exchange(known.held_back, 0)};
}

}  // namespace headgate
