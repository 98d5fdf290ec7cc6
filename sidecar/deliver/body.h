// The body of a delivery: the event's payload, byte for byte as it came, inside the webhook's
// format. Pure. Input: an Event. Next file: delivery_headers.h (signs it), http_client.h (sends it).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sidecar/store/store.h"

namespace headgate {

// `envelope`: {"id","type","created":<unix s>,"data":{"object":<payload>},"organization_id","source"}
// `standard`: {"type","timestamp":<RFC 3339>,"data":<payload>} (Standard Webhooks)
// content_type application/x-www-form-urlencoded: `payload=` and the same JSON, percent-encoded.
[[nodiscard]] std::string build_body(const Event& event, PayloadFormat format, std::string_view content_type);

// Write-time check of a webhook's content_type.
[[nodiscard]] bool content_type_is_valid(std::string_view content_type) noexcept;

// One event in memory with its bodies, each built when the first webhook needs it and shared by all. Event loop only.
class EventBodies {
 public:
    explicit EventBodies(std::shared_ptr<const Event> event) : event_(std::move(event)) {}
    [[nodiscard]] const Event& event() const noexcept { return *event_; }
    [[nodiscard]] std::shared_ptr<const std::string> get(PayloadFormat format, std::string_view content_type);

 private:
    struct Entry {
        PayloadFormat format;
        bool is_form;
        std::shared_ptr<const std::string> body;
    };
    std::shared_ptr<const Event> event_;
    std::vector<Entry> bodies_;  // one for each format in use
};

}  // namespace headgate
