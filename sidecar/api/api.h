// The management API as one ServerHandler: route, authenticate, check the scope, call the handler,
// log one line. Start with router.cpp for the table of routes.
#pragma once

#include <chrono>

#include "sidecar/api/authenticate.h"
#include "sidecar/api/call.h"
#include "sidecar/api/router.h"

namespace headgate {

class Api {
 public:
    explicit Api(ApiServices services);
    boost::asio::awaitable<ServerResponse> handle(ServerRequest request);

 private:
    boost::asio::awaitable<ServerResponse> answer(ServerRequest request, Principal& principal, const Route*& route);

    ApiServices services_;
    Authenticator authenticator_;
};

// In the API's place while the store has not been reached since the start: /live says yes, /health says why not, and
// everything else is 503.
[[nodiscard]] boost::asio::awaitable<ServerResponse> answer_without_store(ServerRequest request,
                                                                          std::chrono::steady_clock::time_point since);

}  // namespace headgate
