// What must hold for any token text and any key text; the fuzzers and the test that replays their corpora share it.
#pragma once

#include <openssl/err.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "common/claim_text.h"
#include "common/jwt.h"
#include "common/limits.h"
#include "lua-free-tests/jwt_fuzz_keys.h"

namespace headgate::test {

inline constexpr std::int64_t kFuzzNow = 1'700'000'000;

inline const JwtSource& fuzz_source() {
    static const JwtSource source = [] {
        JwtSource made;
        made.keys = *key_set_from_jwks(kFuzzJwks, SymmetricKeys::kAccept);
        return made;
    }();
    return source;
}

// The keys of the fuzzer have signed nothing but the tokens of the corpus, all with this claim.
inline bool is_a_signed_payload(std::string_view token) {
    static constexpr std::array<std::string_view, 1> kSub = {"sub"};
    const auto payload = jwt_payload(token);
    return payload && claim_text(*payload, kSub) == "fuzz";
}

inline bool token_is_handled_rightly(std::string_view token) {
    const auto result = verify_jwt(token, {&fuzz_source()}, {}, kFuzzNow);
    const bool accepted = result.status == JwtStatus::kOk;
    if (accepted != (result.source != nullptr) || (accepted && !is_a_signed_payload(token)) || ERR_peek_error() != 0) {
        return false;
    }
    if (const auto payload = jwt_payload(token)) {
        for (const std::string_view name : {"sub", "org", "exp", "x", ""}) {
            const std::array<std::string_view, 2> path = {"a", name};
            (void)claim_text(*payload, std::array{name});
            (void)claim_text(*payload, path);
        }
    }
    return true;
}

inline bool set_is_right(const Result<KeySet>& set) {
    if (!set) {
        return !set.error().message.empty();
    }
    if (set->keys.empty() || set->keys.size() > limits::kKeySetKeysMax ||
        set->skipped.size() > limits::kKeySetKeysMax || !(key_set_digest(*set) == key_set_digest(KeySet(*set)))) {
        return false;
    }
    for (const VerificationKey& key : set->keys) {
        if (key.kid.empty() || key.kid.size() > limits::kKeyIdBytesMax || key.algorithms.empty() ||
            key.material == nullptr || key.material->thumbprint().size() != 43) {
            return false;
        }
        for (std::size_t i = 0; i < kJwtAlgorithmCount; ++i) {
            const auto algorithm = static_cast<JwtAlgorithm>(i);
            if ((key.algorithms.contains(algorithm) && !key.material->algorithms().contains(algorithm)) ||
                key.material->verify(algorithm, "text", std::string(64, '\1'))) {
                return false;
            }
        }
    }
    return true;
}

inline bool key_text_is_handled_rightly(std::string_view text) {
    bool right = set_is_right(key_set_from_jwks(text)) && set_is_right(key_set_from_file(text));
    for (const JwtAlgorithm algorithm : {JwtAlgorithm::kHs256, JwtAlgorithm::kHs512, JwtAlgorithm::kRs256,
                                         JwtAlgorithm::kEs256, JwtAlgorithm::kEdDsa}) {
        right = right && set_is_right(key_set_from_file(text, algorithm));
    }
    return right && ERR_peek_error() == 0;
}

}  // namespace headgate::test
