// Stage 2 for a batch: its first event was charged before the body was read; once they are counted, the others are
// charged together.
#pragma once

#include <optional>

#include "ngx_module/limit.h"

namespace headgate::edge {

enum class RestOutcome : std::uint8_t {
    kGranted,
    kRefused,      // by one of the limiters; the context says what. What others had charged has been returned
    kUnavailable,  // Redis did not decide
};

// Charges each limiter of the location once more for each of `events`, in Redis, whatever the limit's mode: the charge
// of a batch is too large for what is kept at hand. The outcome, or nullopt: it is not known yet, the request is
// suspended and `after` will be called once.
[[nodiscard]] std::optional<RestOutcome> charge_rest(RequestCtx* ctx, std::int64_t events,
                                                     void (*after)(RequestCtx* ctx, void* data, RestOutcome outcome),
                                                     void* data);

}  // namespace headgate::edge
