// Input: an event. Output: where it lies in Redis and how its entry is read. Next: publish (writes
// entries), ingest (reads them).
#include "common/event_record.h"

#include <charconv>
#include <limits>

#include "common/event_id.h"
#include "common/event_scanner.h"
#include "common/json_bytes.h"
#include "common/limits.h"

namespace headgate {

namespace {

constexpr int kSlots = 16'384;
constexpr std::int64_t kAtMsMax = 253'402'300'799'999;  // 9999-12-31T23:59:59.999Z
constexpr std::size_t kTraceparentBytesMax = 128;
constexpr std::size_t kViaBytesMax = 64;

constexpr std::array<std::uint16_t, 256> make_crc16_table() {
    std::array<std::uint16_t, 256> table{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t crc = byte << 8;
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc & 0x8000u) != 0 ? (crc << 1) ^ 0x1021u : crc << 1;
        }
        table[byte] = static_cast<std::uint16_t>(crc);
    }
    return table;
}
constexpr auto kCrc16Table = make_crc16_table();

constexpr std::uint16_t crc16(std::string_view bytes) noexcept {
    std::uint32_t crc = 0;
    for (const char byte : bytes) {
        crc = ((crc << 8) & 0xffffu) ^ kCrc16Table[(crc >> 8) ^ static_cast<unsigned char>(byte)];
    }
    return static_cast<std::uint16_t>(crc);
}

struct ShardTag {
    char digits[7] = {};
    std::uint8_t bytes = 0;
};

constexpr ShardTag decimal_tag(int number) {
    ShardTag tag;
    int divisor = 1;
    while (number / divisor >= 10) {
        divisor *= 10;
    }
    for (; divisor > 0; divisor /= 10) {
        tag.digits[tag.bytes++] = static_cast<char>('0' + number / divisor % 10);
    }
    return tag;
}

constexpr int reverse_ten_bits(int number) {
    int reversed = 0;
    for (int bit = 0; bit < 10; ++bit) {
        reversed |= (number >> bit & 1) << (9 - bit);
    }
    return reversed;
}

// The slots are cut into kShardsMax equal parts, and each part gets the smallest decimal number that
// hashes into it. Reversing the bits of n picks parts in the order 0, 1/2, 1/4, 3/4, 1/8, …
constexpr std::array<ShardTag, limits::kShardsMax> make_shard_tags() {
    static_assert(limits::kShardsMax == 1 << 10, "reverse_ten_bits numbers the parts");
    std::array<ShardTag, limits::kShardsMax> tags{};
    int left = limits::kShardsMax;
    for (int number = 0; left > 0; ++number) {
        const ShardTag tag = decimal_tag(number);
        const int slot = crc16({tag.digits, tag.bytes}) % kSlots;
        ShardTag& entry = tags[reverse_ten_bits(slot / (kSlots / limits::kShardsMax))];
        if (entry.bytes == 0) {
            entry = tag;
            --left;
        }
    }
    return tags;
}
constexpr auto kShardTags = make_shard_tags();

std::string join(std::string_view a, std::string_view b, std::string_view c = {}, std::string_view d = {}) {
    std::string text;
    text.reserve(a.size() + b.size() + c.size() + d.size());
    text.append(a).append(b).append(c).append(d);
    return text;
}

constexpr std::size_t index_of(EventField field) noexcept { return static_cast<std::size_t>(field); }

struct TextRule {
    EventField field;
    std::size_t bytes_min;
    std::size_t bytes_max;
};
// Everything that is short text; id, type, payload and at have rules of their own.
constexpr TextRule kTextRules[] = {
    {EventField::kOrg, 1, limits::kOrgIdBytesMax},
    {EventField::kKey, 0, limits::kKeyIdBytesMax},
    {EventField::kSource, 1, limits::kEventSourceBytesMax},
    {EventField::kOrd, 0, limits::kOrderingKeyBytesMax},
    {EventField::kTp, 0, kTraceparentBytesMax},
    {EventField::kVia, 1, kViaBytesMax},
};

