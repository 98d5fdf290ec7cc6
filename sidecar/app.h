// The sidecar as a whole: the only place where all parts meet. They are started in order and
// stopped in reverse: store, Redis contract, leases, projection, ingest, dispatcher, chores, HTTP. Redis and a store
// that is a server may come later than we do.
#pragma once

#include <memory>

#include "common/result.h"
#include "sidecar/config.h"
#include "sidecar/settings.h"

namespace headgate {

class App {
 public:
    App(Config config, Secrets secrets);
    ~App();
    // Serves until SIGTERM or SIGINT, then stops within 10 s. An error: it could not start, or had to stop by itself.
    Result<void> run();

 private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace headgate
