// See ed25519_point.h.
#include "common/ed25519_point.h"

#include <algorithm>
#include <array>

#include "common/openssl_handles.h"

namespace headgate {

namespace {

// p = 2^255 - 19 and d = -121665/121666 mod p (RFC 8032, section 5.1), big-endian.
constexpr char kPrimeHex[] = "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed";
constexpr char kCurveDHex[] = "52036cee2b6ffe738cc740797779e89800700a4d4141d8ab75eb4dca135978a3";

BigNumber from_hex(const char* hex) noexcept {
    BIGNUM* number = nullptr;
    return BN_hex2bn(&number, hex) > 0 ? BigNumber(number) : nullptr;
}

}  // namespace

bool ed25519_point_is_proper(std::string_view encoded) noexcept {
    if (encoded.size() != 32) {
        return false;
    }
    std::array<unsigned char, 32> bytes;  // y, little-endian; the top bit is the sign of x
    std::copy(encoded.begin(), encoded.end(), bytes.begin());
    bytes[31] &= 0x7fu;

    const OpensslErrorMark mark;
    const BigNumberContext context(BN_CTX_new());
    const BigNumber p = from_hex(kPrimeHex), d = from_hex(kCurveDHex);
    const BigNumber y(BN_lebin2bn(bytes.data(), bytes.size(), nullptr));
    const BigNumber y2(BN_new()), numerator(BN_new()), denominator(BN_new()), x2(BN_new()), sum(BN_new());
    if (!context || !p || !d || !y || !y2 || !numerator || !denominator || !x2 || !sum ||
        BN_cmp(y.get(), p.get()) >= 0) {
        return false;
    }
    BN_CTX* const c = context.get();
    // -x² + y² = 1 + d·x²·y², so x² = (y² - 1) / (d·y² + 1); the denominator is never 0, as -1/d is no square.
    if (BN_mod_sqr(y2.get(), y.get(), p.get(), c) != 1 ||
        BN_mod_sub(numerator.get(), y2.get(), BN_value_one(), p.get(), c) != 1 ||
        BN_mod_mul(denominator.get(), d.get(), y2.get(), p.get(), c) != 1 ||
        BN_mod_add(denominator.get(), denominator.get(), BN_value_one(), p.get(), c) != 1 ||
        BN_mod_inverse(denominator.get(), denominator.get(), p.get(), c) == nullptr ||
        BN_mod_mul(x2.get(), numerator.get(), denominator.get(), p.get(), c) != 1 ||
        BN_mod_add(sum.get(), x2.get(), y2.get(), p.get(), c) != 1) {
        return false;
    }
    // Order 1 and 2: x = 0. Order 4: y = 0. Order 8: doubling leads to y = 0, which is where x² + y² = 0.
    if (BN_is_zero(x2.get()) || BN_is_zero(y.get()) || BN_is_zero(sum.get())) {
        return false;
    }
    return BN_kronecker(x2.get(), p.get(), c) == 1;
}

}  // namespace headgate
