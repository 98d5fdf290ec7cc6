// What the event scanner must answer, worked out with Boost.JSON's event parser and plain containers.
// Shared by the unit tests and the fuzzer.
#pragma once

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "common/event_scanner.h"

namespace headgate::test {

// Everything that a scan tells.
struct Outcome {
    ScanStatus status = ScanStatus::kEmpty;
    std::uint32_t problems = 0;
    std::string message;
    std::uint64_t offset = 0;
    std::string type;
    std::string source;
    std::string ordering_key;
    std::uint64_t payload_begin = 0;
    std::uint64_t payload_end = 0;

    bool operator==(const Outcome&) const = default;
};

// Feeds `body` cut at `cuts` (ascending). Each piece lies in a heap block of exactly its size, so that
// AddressSanitizer sees a read outside it.
inline Outcome scan(EventScanner& scanner, std::string_view body, const std::vector<std::size_t>& cuts = {}) {
    scanner.reset();
    std::size_t begin = 0;
    for (std::size_t i = 0; i <= cuts.size(); ++i) {
        const std::size_t end = i < cuts.size() ? cuts[i] : body.size();
        const std::unique_ptr<char[]> piece(new char[end - begin]);
        std::memcpy(piece.get(), body.data() + begin, end - begin);
        scanner.feed(piece.get(), end - begin);
        begin = end;
    }
    Outcome outcome;
    outcome.status = scanner.finish();
    if (outcome.status == ScanStatus::kInvalidJson) {
        outcome.message = scanner.error_message();
        outcome.offset = scanner.error_offset();
    } else if (outcome.status == ScanStatus::kWrongShape) {
        outcome.problems = scanner.problems();
    } else if (outcome.status == ScanStatus::kOk) {
        outcome.type = scanner.type();
        outcome.source = scanner.source();
        outcome.ordering_key = scanner.ordering_key();
        outcome.payload_begin = scanner.payload().begin;
        outcome.payload_end = scanner.payload().end;
    }
    return outcome;
}

// Receives Boost.JSON's events and notes the top-level members.
struct OracleHandler {
    static constexpr std::size_t max_object_size = SIZE_MAX;
    static constexpr std::size_t max_array_size = SIZE_MAX;
    static constexpr std::size_t max_key_size = SIZE_MAX;
    static constexpr std::size_t max_string_size = SIZE_MAX;
    using Error = boost::system::error_code;
    using Text = boost::json::string_view;

    bool on_document_begin(Error&) { return true; }
    bool on_document_end(Error&) { return true; }
    bool on_object_begin(Error&) { return open('{'); }
    bool on_object_end(std::size_t, Error&) { return --depth >= 0; }
    bool on_array_begin(Error&) { return open('['); }
    bool on_array_end(std::size_t, Error&) { return --depth >= 0; }
    bool on_key_part(Text part, std::size_t, Error&) { return append(part); }
    bool on_key(Text part, std::size_t, Error&) {
        append(part);
        if (depth == 1) {
            twice = twice || !names.insert(text).second;
            name = text;
        }
        text.clear();
        return true;
    }
    bool on_string_part(Text part, std::size_t, Error&) { return append(part); }
    bool on_string(Text part, std::size_t, Error&) {
        append(part);
        const bool ok = value('"');
        text.clear();
        return ok;
    }
    bool on_number_part(Text, Error&) { return true; }
    bool on_int64(std::int64_t, Text, Error&) { return value('0'); }
    bool on_uint64(std::uint64_t, Text, Error&) { return value('0'); }
    bool on_double(double, Text, Error&) { return value('0'); }
    bool on_bool(bool, Error&) { return value('b'); }
    bool on_null(Error&) { return value('n'); }
    bool on_comment_part(Text, Error&) { return true; }
    bool on_comment(Text, Error&) { return true; }

    bool append(Text part) {
        text.append(part.data(), part.size());
        return true;
    }
    bool open(char kind) {
        const bool ok = value(kind);
        ++depth;
        return ok;
    }
    bool value(char kind) {
        if (depth == 0) {
            body_kind = kind;
        } else if (depth == 1 && body_kind == '{') {
            members.emplace_back(name, kind, text);
        }
        return true;
    }

