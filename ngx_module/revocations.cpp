// See revocations.h.
#include "ngx_module/revocations.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "common/hmac.h"

namespace headgate::edge {

namespace {

constexpr std::size_t kHexBytes = 64;  // of a SHA-256

Fingerprint fingerprint_of(std::string_view a, std::string_view b) noexcept {
    const Sha256Digest digest = sha256(a, b);
    Fingerprint out;
    std::memcpy(out.data(), digest.data(), out.size());
    return out;
}

bool is_hex_digest(std::string_view text) noexcept {
    return text.size() == kHexBytes && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

RevocationMark mark_of(std::string_view kind, std::string_view text) noexcept {
    return text.empty() ? RevocationMark{} : RevocationMark{fingerprint_of(kind, text), true};
}

// Of <kind><hex SHA-256 of iss NUL name>.
RevocationMark mark_of_hashed(std::string_view kind, std::string_view iss, std::string_view name) noexcept {
    if (name.empty()) {
        return {};
    }
    constexpr std::size_t kIssBytesMax = 512;  // more than a claim may have
    char with_nul[kIssBytesMax + 1];
    if (iss.size() > kIssBytesMax) {
        return {};
    }
    std::copy(iss.begin(), iss.end(), with_nul);
    with_nul[iss.size()] = '\0';
    char hex[kHexBytes];
    hex_encode_into(sha256({with_nul, iss.size() + 1}, name), hex);
    return {fingerprint_of(kind, {hex, sizeof hex}), true};
}

}  // namespace

std::optional<RevokedMember> parse_revoked_member(std::string_view member) noexcept {
    const std::string_view kind = member.substr(0, std::min<std::size_t>(4, member.size()));
    const std::string_view rest = member.substr(kind.size());
    if (rest.empty()) {
        return std::nullopt;
    }
    if (kind == "key:" || kind == "kid:" || (kind == "jti:" && is_hex_digest(rest))) {
        return RevokedMember{fingerprint_of(kind, rest), RevokedMember::kAlways};
    }
    if (kind != "sub:" || rest.size() < kHexBytes + 2 || rest[kHexBytes] != '@' ||
        !is_hex_digest(rest.substr(0, kHexBytes))) {
        return std::nullopt;
    }
    RevokedMember out;
    const std::string_view digits = rest.substr(kHexBytes + 1);
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), out.issued_before_ms);
    if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size() || out.issued_before_ms < 0 ||
        !out.has_time()) {
        return std::nullopt;
    }
    out.fingerprint = fingerprint_of(kind, rest.substr(0, kHexBytes));
    return out;
}

RevocationMark mark_of_key(std::string_view key_id) noexcept { return mark_of("key:", key_id); }
RevocationMark mark_of_kid(std::string_view kid) noexcept { return mark_of("kid:", kid); }
RevocationMark mark_of_jti(std::string_view iss, std::string_view jti) noexcept {
    return mark_of_hashed("jti:", iss, jti);
}
RevocationMark mark_of_sub(std::string_view iss, std::string_view sub) noexcept {
    return mark_of_hashed("sub:", iss, sub);
}

void RevocationTable::init(void* memory, std::size_t bytes) noexcept {
    table_ = static_cast<Slot*>(memory);
    slots_ = bytes / sizeof(Slot);
    used_ = 0;
    std::memset(memory, 0, bytes);
}

std::size_t RevocationTable::home_of(const Fingerprint& fingerprint) const noexcept {
    std::uint64_t hash;
    std::memcpy(&hash, fingerprint.data(), sizeof hash);
    return static_cast<std::size_t>(hash % slots_);
}

RevocationTable::Slot* RevocationTable::find(const RevokedMember& member) const noexcept {
    std::size_t at = home_of(member.fingerprint);
    for (std::size_t probes = 0; probes < slots_ && table_[at].used != 0; ++probes, at = after(at)) {
        Slot& slot = table_[at];
        if (slot.fingerprint == member.fingerprint && slot.issued_before_ms == member.issued_before_ms) {
            return &slot;
        }
    }
    return nullptr;
}

RevocationTable::Added RevocationTable::add(const RevokedMember& member, std::int64_t until_ms,
                                            std::uint32_t round) noexcept {
    if (Slot* known = find(member); known != nullptr) {
        known->round = round;
        if (until_ms <= known->until_ms) {
            return Added::kKnown;
        }
        known->until_ms = until_ms;
        return Added::kNew;  // it may have ended before
    }
    if (used_ >= (member.has_time() ? size_max_with_time() : size_max())) {
        return Added::kLeftOut;
    }
    std::size_t at = home_of(member.fingerprint);
    while (table_[at].used != 0) {
        at = after(at);
    }
    table_[at] = {member.fingerprint, member.issued_before_ms, until_ms, round, 1};
    ++used_;
    return Added::kNew;
}

bool RevocationTable::remove(const RevokedMember& member) noexcept {
    const Slot* found = find(member);
    if (found == nullptr) {
        return false;
    }
    remove_at(static_cast<std::size_t>(found - table_));
    return true;
}

// Knuth, The Art of Computer Programming 3, algorithm 6.4R.
void RevocationTable::remove_at(std::size_t hole) noexcept {
    --used_;
    for (std::size_t at = after(hole); table_[at].used != 0 && at != hole; at = after(at)) {
        const std::size_t home = home_of(table_[at].fingerprint);
        // An entry whose home lies cyclically after the hole and up to itself is where it can be found.
        const bool stays = hole < at ? (home > hole && home <= at) : (home > hole || home <= at);
        if (!stays) {
            table_[hole] = table_[at];
            hole = at;
        }
    }
    table_[hole].used = 0;
}

bool RevocationTable::revokes(const RevocationMark& mark, std::int64_t iat_ms, std::int64_t now_ms) const noexcept {
    if (!mark.has) {
        return false;
    }
    std::size_t at = home_of(mark.fingerprint);
    for (std::size_t probes = 0; probes < slots_ && table_[at].used != 0; ++probes, at = after(at)) {
        const Slot& slot = table_[at];
        if (slot.fingerprint == mark.fingerprint && slot.until_ms > now_ms && iat_ms < slot.issued_before_ms) {
            return true;
        }
    }
    return false;
}

std::size_t RevocationTable::sweep(std::size_t from, std::size_t slots_max, std::int64_t now_ms, bool drop_older,
                                   std::uint32_t round) noexcept {
    const std::size_t end = std::min(slots_, from + slots_max);
    for (std::size_t at = from; at < end;) {
        const Slot& slot = table_[at];
        const bool withdrawn =
            drop_older && slot.until_ms > now_ms && static_cast<std::int32_t>(slot.round - round) < 0;
        if (slot.used != 0 && (withdrawn || slot.until_ms <= now_ms - kKeptMs)) {
            remove_at(at);  // another entry may stand here now
        } else {
            ++at;
        }
    }
    return end;
}

}  // namespace headgate::edge
