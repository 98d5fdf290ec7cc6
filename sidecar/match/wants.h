// Does one webhook want an event? For what looks at old events for the sake of one webhook: replays.
#pragma once

#include "sidecar/store/store.h"

namespace headgate {

// By its patterns and filters as they are now, whether it is active or not. Not for two threads at a time.
[[nodiscard]] Store::Wants wants_of(const Webhook& webhook);

}  // namespace headgate
