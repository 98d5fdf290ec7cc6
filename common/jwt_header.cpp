// Input: the first segment of a token. Output: its algorithm and kid. Next: jwt.cpp.
#include "common/jwt_header.h"

#include <cstring>

#include "common/strict_json.h"

namespace headgate {

namespace {

// Tokens that one key signed share their header to the byte, so the last one that was read is kept for each thread:
// parsing it is a tenth of what verifying an HMAC token costs.
struct LastHeader {
    std::array<char, 256> segment;
    std::size_t size = 0;
    JwtHeader header;
};

JwtStatus parse_header(std::string_view segment, JwtHeader& header) noexcept {
    JwtSegment text;
    const Json object = text.decode(segment) ? parse_strict_object(text.view()) : nullptr;
    if (!object) {
        return JwtStatus::kMalformed;
    }
    // Extensions that would change what is verified or how: none is supported, so none may be there (RFC 7515,
    // section 4.1.11; RFC 7797; RFC 7516).
    for (const char* const name : {"crit", "b64", "enc", "zip"}) {
        if (json_object_get(object.get(), name) != nullptr) {
            return JwtStatus::kMalformed;
        }
    }
    const json_t* const typ = json_object_get(object.get(), "typ");
    if (typ != nullptr && !json_is_string(typ)) {
        return JwtStatus::kMalformed;
    }
    if (const json_t* const kid = json_object_get(object.get(), "kid"); kid != nullptr) {
        const std::string_view name = json_text(kid);  // empty for what is no string
        if (name.empty() || name.size() > header.kid_bytes.size()) {
            return JwtStatus::kMalformed;
        }
        std::memcpy(header.kid_bytes.data(), name.data(), name.size());
        header.kid_size = static_cast<std::uint8_t>(name.size());
        header.has_kid = true;
    }
    const std::string_view alg = json_text(json_object_get(object.get(), "alg"));
    return parse_jwt_algorithm(alg, header.algorithm) ? JwtStatus::kOk : JwtStatus::kAlgorithm;
}

}  // namespace

JwtStatus read_jwt_header(std::string_view segment, JwtHeader& header) noexcept {
    thread_local LastHeader last;
    if (segment.empty()) {
        return JwtStatus::kMalformed;
    }
    if (segment == std::string_view(last.segment.data(), last.size)) {
        header = last.header;
        return JwtStatus::kOk;
    }
    JwtHeader read;
    if (const JwtStatus status = parse_header(segment, read); status != JwtStatus::kOk) {
        return status;
    }
    if (segment.size() <= last.segment.size()) {
        std::memcpy(last.segment.data(), segment.data(), segment.size());
        last.size = segment.size();
        last.header = read;
    }
    header = read;
    return JwtStatus::kOk;
}

}  // namespace headgate
