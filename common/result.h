// Errors as values, shared by both programs.
//
// What is normal (limited, duplicate, no match) is a value of its own type, never an Error.
// Each code carries its HTTP status and its retry decision in one table (error_traits).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace headgate {

enum class ErrorCode : std::uint8_t {
    kInvalidArgument,  // the caller sent something malformed
    kUnauthenticated,  // no credential, or one that does not verify
    kForbidden,        // known, but not allowed
    kNotFound,
    kConflict,       // a version or uniqueness clash
    kUnprocessable,  // well-formed, but of the wrong shape
    kTooLarge,
    kUnavailable,  // Redis, the store or a peer does not answer; try again
    kLeaseLost,    // another owner holds the epoch: write nothing
    kCorrupt,      // stored or received bytes that cannot be decoded
    kInternal,     // a defect or an exhausted resource
};

struct ErrorTraits {
    std::string_view name;
    int http_status;
    bool retryable;
};

struct Error {
    ErrorCode code = ErrorCode::kInternal;
    std::string message;  // what happened, where, what to do; never a secret
};

template <typename T>
using Result = tl::expected<T, Error>;

[[nodiscard]] constexpr ErrorTraits error_traits(ErrorCode code) noexcept {
    switch (code) {
        case ErrorCode::kInvalidArgument:
            return {"invalid_argument", 400, false};
        case ErrorCode::kUnauthenticated:
            return {"unauthenticated", 401, false};
        case ErrorCode::kForbidden:
            return {"forbidden", 403, false};
        case ErrorCode::kNotFound:
            return {"not_found", 404, false};
        case ErrorCode::kConflict:
            return {"conflict", 409, false};
        case ErrorCode::kUnprocessable:
            return {"unprocessable", 422, false};
        case ErrorCode::kTooLarge:
            return {"too_large", 413, false};
        case ErrorCode::kUnavailable:
            return {"unavailable", 503, true};
        case ErrorCode::kLeaseLost:
            return {"lease_lost", 503, true};
        case ErrorCode::kCorrupt:
            return {"corrupt", 500, false};
        case ErrorCode::kInternal:
            break;
    }
    return {"internal", 500, false};
}

[[nodiscard]] inline tl::unexpected<Error> fail(ErrorCode code, std::string message) {
    return tl::unexpected<Error>(Error{code, std::move(message)});
}

}  // namespace headgate