tl::unexpected<Error> corrupt(EventField field, std::string_view reason) {
    return fail(ErrorCode::kCorrupt, join("stream entry: field \"", kEventFieldNames[index_of(field)], "\" ", reason));
}

// [A-Za-z0-9_.:-]{1,128}; what clients may publish is narrower by the reserved prefix.
bool is_type_text(std::string_view type) noexcept {
    if (type.empty() || type.size() > limits::kEventTypeBytesMax) {
        return false;
    }
    for (const char c : type) {
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        const bool digit = c >= '0' && c <= '9';
        if (!letter && !digit && c != '_' && c != '.' && c != ':' && c != '-') {
            return false;
        }
    }
    return true;
}

bool is_utf8(std::string_view text) noexcept {
    json_bytes::Utf8State state;
    for (const char c : text) {
        if (!state.accept(c)) {
            return false;
        }
    }
    return state.missing == 0;
}

// U+0080 to U+009F, in valid UTF-8: what the edge refuses in source and ordering_key besides those below 0x80.
bool has_c1_controls(std::string_view text) noexcept {
    for (std::size_t at = text.find('\xc2'); at != std::string_view::npos; at = text.find('\xc2', at + 1)) {
        if (at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) < 0xa0) {
            return true;
        }
    }
    return false;
}

// One JSON value, by the edge's own scanner. An object stands where the edge has it, in an event's body, so that its
// members are as free, and as deep, as there.
bool is_json_value(std::string_view payload) noexcept {
    std::size_t begin = 0;
    std::size_t end = payload.size();
    while (begin < end && json_bytes::is_space(payload[begin])) {
        ++begin;
    }
    while (end > begin && json_bytes::is_space(payload[end - 1])) {
        --end;
    }
    payload = payload.substr(begin, end - begin);
    EventScanner scanner;
    if (!payload.starts_with('{')) {
        if (scanner.feed_value(payload.data(), payload.size()) != payload.size()) {
            return false;
        }
        const ScanStatus status = scanner.finish();
        return status == ScanStatus::kOk || status == ScanStatus::kWrongShape;
    }
    constexpr std::string_view kHead = R"({"type":"a","source":"b","payload":)";
    const bool is_fed = scanner.feed(kHead.data(), kHead.size()) && scanner.feed(payload.data(), payload.size()) &&
                        scanner.feed("}", 1);
    // Else the text goes on behind its value, with members of the body.
    return is_fed && scanner.finish() == ScanStatus::kOk && scanner.payload().begin == kHead.size() &&
           scanner.payload().size() == payload.size();
}

}  // namespace

