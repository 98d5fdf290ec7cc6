// The names of JWS algorithms (RFC 7518, section 3.1; RFC 8037, section 3.1), and sets of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace headgate {

enum class JwtAlgorithm : std::uint8_t {
    kHs256,
    kHs384,
    kHs512,
    kRs256,
    kRs384,
    kRs512,
    kPs256,
    kPs384,
    kPs512,
    kEs256,
    kEs384,
    kEs512,
    kEdDsa,  // Ed25519 only
};
inline constexpr std::size_t kJwtAlgorithmCount = 13;

[[nodiscard]] std::string_view jwt_algorithm_name(JwtAlgorithm algorithm) noexcept;
// Exact, case-sensitive (RFC 7515, section 4.1.1). False when unknown or not permitted (`none`).
[[nodiscard]] bool parse_jwt_algorithm(std::string_view name, JwtAlgorithm& out) noexcept;

class AlgorithmSet {
 public:
    constexpr AlgorithmSet() noexcept = default;
    constexpr AlgorithmSet(std::initializer_list<JwtAlgorithm> algorithms) noexcept {
        for (const JwtAlgorithm algorithm : algorithms) {
            insert(algorithm);
        }
    }
    constexpr void insert(JwtAlgorithm algorithm) noexcept { bits_ |= bit(algorithm); }
    [[nodiscard]] constexpr bool contains(JwtAlgorithm algorithm) const noexcept {
        return (bits_ & bit(algorithm)) != 0;
    }
    [[nodiscard]] constexpr bool empty() const noexcept { return bits_ == 0; }
    [[nodiscard]] constexpr std::uint16_t bits() const noexcept { return bits_; }  // bit n stands for enumerator n
    [[nodiscard]] std::string names() const;                                       // "RS256 PS256"
    constexpr bool operator==(const AlgorithmSet&) const noexcept = default;

 private:
    static constexpr std::uint16_t bit(JwtAlgorithm algorithm) noexcept {
        return static_cast<std::uint16_t>(1u << static_cast<unsigned>(algorithm));
    }
    std::uint16_t bits_ = 0;
};

}  // namespace headgate
