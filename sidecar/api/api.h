// The management API as one ServerHandler: route, authenticate, check the scope, call the handler,
// log one line. Start with router.cpp for the table of routes.
#pragma once

#include "sidecar/api/authenticate.h"
#include "sidecar/api/call.h"

namespace headgate {

class Api {
 public:
    explicit Api(ApiServices services);
    boost::asio::awaitable<ServerResponse> handle(ServerRequest request);

 private:
    boost::asio::awaitable<ServerResponse> answer(ServerRequest request, Principal& principal);

    ApiServices services_;
    Authenticator authenticator_;
};

}  // namespace headgate
