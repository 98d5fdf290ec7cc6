// What the batch scanner must answer: the body cut into events naively, each judged by event_scanner_oracle.h. Shared
// by the unit tests and the fuzzer.
#pragma once

#include <memory>
#include <utility>

#include "common/batch_scanner.h"
#include "event_scanner_oracle.h"

namespace headgate::test {

struct BatchEvent {
    Outcome event;  // payload offsets in the whole body
    bool too_large = false;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;

    bool operator==(const BatchEvent&) const = default;
};

struct BatchOutcome {
    BatchStatus status = BatchStatus::kEmpty;
    std::string message;
    std::uint64_t offset = 0;
    std::vector<BatchEvent> events;

    bool operator==(const BatchOutcome&) const = default;
};

struct BatchCollector final : BatchSink {
    std::vector<BatchEvent> events;

    void add(const BatchElement& element, const EventScanner& scanner) override {
        BatchEvent found;
        found.begin = element.bytes.begin;
        found.end = element.bytes.end;
        found.too_large = element.too_large;
        found.event.status = element.status;
        if (element.status == ScanStatus::kInvalidJson) {
            found.event.message = scanner.error_message();
            found.event.offset = scanner.error_offset();
        } else if (element.status == ScanStatus::kWrongShape) {
            found.event.problems = scanner.problems();
        } else {
            found.event.type = scanner.type();
            found.event.source = scanner.source();
            found.event.ordering_key = scanner.ordering_key();
            found.event.payload_begin = element.payload.begin;
            found.event.payload_end = element.payload.end;
        }
        if (element.index != events.size()) {
            std::abort();
        }
        events.push_back(std::move(found));
    }
};

// Feeds `body` cut at `cuts` (ascending), each piece in a heap block of exactly its size.
inline BatchOutcome scan_batch(BatchFormat format, std::string_view body, const std::vector<std::size_t>& cuts = {},
                               std::size_t events_max = 1000, std::size_t event_bytes_max = 1 << 20) {
    BatchCollector sink;
    const auto scanner = std::make_unique<BatchScanner>(format, events_max, event_bytes_max, sink);
    std::size_t begin = 0;
    for (std::size_t i = 0; i <= cuts.size(); ++i) {
        const std::size_t end = i < cuts.size() ? cuts[i] : body.size();
        const std::unique_ptr<char[]> piece(new char[end - begin]);
        std::memcpy(piece.get(), body.data() + begin, end - begin);
        scanner->feed(piece.get(), end - begin);
        begin = end;
    }
    BatchOutcome outcome;
    outcome.status = scanner->finish();
    outcome.message = scanner->error_message();
    outcome.offset = scanner->error_offset();
    if (outcome.status == BatchStatus::kOk) {
        outcome.events = std::move(sink.events);
    }
    return outcome;
}

inline constexpr std::string_view kSpaces = " \t\r\n";

// [begin, end) without the white space around it.
inline std::pair<std::size_t, std::size_t> trimmed(std::string_view body, std::size_t begin, std::size_t end) {
    while (begin < end && kSpaces.find(body[begin]) != std::string_view::npos) {
        ++begin;
    }
    while (end > begin && kSpaces.find(body[end - 1]) != std::string_view::npos) {
        --end;
    }
    return {begin, end};
}

// The elements of what is known to be a valid JSON array.
inline std::vector<std::pair<std::size_t, std::size_t>> elements_of(std::string_view body) {
    std::vector<std::pair<std::size_t, std::size_t>> elements;
    std::size_t begin = 0;
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < body.size(); ++i) {
        const char c = body[i];
        if (in_string) {
            i += c == '\\' ? 1 : 0;
            in_string = c != '"';
            continue;
        }
        in_string = c == '"';
        depth += c == '[' || c == '{' ? 1 : 0;
        if (depth == 1 && c == '[') {
            begin = i + 1;
        }
        if (depth == 1 && (c == ',' || c == ']')) {
            elements.push_back(trimmed(body, begin, i));
            begin = i + 1;
        }
        depth -= c == ']' || c == '}' ? 1 : 0;
    }
    if (elements.size() == 1 && elements[0].first == elements[0].second) {
        elements.clear();  // []
    }
    return elements;
}

