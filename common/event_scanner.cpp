// The event scanner: one pass, a state for every place where a piece may end.
//
// Two loops share the tokens (strings, numbers, literals). scan_outer knows the body and its members
// and is as plain as can be; scan_nested does whatever lies deeper, remembers nothing but the JSON
// state, and is where the time goes. A token that a piece cuts is taken up by resume_token. The tokens
// are in common/event_scanner_tokens.h, the verdict on the members in common/event_scanner_shape.cpp.
#include "common/event_scanner.h"

#include <unistd.h>

#include <algorithm>

#include "common/event_scanner_tokens.h"

namespace headgate {

namespace {

using json_bytes::is_digit;

constexpr const char* kWantsName = "expected a member name in quotes";
constexpr const char* kWantsColon = "expected a colon";
constexpr const char* kWantsCommaOrClose = "expected a comma or the end of the object or array";
constexpr const char* kWantsNothing = "expected nothing after the JSON value";
constexpr const char* kTooDeep = "nested too deeply: more than 64 levels";
static_assert(limits::kJsonDepthMax == 64, "kTooDeep says so, and containers_ has a bit for each level");
static_assert(limits::kEventTopLevelMembersMax == 1024, "end_member_name says so");

}  // namespace

MemberHashKey EventScanner::process_hash_key() noexcept {
    static const MemberHashKey key = [] {
        MemberHashKey drawn;
        if (getentropy(&drawn, sizeof drawn) != 0) {
            // No kernel entropy, which Linux has had since 3.17: where the stack lies is still hard to know.
            // It is a number here and never followed: NOLINTNEXTLINE(clang-analyzer-core.StackAddressEscape)
            drawn = {reinterpret_cast<std::uintptr_t>(&drawn), reinterpret_cast<std::uintptr_t>(&getentropy)};
        }
        return drawn;
    }();
    return key;
}

void EventScanner::reset() noexcept {
    piece_ = nullptr;
    consumed_bytes_ = 0;
    containers_ = 0;
    depth_ = 0;
    floor_ = 0;
    expect_ = Expect::kBody;
    token_ = Token::kNone;
    sink_ = Sink::kNowhere;
    text_ = Text::kPlain;
    number_ = Number::kBegin;
    token_bytes_ = 0;
    utf8_ = {};
    unit_ = 0;
    high_ = 0;
    literal_ = nullptr;
    member_ = kUnknown;
    seen_ = 0;
    strings_ = 0;
    member_count_ = 0;
    name_offset_ = 0;
    payload_ = {};
    error_message_ = nullptr;
    error_offset_ = 0;
    problems_ = 0;
    name_.begin();
    for (MemberText& text : texts_) {
        text.clear();
    }
    unknown_members_.clear();
}

// One loop for whole bodies and for values inside others, instantiated for each so that the former pays nothing.
template <bool kOneValue>
inline const char* EventScanner::advance(const char* data, std::size_t bytes) noexcept {
    piece_ = data;
    const char* p = data;
    const char* end = data + bytes;
    while (p != end && error_message_ == nullptr) {
        if (kOneValue && value_complete()) {
            break;
        }
        if (token_ != Token::kNone) {
            p = resume_token(p, end);
        } else if (depth_ > floor_) {
            p = scan_nested(p, end);
        } else {
            p = scan_outer(p, end);
        }
    }
    consumed_bytes_ += static_cast<std::uint64_t>((kOneValue ? p : end) - data);
    piece_ = nullptr;
    return p;
}

bool EventScanner::feed(const char* data, std::size_t bytes) noexcept {
    if (error_message_ != nullptr) {
        return false;
    }
    advance<false>(data, bytes);
    return error_message_ == nullptr;
}

std::size_t EventScanner::feed_value(const char* data, std::size_t bytes) noexcept {
    return error_message_ != nullptr ? 0 : static_cast<std::size_t>(advance<true>(data, bytes) - data);
}

ScanStatus EventScanner::finish() noexcept {
    if (error_message_ != nullptr) {
        return ScanStatus::kInvalidJson;
    }
    if (expect_ == Expect::kBody) {
        return ScanStatus::kEmpty;
    }
    const bool number_complete = number_ == Number::kZero || number_ == Number::kInteger ||
                                 number_ == Number::kFraction || number_ == Number::kExponent;
    const bool token_complete = token_ == Token::kNone || (token_ == Token::kNumber && number_complete);
    if (expect_ != Expect::kEnd || !token_complete) {
        fail("it ends before the JSON value does", nullptr);
        return ScanStatus::kInvalidJson;
    }
    problems_ = floor_ == 1 ? shape_problems() : std::uint32_t{kBodyNotObject};
    return problems_ == 0 ? ScanStatus::kOk : ScanStatus::kWrongShape;
}

const char* EventScanner::fail(const char* message, const char* p) noexcept {
    error_message_ = message;
    error_offset_ = offset_of(p);
    return p;
}

// ---- The body and its members.

const char* EventScanner::scan_outer(const char* p, const char* end) noexcept {
    p = json_bytes::skip_space(p, end);
    if (p == end) {
        return p;
    }
    const char c = *p;
    switch (expect_) {
        case Expect::kBody:
            return begin_body(p, end);
        case Expect::kNameOrClose:
        case Expect::kName:
            if (c == '"') {
                expect_ = Expect::kColon;
                name_offset_ = offset_of(p);
                name_.begin();
                return begin_string(p + 1, end, Sink::kName);
            }
            if (c != '}' || expect_ == Expect::kName) {
                return fail(kWantsName, p);
            }
            break;
        case Expect::kColon:
            if (c != ':') {
                return fail(kWantsColon, p);
            }
            expect_ = Expect::kValue;
            return end_member_name(p) ? p + 1 : p;
        case Expect::kValue:
        case Expect::kValueOrClose:
            return begin_member_value(p, end);
        case Expect::kCommaOrClose:
            if (c == ',') {
                expect_ = Expect::kName;
                return p + 1;
            }
            if (c != '}') {
                return fail(kWantsCommaOrClose, p);
            }
            break;
        case Expect::kEnd:
            return fail(kWantsNothing, p);
    }
    depth_ = 0;
    expect_ = Expect::kEnd;
    return p + 1;
}

const char* EventScanner::begin_body(const char* p, const char* end) noexcept {
    if (*p == '{' || *p == '[') {
        floor_ = *p == '{' ? 1 : 0;
        containers_ = floor_;
        depth_ = 1;
        expect_ = *p == '{' ? Expect::kNameOrClose : Expect::kValueOrClose;
        return p + 1;
    }
    if (*p == '\xef' && offset_of(p) == 0) {
        return fail("expected a value, not a byte order mark", p);
    }
    expect_ = Expect::kEnd;
    return begin_scalar(p, end);
}

const char* EventScanner::begin_member_value(const char* p, const char* end) noexcept {
    if (*p == '{' || *p == '[') {
        payload_.begin = *p == '{' && member_ == kPayload ? offset_of(p) : payload_.begin;
        containers_ = containers_ << 1 | (*p == '{' ? 1 : 0);
        ++depth_;
        expect_ = *p == '{' ? Expect::kNameOrClose : Expect::kValueOrClose;
        return p + 1;
    }
    expect_ = Expect::kCommaOrClose;
    if (*p == '"' && member_ < kPayload) {
        strings_ = static_cast<std::uint8_t>(strings_ | 1u << member_);
        return begin_string(p + 1, end, Sink::kMember);
    }
    return begin_scalar(p, end);
}

// At the colon. False when the name was there before.
bool EventScanner::end_member_name(const char* p) noexcept {
    if (++member_count_ > limits::kEventTopLevelMembersMax) {
        fail("more than 1024 members at the top level", p);
        error_offset_ = name_offset_;
        return false;
    }
    static constexpr std::array<std::string_view, 4> kNames{"type", "source", "ordering_key", "payload"};
    std::uint8_t member = kType;
    while (member != kUnknown && !name_.equals(kNames[member])) {
        ++member;
    }
    member_ = static_cast<Member>(member);
    const bool fresh =
        member_ == kUnknown ? unknown_members_.insert(name_.hash(hash_key_)) : (seen_ & 1u << member) == 0;
    if (!fresh) {
        fail("a member appears twice", p);
        error_offset_ = name_offset_;
    }
    seen_ = static_cast<std::uint8_t>(seen_ | 1u << member);
    return fresh;
}

// scan_nested has come back up; `p` is one past the bracket.
void EventScanner::end_floor_container(const char* p) noexcept {
    if (floor_ == 0) {
        expect_ = Expect::kEnd;
    } else {
        expect_ = Expect::kCommaOrClose;
        payload_.end = member_ == kPayload && payload_.begin != 0 ? offset_of(p) : payload_.end;
    }
}

// ---- Everything below the members.

// Labels and jumps instead of a state variable in a loop: each label is a state, what usually follows it stands
// next, and each decision is a branch of its own for the processor to predict.
const char* EventScanner::scan_nested(const char* p, const char* end) noexcept {
    std::uint64_t containers = containers_;
    unsigned depth = depth_;
    const unsigned floor = floor_;
    const auto leave = [&](Expect expect, const char* at) {
        containers_ = containers;
        depth_ = static_cast<std::uint8_t>(depth);
        expect_ = expect;
        return at;
    };
    // True when the string, number or literal at `p` was read to its end.
    const auto complete = [&] { return token_ == Token::kNone && error_message_ == nullptr; };

    switch (expect_) {
        case Expect::kNameOrClose:
            goto name_or_close;
        case Expect::kName:
            goto name;
        case Expect::kColon:
            goto colon;
        case Expect::kValueOrClose:
            goto value_or_close;
        case Expect::kCommaOrClose:
            goto comma_or_close;
        default:
            goto value;
    }

name_or_close:
    p = json_bytes::skip_space(p, end);
    if (p == end) {
        return leave(Expect::kNameOrClose, p);
    }
    if (*p == '}') {
        goto close;
    }
name:
    p = json_bytes::skip_space(p, end);
    if (p == end) {
        return leave(Expect::kName, p);
    }
    if (*p != '"') {
        return fail(kWantsName, p);
    }
    {
        const char* stop = json_bytes::native::skip_plain(p + 1, end);
        if (stop != end && *stop == '"') {
            p = stop + 1;
        } else {
            p = begin_string(p + 1, end, Sink::kNowhere);
            if (!complete()) {
                return leave(Expect::kColon, p);
            }
        }
    }
colon:
    p = json_bytes::skip_space(p, end);
    if (p == end) {
        return leave(Expect::kColon, p);
    }
    if (*p != ':') {
        return fail(kWantsColon, p);
    }
    ++p;
value:
    p = json_bytes::skip_space(p, end);
    if (p == end) {
        return leave(Expect::kValue, p);
    }
value_here:
    if (*p == '"') {
        const char* stop = json_bytes::native::skip_plain(p + 1, end);
        if (stop != end && *stop == '"') {
            p = stop + 1;
            goto comma_or_close;
        }
    } else if (*p == '{' || *p == '[') {
        if (depth == limits::kJsonDepthMax) {
            return fail(kTooDeep, p);
        }
        const bool is_object = *p == '{';
        containers = containers << 1 | (is_object ? 1 : 0);
        ++depth;
        ++p;
        if (is_object) {
            goto name_or_close;
        }
        goto value_or_close;
    } else if (is_digit(*p) || *p == '-') {
        const char* stop = scanner_text::whole_number_end(p, end);
        if (stop != nullptr) {
            p = stop;
            goto comma_or_close;
        }
    }
    p = begin_scalar(p, end);
    if (!complete()) {
        return leave(Expect::kCommaOrClose, p);
    }
comma_or_close:
    p = json_bytes::skip_space(p, end);
    if (p == end) {
        return leave(Expect::kCommaOrClose, p);
    }
    if (*p == ',') {
        ++p;
        if ((containers & 1) != 0) {
            goto name;
        }
        goto value;
    }
    if (*p != ((containers & 1) != 0 ? '}' : ']')) {
        return fail(kWantsCommaOrClose, p);
    }
close:
    ++p;
    containers >>= 1;
    --depth;
    if (depth > floor) {
        goto comma_or_close;
    }
    leave(Expect::kCommaOrClose, p);
    end_floor_container(p);
    return p;

value_or_close:
    p = json_bytes::skip_space(p, end);
    if (p == end) {
        return leave(Expect::kValueOrClose, p);
    }
    if (*p == ']') {
        goto close;
    }
    goto value_here;
}

}  // namespace headgate
