// Input: the text of a key file or of a JWKS. Output: verification keys. Next: jwt.cpp.
#include "common/jwks.h"

#include <algorithm>
#include <utility>

#include "common/api_key.h"
#include "common/key_formats.h"
#include "common/limits.h"
#include "common/strict_json.h"

namespace headgate {

namespace {

constexpr std::size_t kReasonsShownMax = 5;
constexpr std::size_t kKidShownBytesMax = 64;

bool is_hmac(JwtAlgorithm algorithm) noexcept { return algorithm <= JwtAlgorithm::kHs512; }

// `key 2 (kid "abc")`. A kid is somebody else's text and goes to a log: only when it is plain.
std::string name_of_key(std::size_t number, const json_t* jwk) {
    std::string name = "key " + std::to_string(number);
    const std::string_view kid = json_text(json_object_get(jwk, "kid"));
    const bool is_plain = std::all_of(kid.begin(), kid.end(), [](char c) { return c > ' ' && c <= '~' && c != '"'; });
    if (!kid.empty() && kid.size() <= kKidShownBytesMax && is_plain) {
        name.append(" (kid \"").append(kid).append("\")");
    }
    return name;
}

// The set, if any key is left in it.
Result<KeySet> unless_empty(KeySet set) {
    if (!set.keys.empty()) {
        return set;
    }
    if (set.skipped.empty()) {
        return refuse("there is no key in it");
    }
    std::string message = "no key in it can be used: ";
    for (std::size_t i = 0; i < std::min(set.skipped.size(), kReasonsShownMax); ++i) {
        message.append(i == 0 ? "" : "; ").append(set.skipped[i]);
    }
    if (set.skipped.size() > kReasonsShownMax) {
        message += "; and " + std::to_string(set.skipped.size() - kReasonsShownMax) + " more";
    }
    return refuse(std::move(message));
}

Result<KeySet> restricted_to(KeySet set, JwtAlgorithm algorithm) {
    std::vector<VerificationKey> kept;
    for (VerificationKey& key : set.keys) {
        if (key.algorithms.contains(algorithm)) {
            key.algorithms = {algorithm};
            kept.push_back(std::move(key));
        } else {
            set.skipped.push_back("a key serves " + key.algorithms.names() + ", not " +
                                  std::string(jwt_algorithm_name(algorithm)));
        }
    }
    set.keys = std::move(kept);
    return unless_empty(std::move(set));
}

}  // namespace

Result<KeySet> key_set_from_secret(std::string_view file_text, JwtAlgorithm algorithm) {
    const std::string name(jwt_algorithm_name(algorithm));
    if (!is_hmac(algorithm)) {
        return refuse("algorithm " + name + " is not one for a secret: use alg=HS256, HS384 or HS512");
    }
    if (file_text.size() > limits::kSecretFileBytesMax) {
        return refuse("the secret is larger than 64 KiB");
    }
    const std::string_view secret = secret_file_value(file_text);
    if (const KeyTextKind kind = key_text_kind(file_text); kind != KeyTextKind::kOther) {
        return refuse("this looks like " + std::string(key_text_kind_name(kind)) + ": only a random secret can be an " +
                      name + " key");
    }
    const std::size_t bytes_min = hash_bytes(static_cast<Sha2>(algorithm));
    if (secret.size() < bytes_min) {
        return refuse("the secret has " + std::to_string(secret.size()) + " bytes: " + name + " needs at least " +
                      std::to_string(bytes_min));
    }
    auto material = KeyMaterial::from_secret(secret);
    if (!material) {
        return tl::unexpected(std::move(material.error()));
    }
    KeySet set;
    set.keys.push_back({(*material)->thumbprint(), {algorithm}, *material});
    return set;
}

Result<KeySet> key_set_from_jwks(std::string_view text, SymmetricKeys symmetric) {
    if (text.size() > limits::kKeySetBytesMax) {
        return refuse("the key set is larger than 64 KiB");
    }
    const Json object = parse_strict_object(text);
    if (!object) {
        return refuse("the key set is no JSON object, or one with duplicate members, invalid UTF-8 or too much depth");
    }
    const json_t* const members = json_object_get(object.get(), "keys");
    const bool is_single = members == nullptr && json_object_get(object.get(), "kty") != nullptr;
    if (!is_single && !json_is_array(members)) {
        return refuse("the key set has neither a \"keys\" array nor a \"kty\"");
    }
    const std::size_t count = is_single ? 1 : json_array_size(members);
    if (count > limits::kKeySetKeysMax) {
        return refuse("the key set has " + std::to_string(count) + " keys: at most " +
                      std::to_string(limits::kKeySetKeysMax) + " are accepted");
    }
    KeySet set;
    for (std::size_t i = 0; i < count; ++i) {
        const json_t* const jwk = is_single ? object.get() : json_array_get(members, i);
        if (auto key = key_from_jwk(jwk, symmetric); key) {
            set.keys.push_back(std::move(*key));
        } else {
            set.skipped.push_back(name_of_key(i + 1, jwk) + ": " + key.error().message);
        }
    }
    return unless_empty(std::move(set));
}

Result<KeySet> key_set_from_file(std::string_view text, std::optional<JwtAlgorithm> algorithm) {
    if (text.size() > limits::kKeySetBytesMax) {
        return refuse("the key file is larger than 64 KiB");
    }
    const KeyTextKind kind = key_text_kind(text);
    const bool wants_secret = algorithm && is_hmac(*algorithm);
    if (kind == KeyTextKind::kOther && !wants_secret) {
        return refuse("this is neither PEM nor JSON" +
                      (algorithm ? ", and no raw secret serves " + std::string(jwt_algorithm_name(*algorithm)) : "") +
                      ": for a raw secret say alg=HS256, HS384 or HS512");
    }
    if (kind == KeyTextKind::kOther || (wants_secret && kind != KeyTextKind::kJson)) {
        return key_set_from_secret(text, *algorithm);  // which says why the others are none
    }
    if (kind != KeyTextKind::kPem && kind != KeyTextKind::kJson) {
        return refuse("this looks like " + std::string(key_text_kind_name(kind)) + ": give the key as PEM or JWK");
    }
    auto set = kind == KeyTextKind::kPem ? keys_from_pem(key_text_start(text))
                                         : key_set_from_jwks(key_text_start(text), SymmetricKeys::kAccept);
    if (!set) {
        return set;
    }
    return algorithm ? restricted_to(std::move(*set), *algorithm) : unless_empty(std::move(*set));
}

Sha256Digest key_set_digest(const KeySet& set) {
    // A kid has at most 128 bytes and a thumbprint 43, so that one byte tells the length of each.
    std::vector<std::string> entries;
    entries.reserve(set.keys.size());
    for (const VerificationKey& key : set.keys) {
        std::string entry;
        for (const std::string* const text : {&key.kid, &key.material->thumbprint()}) {
            entry += static_cast<char>(text->size());
            entry += *text;
        }
        entry += static_cast<char>(key.algorithms.bits() >> 8);
        entry += static_cast<char>(key.algorithms.bits() & 0xffu);
        entries.push_back(std::move(entry));
    }
    std::sort(entries.begin(), entries.end());
    std::string text;
    for (const std::string& entry : entries) {
        text += entry;
    }
    return sha256(text);
}

}  // namespace headgate