inline std::vector<std::pair<std::size_t, std::size_t>> lines_of(std::string_view body) {
    std::vector<std::pair<std::size_t, std::size_t>> lines;
    for (std::size_t begin = 0; begin <= body.size();) {
        const std::size_t end = std::min(body.find('\n', begin), body.size());
        const auto line = trimmed(body, begin, end);
        if (line.first != line.second) {
            lines.push_back(line);
        }
        begin = end + 1;
    }
    return lines;
}

inline bool is_valid_json(std::string_view body, std::size_t depth_max, bool& decided) {
    boost::json::parse_options options;
    options.max_depth = depth_max;
    boost::json::basic_parser<OracleHandler> parser(options);
    boost::system::error_code error;
    const std::size_t used = parser.write_some(false, body.data(), body.size(), error);
    decided = error != boost::json::error::exponent_overflow;
    return !error && used == body.size();
}

// The expected outcome without messages, offsets and payload ranges.
inline BatchOutcome batch_oracle(BatchFormat format, std::string_view body, bool& decided, std::size_t events_max,
                                 std::size_t event_bytes_max) {
    decided = true;
    BatchOutcome outcome;
    const auto [first, last] = trimmed(body, 0, body.size());
    if (first == last) {
        return outcome;
    }
    const bool array = format == BatchFormat::kArray;
    if (array && body[first] != '[') {
        const ScanStatus status = oracle(body, decided).status;
        outcome.status = status == ScanStatus::kInvalidJson ? BatchStatus::kInvalidJson : BatchStatus::kNotArray;
        return outcome;
    }
    if (array && !is_valid_json(body, 65, decided)) {
        // Too many events may stand before the error: who cuts an invalid body cannot tell.
        outcome.status = BatchStatus::kInvalidJson;
        return outcome;
    }
    outcome.status = BatchStatus::kOk;
    for (const auto& [begin, end] : array ? elements_of(body) : lines_of(body)) {
        if (outcome.events.size() == events_max) {
            outcome.status = BatchStatus::kTooMany;
            break;
        }
        bool event_decided = true;
        BatchEvent event;
        event.event = oracle(body.substr(begin, end - begin), event_decided);
        event.begin = begin;
        event.end = end;
        event.too_large = end - begin > event_bytes_max;
        decided = decided && event_decided;
        if (array && event.event.status == ScanStatus::kInvalidJson) {
            outcome.status = BatchStatus::kInvalidJson;
            break;
        }
        outcome.events.push_back(std::move(event));
    }
    if (outcome.status != BatchStatus::kOk) {
        outcome.events.clear();
    }
    return outcome;
}

inline bool batches_agree(const BatchOutcome& ours, const BatchOutcome& expected, std::string_view body) {
    if (ours.status == BatchStatus::kTooMany && expected.status == BatchStatus::kInvalidJson) {
        return true;
    }
    if (ours.status != expected.status || ours.events.size() != expected.events.size()) {
        return false;
    }
    for (std::size_t i = 0; i < ours.events.size(); ++i) {
        const BatchEvent& a = ours.events[i];
        const BatchEvent& b = expected.events[i];
        if (!agrees(a.event, b.event) || a.begin != b.begin || a.end != b.end || a.too_large != b.too_large) {
            return false;
        }
        if (a.event.status == ScanStatus::kOk &&
            (body[a.event.payload_begin] != '{' || body[a.event.payload_end - 1] != '}' ||
             a.event.payload_begin < a.begin || a.event.payload_end > a.end)) {
            return false;
        }
    }
    return true;
}

}  // namespace headgate::test
