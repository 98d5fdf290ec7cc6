// The body of a delivery: the event's payload, byte for byte as it came, inside the webhook's
// format. Pure. Input: an Event. Next file: delivery_headers.h (signs it), http_client.h (sends it).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "sidecar/deliver/body_template.h"
#include "sidecar/store/store.h"

namespace headgate {

// `envelope`: {"id","type","created":<unix s>,"data":{"object":<payload>},"organization_id","source"}
// `standard`: {"type","timestamp":<RFC 3339>,"data":<payload>} (Standard Webhooks)
// `raw`:      the payload
// content_type application/x-www-form-urlencoded: `payload=` and the same JSON, percent-encoded.
// `template`: as body_template.h says, for either content type.
struct BodyForm {
    PayloadFormat format = PayloadFormat::kEnvelope;
    bool is_form = false;
    std::shared_ptr<const BodyTemplate> body_template;  // of kTemplate, unless it cannot be compiled
    std::string problem;                                // then: why
};
// Once for each webhook that is read.
[[nodiscard]] BodyForm make_body_form(const Webhook& webhook);

// Only a template can fail: it cannot be compiled, or BodyTemplate::render() says why.
[[nodiscard]] Result<std::string> build_body(const Event& event, const BodyForm& form);

// Write-time check of a webhook's content_type.
[[nodiscard]] bool content_type_is_valid(std::string_view content_type) noexcept;

// One event in memory with its bodies, each built when the first webhook needs it and shared by all. What a template
// made lives no longer than the requests that send it: it can be far larger than the event. Event loop only.
class EventBodies {
 public:
    explicit EventBodies(std::shared_ptr<const Event> event) : event_(std::move(event)) {}
    [[nodiscard]] const Event& event() const noexcept { return *event_; }
    [[nodiscard]] Result<std::shared_ptr<const std::string>> get(const BodyForm& form);

 private:
    struct Entry {
        PayloadFormat format;
        bool is_form;
        std::shared_ptr<const std::string> body;
    };
    struct Rendered {
        std::shared_ptr<const BodyTemplate> body_template;
        bool is_form;
        std::weak_ptr<const std::string> body;
    };
    Result<std::shared_ptr<const std::string>> from_template(const BodyForm& form);

    std::shared_ptr<const Event> event_;
    std::vector<Entry> bodies_;  // one for each format in use
    std::vector<Rendered> rendered_;
};

}  // namespace headgate
