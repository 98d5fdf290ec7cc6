// Input: an event that event_scanner.cpp has read to its end. Output: what is wrong with its shape, and the members
// that were asked for.
#include <algorithm>

#include "common/event_scanner.h"

namespace headgate {

namespace {

using json_bytes::is_digit;

constexpr bool is_type_byte(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '.' || c == ':' ||
           c == '-';
}

constexpr std::array<ShapeProblemText, 17> kProblemTexts{{
    {kBodyNotObject, "", "must be a JSON object"},
    {kTypeMissing, "type", "is required"},
    {kTypeNotString, "type", "must be a string"},
    {kTypeEmpty, "type", "must not be empty"},
    {kTypeInvalid, "type", "must be 1 to 128 of the characters A-Z a-z 0-9 _ . : -"},
    {kTypeReserved, "type", "must not begin with webhook., which is reserved"},
    {kSourceMissing, "source", "is required"},
    {kSourceNotString, "source", "must be a string"},
    {kSourceEmpty, "source", "must not be empty"},
    {kSourceTooLong, "source", "must not be longer than 256 bytes"},
    {kSourceControl, "source", "must not contain control characters"},
    {kPayloadMissing, "payload", "is required"},
    {kPayloadNotObject, "payload", "must be a JSON object"},
    {kOrderingKeyNotString, "ordering_key", "must be a string"},
    {kOrderingKeyEmpty, "ordering_key", "must not be empty"},
    {kOrderingKeyTooLong, "ordering_key", "must not be longer than 256 bytes"},
    {kOrderingKeyControl, "ordering_key", "must not contain control characters"},
}};
static_assert(limits::kEventTypeBytesMax == 128 && limits::kEventSourceBytesMax == 256 &&
                  limits::kOrderingKeyBytesMax == 256,
              "the texts say so");

}  // namespace

const ShapeProblemText* shape_problem_texts(std::size_t& count) noexcept {
    count = kProblemTexts.size();
    return kProblemTexts.data();
}

std::uint32_t EventScanner::shape_problems() const noexcept {
    const auto seen = [&](Member member) { return (seen_ & 1u << member) != 0; };
    std::uint32_t problems = seen(kType) ? type_problems() : std::uint32_t{kTypeMissing};
    problems |= seen(kSource) ? text_problems(kSource, kSourceNotString) : std::uint32_t{kSourceMissing};
    problems |= seen(kOrderingKey) ? text_problems(kOrderingKey, kOrderingKeyNotString) : 0u;
    if (!seen(kPayload)) {
        return problems | kPayloadMissing;
    }
    return payload_.end == 0 ? problems | kPayloadNotObject : problems;
}

std::uint32_t EventScanner::type_problems() const noexcept {
    if ((strings_ & 1u << kType) == 0) {
        return kTypeNotString;
    }
    const MemberText& text = texts_[kType];
    if (text.length == 0) {
        return kTypeEmpty;
    }
    const std::string_view value = text.view();
    const bool valid =
        text.length <= limits::kEventTypeBytesMax && std::all_of(value.begin(), value.end(), is_type_byte);
    return (valid ? 0u : std::uint32_t{kTypeInvalid}) |
           (value.starts_with("webhook.") ? std::uint32_t{kTypeReserved} : 0u);
}

// Of source and ordering_key, whose bits follow one another alike: not a string, empty, too long, control.
std::uint32_t EventScanner::text_problems(Member member, std::uint32_t not_string) const noexcept {
    static_assert(kSourceEmpty == kSourceNotString << 1 && kOrderingKeyEmpty == kOrderingKeyNotString << 1);
    static_assert(kSourceTooLong == kSourceNotString << 2 && kOrderingKeyTooLong == kOrderingKeyNotString << 2);
    static_assert(kSourceControl == kSourceNotString << 3 && kOrderingKeyControl == kOrderingKeyNotString << 3);
    if ((strings_ & 1u << member) == 0) {
        return not_string;
    }
    const MemberText& text = texts_[member];
    if (text.length == 0) {
        return not_string << 1;
    }
    return (text.length > kMemberBytesMax ? not_string << 2 : 0u) | (text.has_control ? not_string << 3 : 0u);
}

ByteRange EventScanner::payload() const noexcept { return payload_; }
std::string_view EventScanner::type() const noexcept { return texts_[kType].view(); }
std::string_view EventScanner::source() const noexcept { return texts_[kSource].view(); }
std::string_view EventScanner::ordering_key() const noexcept { return texts_[kOrderingKey].view(); }
std::uint32_t EventScanner::problems() const noexcept { return problems_; }
std::string_view EventScanner::error_message() const noexcept {
    return error_message_ == nullptr ? std::string_view() : std::string_view(error_message_);
}
std::uint64_t EventScanner::error_offset() const noexcept { return error_offset_; }

}  // namespace headgate