Result<EventRecord> decode_event(const std::vector<std::pair<std::string_view, std::string_view>>& fields) {
    std::array<std::string_view, kEventFieldNames.size()> values;
    std::array<bool, kEventFieldNames.size()> present{};
    for (const auto& [name, value] : fields) {
        for (std::size_t i = 0; i < kEventFieldNames.size(); ++i) {
            if (kEventFieldNames[i] != name) {
                continue;
            }
            if (present[i]) {
                return corrupt(static_cast<EventField>(i), "is doubled");
            }
            present[i] = true;
            values[i] = value;
        }
    }
    for (std::size_t i = 0; i < present.size(); ++i) {
        if (!present[i]) {
            return corrupt(static_cast<EventField>(i), "is missing");
        }
    }
    const auto value_of = [&values](EventField field) { return values[index_of(field)]; };
    if (value_of(EventField::kV) != std::to_string(limits::kContractVersion)) {
        return corrupt(EventField::kV, "has a version that this build does not know");
    }
    if (!uuid_is_valid(value_of(EventField::kId))) {
        return corrupt(EventField::kId, "is not a UUID");
    }
    for (const TextRule& rule : kTextRules) {
        const std::string_view text = value_of(rule.field);
        if (text.size() < rule.bytes_min) {
            return corrupt(rule.field, "is empty");
        }
        if (text.size() > rule.bytes_max) {
            return corrupt(rule.field, "is too long");
        }
        if (has_control_characters(text)) {
            return corrupt(rule.field, "holds control characters");
        }
        if (!is_utf8(text)) {
            return corrupt(rule.field, "is not UTF-8");
        }
    }
    for (const EventField field : {EventField::kSource, EventField::kOrd}) {
        if (has_c1_controls(value_of(field))) {
            return corrupt(field, "holds control characters");
        }
    }
    if (!is_type_text(value_of(EventField::kType))) {
        return corrupt(EventField::kType, "is not an event type");
    }
    if (value_of(EventField::kPayload).empty()) {
        return corrupt(EventField::kPayload, "is empty");
    }
    if (!is_json_value(value_of(EventField::kPayload))) {
        return corrupt(EventField::kPayload, "is not JSON");
    }
    const std::string_view at = value_of(EventField::kAt);
    std::int64_t at_ms = -1;
    const auto [end, error] = std::from_chars(at.data(), at.data() + at.size(), at_ms);
    if (error != std::errc() || end != at.data() + at.size() || at_ms < 0 || at_ms > kAtMsMax) {
        return corrupt(EventField::kAt, "is not a time in ms");
    }
    return EventRecord{
        .id = value_of(EventField::kId),
        .org = value_of(EventField::kOrg),
        .key_id = value_of(EventField::kKey),
        .type = value_of(EventField::kType),
        .source = value_of(EventField::kSource),
        .payload = value_of(EventField::kPayload),
        .ordering_key = value_of(EventField::kOrd),
        .traceparent = value_of(EventField::kTp),
        .via = value_of(EventField::kVia),
        .at_ms = at_ms,
    };
}

std::string_view shard_tag(int shard) noexcept {
    const ShardTag& tag = kShardTags[static_cast<std::size_t>(shard) % kShardTags.size()];
    return {tag.digits, tag.bytes};
}

std::uint16_t redis_slot(std::string_view key) noexcept {
    // Only what stands between the first `{` and the next `}` counts, if that is not empty.
    const std::size_t open = key.find('{');
    if (open != std::string_view::npos) {
        const std::size_t close = key.find('}', open + 1);
        if (close != std::string_view::npos && close > open + 1) {
            key = key.substr(open + 1, close - open - 1);
        }
    }
    return crc16(key) % kSlots;
}

std::string stream_key(std::string_view prefix, int shard) { return join(prefix, "{", shard_tag(shard), "}:events"); }
std::string api_key_key(std::string_view prefix, std::string_view hash_hex) { return join(prefix, "key:", hash_hex); }
std::string idempotency_key(std::string_view prefix, int shard, std::string_view org, std::string_view ordering_key,
                            std::string_view key) {
    std::string scoped(ordering_key);
    scoped.push_back('\0');
    const std::string digest = hex_encode(sha256(scoped, key));
    return join(prefix, "{", shard_tag(shard), "}:idem:") + join(org, ":", digest);
}
std::string idempotency_value(std::string_view event_id, const Sha256Digest& body) {
    return join(event_id, " ", hex_encode(body));
}
std::string meta_key(std::string_view prefix) { return join(prefix, "meta"); }
std::string revoked_key(std::string_view prefix) { return join(prefix, "revoked"); }
std::string control_key(std::string_view prefix) { return join(prefix, "control"); }

int shard_of(std::string_view org, std::string_view key, int shards) noexcept {
    const std::uint32_t hash = crc32c(key, crc32c(std::string_view("", 1), crc32c(org)));
    return shards < 1 ? 0 : static_cast<int>(hash % static_cast<std::uint32_t>(shards));
}

bool event_type_is_valid(std::string_view type) noexcept { return is_type_text(type) && !type.starts_with("webhook."); }

bool has_control_characters(std::string_view text) noexcept {
    for (const char c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
            return true;
        }
    }
    return false;
}

}  // namespace headgate