    int depth = 0;
    char body_kind = 0;
    bool twice = false;
    std::string text;
    std::string name;
    std::set<std::string> names;
    std::vector<std::tuple<std::string, char, std::string>> members;  // name, kind, text of a string
};

inline bool has_control(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const bool c1 = byte < 0xa0 && i > 0 && text[i - 1] == '\xc2';
        if (byte < 0x20 || byte == 0x7f || c1) {
            return true;
        }
    }
    return false;
}

inline std::uint32_t oracle_text_problems(char kind, const std::string& text, std::uint32_t not_string,
                                          std::uint32_t empty, std::uint32_t too_long, std::uint32_t control) {
    if (kind != '"') {
        return not_string;
    }
    return (text.empty() ? empty : 0u) | (text.size() > 256 ? too_long : 0u) | (has_control(text) ? control : 0u);
}

inline std::uint32_t oracle_type_problems(char kind, const std::string& text) {
    if (kind != '"' || text.empty()) {
        return kind != '"' ? kTypeNotString : kTypeEmpty;
    }
    const bool valid =
        text.size() <= 128 &&
        std::all_of(text.begin(), text.end(),
                    [](char c) {
                        return std::isalnum(static_cast<unsigned char>(c)) != 0 || std::strchr("_.:-", c) != nullptr;
                    }) &&
        text.find('\0') == std::string::npos;
    return (valid ? 0u : kTypeInvalid) | (text.rfind("webhook.", 0) == 0 ? kTypeReserved : 0u);
}

inline void oracle_shape(const OracleHandler& seen, Outcome& outcome) {
    std::uint32_t problems = kTypeMissing | kSourceMissing | kPayloadMissing;
    for (const auto& [name, kind, text] : seen.members) {
        if (name == "type") {
            problems = (problems & ~kTypeMissing) | oracle_type_problems(kind, text);
            outcome.type = text;
        } else if (name == "source") {
            problems = (problems & ~kSourceMissing) |
                       oracle_text_problems(kind, text, kSourceNotString, kSourceEmpty, kSourceTooLong, kSourceControl);
            outcome.source = text;
        } else if (name == "ordering_key") {
            problems |= oracle_text_problems(kind, text, kOrderingKeyNotString, kOrderingKeyEmpty, kOrderingKeyTooLong,
                                             kOrderingKeyControl);
            outcome.ordering_key = text;
        } else if (name == "payload") {
            problems = (problems & ~kPayloadMissing) | (kind == '{' ? 0u : kPayloadNotObject);
        }
    }
    outcome.problems = seen.body_kind == '{' ? problems : std::uint32_t{kBodyNotObject};
    outcome.status = outcome.problems == 0 ? ScanStatus::kOk : ScanStatus::kWrongShape;
}

// The expected outcome without message, offset and payload range. `decided` is false when Boost.JSON
// gives up on the size of a number, which JSON does not bound.
inline Outcome oracle(std::string_view body, bool& decided) {
    decided = true;
    Outcome outcome;
    if (body.find_first_not_of(" \t\r\n") == std::string_view::npos) {
        return outcome;
    }
    boost::json::parse_options options;
    options.max_depth = 64;
    boost::json::basic_parser<OracleHandler> parser(options);
    boost::system::error_code error;
    const std::size_t used = parser.write_some(false, body.data(), body.size(), error);
    decided = error != boost::json::error::exponent_overflow;
    const OracleHandler& seen = parser.handler();
    if (error || used != body.size() || seen.twice || seen.names.size() > 1024) {
        outcome.status = ScanStatus::kInvalidJson;
        return outcome;
    }
    oracle_shape(seen, outcome);
    if (outcome.status != ScanStatus::kOk) {
        outcome.type = outcome.source = outcome.ordering_key = {};
    }
    return outcome;
}

inline bool agrees(const Outcome& ours, const Outcome& expected) {
    return ours.status == expected.status && ours.problems == expected.problems && ours.type == expected.type &&
           ours.source == expected.source && ours.ordering_key == expected.ordering_key;
}

}  // namespace headgate::test
