// An API key as a caller describes it, checked member by member; shared by the API and the command line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/api_key.h"
#include "sidecar/api/reply.h"
#include "sidecar/store/store.h"

namespace headgate {

struct KeyDescription {
    std::string name, scopes, plan, allowed_ips, expires;  // lists separated by spaces or commas
};

struct KeyInput {
    ApiKey key;
    std::string api_key;             // the whole text; shown once
    std::vector<FieldError> errors;  // every one; the key is good only when there are none
};

// `expires`: empty, RFC 3339, or a duration from now ("90d").
[[nodiscard]] KeyInput read_key(const KeyDescription& description, std::string_view org, const HmacSha256Key& pepper,
                                TimeMs now);

}  // namespace headgate
