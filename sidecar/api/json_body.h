// The JSON body of a request. Pure.
#pragma once

#include <boost/json/object.hpp>

#include "sidecar/io/http_server.h"

namespace headgate {

struct JsonBody {
    boost::json::object object;
    ServerResponse refusal;  // its body is empty when the object is good
};

// 415 for another Content-Type or any Content-Encoding, 400 for what is no JSON, 422 for JSON that is no object.
[[nodiscard]] JsonBody read_json_object(const ServerRequest& request);
// Where a body may be left out: none, only white space, or `{}` is an empty object whatever its Content-Type, as
// `curl -d '{}'` sends it as a form.
[[nodiscard]] JsonBody read_optional_json_object(const ServerRequest& request);

}  // namespace headgate
