// An event as quarantine keeps it: the fields of its stream entry in RESP, so that it can be published again.
#pragma once

#include <string>

#include "common/event_record.h"
#include "common/limits.h"
#include "common/resp.h"

namespace headgate {

[[nodiscard]] inline std::string event_bytes(const EventRecord& event) {
    std::string out;
    RespWriter(out).command("v", static_cast<long long>(limits::kContractVersion), "id", event.id, "org", event.org,
                            "key", event.key_id, "type", event.type, "source", event.source, "payload", event.payload,
                            "ord", event.ordering_key, "tp", event.traceparent, "via", event.via, "at",
                            static_cast<long long>(event.at_ms));
    return out;
}

}  // namespace headgate
