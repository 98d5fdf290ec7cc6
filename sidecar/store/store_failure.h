// What is thrown inside of an engine; its store turns it into a Result at its boundary (a rollback is then a
// destructor's work).
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "common/result.h"

namespace headgate {

struct StoreFailure : std::exception {
    explicit StoreFailure(Error cause) : error(std::move(cause)) {}
    const char* what() const noexcept override { return error.message.c_str(); }
    Error error;
};

[[noreturn]] inline void throw_conflict(std::string message) {
    throw StoreFailure({ErrorCode::kConflict, std::move(message)});
}
[[noreturn]] inline void throw_not_found(std::string_view what, std::string_view id) {
    throw StoreFailure({ErrorCode::kNotFound, std::string(what) + " " + std::string(id) + " does not exist"});
}

}  // namespace headgate
