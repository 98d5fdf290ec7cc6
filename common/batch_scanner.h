// The in-place scanner of POST /events/batch bodies: one pass over a JSON array of events, or over NDJSON (one
// event on each line), fed in any number of pieces. Every event is judged by the same EventScanner as a single
// one, and told to a sink as soon as it ends; nothing of it is kept here, so that memory does not grow with the batch.
//
// What is wrong with one event rejects that event alone, as long as it is known where it ends: the wrong shape or
// too many bytes in either form, invalid JSON on a line of NDJSON. Invalid JSON in an array is the end of
// the whole batch: nobody can say where the next event would begin.
//
// An event is as deep and as large as it is by itself: the array around it counts for neither. In NDJSON a
// line ends with LF or CR LF, the last one may lack it, and lines of nothing but white space are passed over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/event_scanner.h"

namespace headgate {

enum class BatchFormat : std::uint8_t { kArray, kLines };

enum class BatchStatus : std::uint8_t {
    kOk,           // scanned to its end; each event has a verdict of its own, and there may be none
    kEmpty,        // no byte but white space: 400
    kInvalidJson,  // of an array only: 400; error_message() and error_offset() say what and where
    kNotArray,     // valid JSON, but no array: 422
    kTooMany,      // more events than allowed: 413
};

struct BatchElement {
    std::size_t index = 0;  // of the event, from 0; lines that are blank do not count
    // What EventScanner says of it by itself; kEmpty never.
    ScanStatus status = ScanStatus::kOk;
    bool too_large = false;  // more bytes than an event may have, whatever its status
    ByteRange bytes;         // in the whole body, without the white space around it
    ByteRange payload;       // in the whole body; only when kOk
};

// Is told of each event in order, at its end. `event` is the scanner that has read it: strings, problems and error
// texts are valid during the call only, and its offsets count from the event's first byte. After an end that is
// not kOk, forget what was told.
class BatchSink {
 public:
    virtual ~BatchSink() = default;
    virtual void add(const BatchElement& element, const EventScanner& event) = 0;
};

class BatchScanner {
 public:
    // At most `events_max` events, each of at most `event_bytes_max` bytes.
    BatchScanner(BatchFormat format, std::size_t events_max, std::size_t event_bytes_max, BatchSink& sink) noexcept
        : format_(format), events_max_(events_max), event_bytes_max_(event_bytes_max), sink_(sink) {}

    // The next piece, of any length, 0 included. Returns false once the outcome is known: further pieces need not be
    // fed. Throws only what the sink throws.
    bool feed(const char* data, std::size_t bytes);
    // No more pieces. Call once.
    BatchStatus finish();

    [[nodiscard]] std::size_t count() const noexcept { return count_; }  // of events
    // After kInvalidJson; the text is static, the offset of the whole body.
    [[nodiscard]] std::string_view error_message() const noexcept { return error_message_; }
    [[nodiscard]] std::uint64_t error_offset() const noexcept { return error_offset_; }

 private:
    enum class Expect : std::uint8_t {
        kArray,         // the bracket that opens it
        kEventOrClose,  // behind it
        kEvent,         // behind a comma
        kInEvent,
        kCommaOrClose,
        kNothing,      // behind the array
        kInOtherBody,  // that is no array
    };

    void feed_array(const char* p, const char* end);
    void feed_lines(const char* p, const char* end);
    void feed_line(const char* p, const char* end);
    bool begin_event(const char* p) noexcept;
    void end_event(std::uint64_t end);
    void end_line();
    void fail(std::string_view message, std::uint64_t offset) noexcept;
    [[nodiscard]] std::uint64_t offset_of(const char* p) const noexcept {
        return consumed_bytes_ + static_cast<std::uint64_t>(p - piece_);
    }
    [[nodiscard]] bool decided() const noexcept { return outcome_ != BatchStatus::kOk; }

    const BatchFormat format_;
    const std::size_t events_max_;
    const std::size_t event_bytes_max_;
    BatchSink& sink_;

    const char* piece_ = nullptr;  // of the caller, during feed() only
    std::uint64_t consumed_bytes_ = 0;
    std::size_t count_ = 0;
    Expect expect_ = Expect::kArray;
    bool in_line_ = false;                    // of NDJSON, and something other than white space was on it
    std::uint64_t begin_ = 0;                 // of the event
    std::uint64_t text_end_ = 0;              // of a line: one past its last byte that is no white space
    BatchStatus outcome_ = BatchStatus::kOk;  // kOk: not decided yet
    std::string_view error_message_;
    std::uint64_t error_offset_ = 0;
    EventScanner scanner_;
};

}  // namespace headgate
