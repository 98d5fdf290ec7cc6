// Input: the body of a batch, piece by piece. Output: each event's verdict and where it lies. Next: publish_batch.cpp
// at the edge, which makes a command of each.
#include "common/batch_scanner.h"

#include <cstring>

namespace headgate {

using json_bytes::is_space;
using json_bytes::skip_space;

bool BatchScanner::feed(const char* data, std::size_t bytes) {
    if (decided()) {
        return false;
    }
    piece_ = data;
    if (bytes != 0) {
        if (format_ == BatchFormat::kArray) {
            feed_array(data, data + bytes);
        } else {
            feed_lines(data, data + bytes);
        }
    }
    consumed_bytes_ += bytes;
    piece_ = nullptr;
    return !decided();
}

BatchStatus BatchScanner::finish() {
    if (format_ == BatchFormat::kLines && !decided()) {
        end_line();
        return count_ == 0 ? BatchStatus::kEmpty : BatchStatus::kOk;
    }
    if (decided() || expect_ == Expect::kNothing) {
        return outcome_;
    }
    if (expect_ == Expect::kArray) {
        return BatchStatus::kEmpty;
    }
    if (expect_ == Expect::kInOtherBody && scanner_.finish() != ScanStatus::kInvalidJson) {
        return BatchStatus::kNotArray;
    }
    fail("it ends before the JSON value does", consumed_bytes_);
    return outcome_;
}

void BatchScanner::fail(std::string_view message, std::uint64_t offset) noexcept {
    outcome_ = BatchStatus::kInvalidJson;
    error_message_ = message;
    error_offset_ = offset;
}

// False when it would be one too many.
bool BatchScanner::begin_event(const char* p) noexcept {
    if (count_ == events_max_) {
        outcome_ = BatchStatus::kTooMany;
        return false;
    }
    begin_ = offset_of(p);
    scanner_.reset();
    return true;
}

void BatchScanner::end_event(std::uint64_t end) {
    BatchElement element;
    element.index = count_++;
    element.status = scanner_.finish();
    element.bytes = {begin_, end};
    element.too_large = element.bytes.size() > event_bytes_max_;
    if (element.status == ScanStatus::kOk) {
        element.payload = {begin_ + scanner_.payload().begin, begin_ + scanner_.payload().end};
    }
    sink_.add(element, scanner_);
}

// ---- An array.

void BatchScanner::feed_array(const char* p, const char* end) {
    while (!decided()) {
        if (expect_ == Expect::kInOtherBody) {
            if (!scanner_.feed(p, static_cast<std::size_t>(end - p))) {
                fail(scanner_.error_message(), begin_ + scanner_.error_offset());
            }
            return;
        }
        if (expect_ == Expect::kInEvent) {
            p += scanner_.feed_value(p, static_cast<std::size_t>(end - p));
            if (scanner_.failed()) {
                fail(scanner_.error_message(), begin_ + scanner_.error_offset());
                return;
            }
            if (!scanner_.value_complete()) {
                return;
            }
            end_event(offset_of(p));
            expect_ = Expect::kCommaOrClose;
        }
        p = skip_space(p, end);
        if (p == end) {
            return;
        }
        switch (expect_) {
            case Expect::kArray:
                if (*p != '[') {
                    begin_ = offset_of(p);
                    expect_ = Expect::kInOtherBody;
                    break;
                }
                expect_ = Expect::kEventOrClose;
                ++p;
                break;
            case Expect::kEventOrClose:
            case Expect::kEvent:
                if (*p == ']' && expect_ == Expect::kEventOrClose) {
                    expect_ = Expect::kNothing;
                    ++p;
                } else if (begin_event(p)) {
                    expect_ = Expect::kInEvent;
                }
                break;
            case Expect::kCommaOrClose:
                if (*p != ',' && *p != ']') {
                    fail("expected a comma or the end of the array", offset_of(p));
                    break;
                }
                expect_ = *p == ',' ? Expect::kEvent : Expect::kNothing;
                ++p;
                break;
            default:
                fail("expected nothing after the array", offset_of(p));
        }
    }
}

// ---- Lines.

void BatchScanner::feed_lines(const char* p, const char* end) {
    while (p != end && !decided()) {
        const auto* newline = static_cast<const char*>(std::memchr(p, '\n', static_cast<std::size_t>(end - p)));
        feed_line(p, newline == nullptr ? end : newline);
        if (newline == nullptr || decided()) {
            return;
        }
        end_line();
        p = newline + 1;
    }
}

// A part of a line, without the LF that ends it.
void BatchScanner::feed_line(const char* p, const char* end) {
    if (!in_line_) {
        p = skip_space(p, end);
        if (p == end || !begin_event(p)) {
            return;
        }
        in_line_ = true;
    }
    scanner_.feed(p, static_cast<std::size_t>(end - p));
    // White space at the end, the CR of a CR LF among it, is not the event's.
    const char* text_end = end;
    while (text_end != p && is_space(text_end[-1])) {
        --text_end;
    }
    text_end_ = text_end != p ? offset_of(text_end) : text_end_;
}

void BatchScanner::end_line() {
    if (in_line_) {
        in_line_ = false;
        end_event(text_end_);
    }
}

}  // namespace headgate
