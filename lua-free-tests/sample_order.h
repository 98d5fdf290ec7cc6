// The event that bodies and headers of deliveries are tested with.
#pragma once

#include "sidecar/store/rows.h"

inline constexpr headgate::TimeMs kOrderTime = 1'700'000'000'123;

inline headgate::Event order() {
    headgate::Event event;
    event.id = "018f0000-0000-7000-8000-000000000001";
    event.org = "org_1";
    event.type = "order.created";
    event.source = "shop \"A\"";
    event.payload = "{ \"b\" : 1.50,\n \"a\":12345678901234567890 }";  // not as a serializer would write it
    event.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    event.created_at = kOrderTime;
    return event;
}
