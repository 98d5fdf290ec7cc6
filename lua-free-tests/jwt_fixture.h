// What the tests of tokens share: a key, a time, tokens of any header and payload that are validly signed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base64url.h"
#include "common/jwt.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

namespace headgate::jwt_fixture {

inline constexpr std::int64_t kNow = 1'700'000'000;
inline const std::string kSecret(64, 'a');
inline const std::string kKid = "IskLqAkE2wIbRK3t2IhhYXNNsxl8HDmdvItNHIdTEqc";
inline constexpr std::string_view kHeader = R"({"alg":"HS256"})";

inline JwtSource source_of(std::string_view secret, std::string_view issuer = "headgate") {
    JwtSource source;
    source.keys = *key_set_from_secret(secret, JwtAlgorithm::kHs256);
    source.issuer = issuer;
    return source;
}

inline std::string sign(std::string_view text, std::string_view secret = kSecret) {
    const Sha256Digest mac = HmacSha256Key(secret).sign(text);
    return base64url_encode({reinterpret_cast<const char*>(mac.data()), mac.size()});
}

// A validly signed token of any header and payload text.
inline std::string token_of(std::string_view header, std::string_view payload, std::string_view secret = kSecret) {
    const std::string text = base64url_encode(header) + "." + base64url_encode(payload);
    return text + "." + sign(text, secret);
}

// A good payload with more members.
inline std::string payload_with(std::string_view members) {
    std::string payload = R"({"iss":"headgate","sub":"api","org":"org_1","exp":1700003600)";
    if (!members.empty()) {
        payload.append(",").append(members);
    }
    return payload + "}";
}

inline JwtVerification verify(std::string_view token, const JwtPolicy& policy = {}) {
    static const JwtSource source = source_of(kSecret);
    return verify_jwt(token, {&source}, policy, kNow);
}
inline JwtStatus status_of_payload(std::string_view payload, const JwtPolicy& policy = {}) {
    return verify(token_of(kHeader, payload), policy).status;
}
inline JwtStatus status_of_header(std::string_view header) { return verify(token_of(header, payload_with(""))).status; }

inline void assert_status(JwtStatus actual, JwtStatus expected) {
    assert_string_equal(jwt_status_name(actual).data(), jwt_status_name(expected).data());
}

}  // namespace headgate::jwt_fixture
