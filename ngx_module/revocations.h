// Revocations as the edge knows them: a hash table over a span of memory that never grows (the reserved part of the
// zone). Pure: no clock, no lock, no allocation; zone.h says where it lies and who locks it.
//
// Open addressing with linear probing. An entry is the first half of SHA-256 over the member's text, so that members
// of any length take the same room; a removal moves later entries up, one whole entry at a time, so that a worker
// that dies in the middle leaves a table that can still be searched.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace headgate::edge {

using Fingerprint = std::array<unsigned char, 16>;

// A member of headgate:revoked.
struct RevokedMember {
    Fingerprint fingerprint{};
    // Revoked is what was issued before this, in ms since the epoch. kAlways for what has no time (key, kid, jti).
    std::int64_t issued_before_ms = 0;

    static constexpr std::int64_t kAlways = std::numeric_limits<std::int64_t>::max();
    [[nodiscard]] bool has_time() const noexcept { return issued_before_ms != kAlways; }
};

// `key:<id>`, `kid:<kid>`, `jti:<hex>`, `sub:<hex>@<issued before, ms>`; nullopt for what is none of them.
[[nodiscard]] std::optional<RevokedMember> parse_revoked_member(std::string_view member) noexcept;

// What a credential may be revoked by. Empty texts have no fingerprint (`has` is false).
struct RevocationMark {
    Fingerprint fingerprint{};
    bool has = false;
};
[[nodiscard]] RevocationMark mark_of_key(std::string_view key_id) noexcept;
[[nodiscard]] RevocationMark mark_of_kid(std::string_view kid) noexcept;
[[nodiscard]] RevocationMark mark_of_jti(std::string_view iss, std::string_view jti) noexcept;  // sha256(iss NUL jti)
[[nodiscard]] RevocationMark mark_of_sub(std::string_view iss, std::string_view sub) noexcept;  // sha256(iss NUL sub)

class RevocationTable {
 public:
    // Takes over `bytes` of memory, aligned for any scalar, and clears it. At least one slot.
    void init(void* memory, std::size_t bytes) noexcept;

    enum class Added : std::uint8_t {
        kKnown,    // nothing that was good is now revoked
        kNew,      // something may be
        kLeftOut,  // there is no room
    };
    // `until_ms`: when it may be forgotten; the later of two counts. `round`: of the resync under way, or the last.
    Added add(const RevokedMember& member, std::int64_t until_ms, std::uint32_t round) noexcept;
    // True when it was there.
    bool remove(const RevokedMember& member) noexcept;

    // Is a credential with this mark, issued at iat_ms (0: it does not say), revoked at now_ms?
    [[nodiscard]] bool revokes(const RevocationMark& mark, std::int64_t iat_ms, std::int64_t now_ms) const noexcept;

    // Looks at up to `slots_max` slots from `from` on and drops what ended kKeptMs ago; what has not ended only if
    // `drop_older` and no round since `round` has met it. Returns where to go on, slots() at the end.
    std::size_t sweep(std::size_t from, std::size_t slots_max, std::int64_t now_ms, bool drop_older,
                      std::uint32_t round) noexcept;
    // An ended revocation is kept for the sake of locations with a leeway, which ask about a time before now: as long
    // as the longest leeway there may be.
    static constexpr std::int64_t kKeptMs = 24LL * 3600 * 1000;

    [[nodiscard]] std::size_t size() const noexcept { return used_; }
    [[nodiscard]] std::size_t slots() const noexcept { return slots_; }
    // How full it may get: of members that Redis can be asked about one by one, and of those with a time, which it
    // cannot, so that they have the last room.
    [[nodiscard]] std::size_t size_max() const noexcept { return slots_ / 4 * 3; }
    [[nodiscard]] std::size_t size_max_with_time() const noexcept { return slots_ / 8 * 7; }

 private:
    struct Slot {
        Fingerprint fingerprint;
        std::int64_t issued_before_ms;
        std::int64_t until_ms;
        std::uint32_t round;
        std::uint32_t used;
    };
    [[nodiscard]] std::size_t home_of(const Fingerprint& fingerprint) const noexcept;
    [[nodiscard]] std::size_t after(std::size_t slot) const noexcept { return slot + 1 == slots_ ? 0 : slot + 1; }
    [[nodiscard]] Slot* find(const RevokedMember& member) const noexcept;
    void remove_at(std::size_t slot) noexcept;

    Slot* table_;
    std::size_t slots_;
    std::size_t used_;
};

}  // namespace headgate::edge
