// The formats of body.h.
#include "sidecar/deliver/body.h"

#include "common/problem.h"
#include "common/rfc3339.h"

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

std::string form_encode(std::string_view json) {
    static constexpr char kHex[] = "0123456789ABCDEF";
    std::string form = "payload=";
    form.reserve(form.size() + json.size() * 2);
    for (const char c : json) {
        const auto byte = static_cast<unsigned char>(c);
        const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                              c == '_' || c == '.' || c == '*';
        if (is_plain) {
            form += c;
        } else {
            form += '%';
            form += kHex[byte >> 4];
            form += kHex[byte & 15];
        }
    }
    return form;
}

}  // namespace

bool content_type_is_valid(std::string_view content_type) noexcept {
    return content_type == kJson || content_type == kForm;
}

std::string build_body(const Event& event, PayloadFormat format, std::string_view content_type) {
    std::string json = format == PayloadFormat::kStandard ? build_standard(event) : build_envelope(event);
    return content_type == kForm ? form_encode(json) : json;
}

std::shared_ptr<const std::string> EventBodies::get(PayloadFormat format, std::string_view content_type) {
    const bool is_form = content_type == kForm;
    for (const Entry& entry : bodies_) {
        if (entry.format == format && entry.is_form == is_form) {
            return entry.body;
        }
    }
    auto body = std::make_shared<const std::string>(build_body(*event_, format, content_type));
    bodies_.push_back({format, is_form, body});
    return body;
}

}  // namespace headgate
