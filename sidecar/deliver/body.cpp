// The formats of body.h.
#include "sidecar/deliver/body.h"

#include "common/problem.h"
#include "common/rfc3339.h"
#include "sidecar/base/text.h"

namespace headgate {

namespace {

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kForm = "application/x-www-form-urlencoded";

std::string build_envelope(const Event& event) {
    std::string body;
    body.reserve(event.payload.size() + event.type.size() + event.source.size() + event.org.size() + 192);
    body += "{\"id\":";
    append_json_string(body, event.id);
    body += ",\"type\":";
    append_json_string(body, event.type);
    body += ",\"created\":";
    body += std::to_string(event.created_at / 1000);
    body += ",\"data\":{\"object\":";
    body += event.payload;
    body += "},\"organization_id\":";
    append_json_string(body, event.org);
    body += ",\"source\":";
    append_json_string(body, event.source);
    body += '}';
    return body;
}

std::string build_standard(const Event& event) {
    std::string body;
    body.reserve(event.payload.size() + event.type.size() + 96);
    body += "{\"type\":";
    append_json_string(body, event.type);
    body += ",\"timestamp\":\"";
    body += rfc3339_format(event.created_at);
    body += "\",\"data\":";
    body += event.payload;
    body += '}';
    return body;
}

std::string build_json(const Event& event, PayloadFormat format) {
    switch (format) {
        case PayloadFormat::kStandard:
            return build_standard(event);
        case PayloadFormat::kRaw:
            return event.payload;
        case PayloadFormat::kEnvelope:
        case PayloadFormat::kTemplate:
            break;
    }
    return build_envelope(event);
}

}  // namespace

bool content_type_is_valid(std::string_view content_type) noexcept {
    return content_type == kJson || content_type == kForm;
}

BodyForm make_body_form(const Webhook& webhook) {
    BodyForm form;
    form.format = webhook.payload_format;
    form.is_form = webhook.content_type == kForm;
    if (form.format != PayloadFormat::kTemplate) {
        return form;
    }
    auto compiled = BodyTemplate::compile(webhook.body_template, form.is_form ? BodySyntax::kForm : BodySyntax::kJson);
    if (compiled) {
        form.body_template = std::make_shared<const BodyTemplate>(std::move(*compiled));
    } else {
        form.problem = "the template cannot be used: " + compiled.error().message;
    }
    return form;
}

Result<std::string> build_body(const Event& event, const BodyForm& form) {
    if (form.format == PayloadFormat::kTemplate) {
        if (form.body_template == nullptr) {
            return fail(ErrorCode::kUnprocessable, form.problem);
        }
        return form.body_template->render(event);
    }
    if (!form.is_form) {
        return build_json(event, form.format);
    }
    std::string body = "payload=";
    append_form_encoded(body, build_json(event, form.format));
    return body;
}

Result<std::shared_ptr<const std::string>> EventBodies::get(const BodyForm& form) {
    if (form.format == PayloadFormat::kTemplate) {
        return from_template(form);
    }
    for (const Entry& entry : bodies_) {
        if (entry.format == form.format && entry.is_form == form.is_form) {
            return entry.body;
        }
    }
    auto built = build_body(*event_, form);
    if (!built) {
        return tl::unexpected(std::move(built.error()));
    }
    auto body = std::make_shared<const std::string>(std::move(*built));
    bodies_.push_back({form.format, form.is_form, body});
    return body;
}

Result<std::shared_ptr<const std::string>> EventBodies::from_template(const BodyForm& form) {
    std::erase_if(rendered_, [](const Rendered& rendered) { return rendered.body.expired(); });
    for (const Rendered& rendered : rendered_) {
        auto body = rendered.body.lock();
        if (body != nullptr && form.body_template != nullptr && rendered.is_form == form.is_form &&
            (rendered.body_template == form.body_template ||
             rendered.body_template->text() == form.body_template->text())) {
            return body;
        }
    }
    auto built = build_body(*event_, form);
    if (!built) {
        return tl::unexpected(std::move(built.error()));
    }
    auto body = std::make_shared<const std::string>(std::move(*built));
    rendered_.push_back({form.body_template, form.is_form, body});
    return body;
}

}  // namespace headgate
