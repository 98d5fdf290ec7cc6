// See publish_check.h.
#include "ngx_module/publish_check.h"

#include <algorithm>
#include <string>

#include "common/limits.h"
#include "ngx_module/respond.h"

namespace headgate::edge {

namespace {

enum class BodyType : std::uint8_t { kOther, kJson, kLines };

bool is_same(std::string_view text, std::string_view lowercase) noexcept {
    return std::equal(text.begin(), text.end(), lowercase.begin(), lowercase.end(),
                      [](unsigned char c, char lower) { return ngx_tolower(c) == lower; });
}

BodyType body_type(const ngx_table_elt_t* header) {
    if (header == nullptr) {
        return BodyType::kOther;
    }
    std::string_view type = view(header->value);
    type = type.substr(0, type.find(';'));
    while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) {
        type.remove_suffix(1);
    }
    if (is_same(type, "application/json")) {
        return BodyType::kJson;
    }
    if (is_same(type, "application/x-ndjson") || is_same(type, "application/jsonl")) {
        return BodyType::kLines;
    }
    constexpr std::string_view kHead = "application/", kTail = "+json";
    const bool json = type.size() >= kHead.size() + kTail.size() && is_same(type.substr(0, kHead.size()), kHead) &&
                      is_same(type.substr(type.size() - kTail.size()), kTail);
    return json ? BodyType::kJson : BodyType::kOther;
}

struct FoundHeaders {
    const ngx_table_elt_t* first = nullptr;
    std::size_t count = 0;
};

FoundHeaders find_header(ngx_http_request_t* r, std::string_view lowercase) noexcept {
    FoundHeaders found;
    for_each_header(r->headers_in.headers, [&](const ngx_table_elt_t& header) {
        if (header_is(header, lowercase) && found.count++ == 0) {
            found.first = &header;
        }
    });
    return found;
}

}  // namespace

ngx_str_t find_traceparent(ngx_http_request_t* r) noexcept {
    const ngx_table_elt_t* header = find_header(r, "traceparent").first;
    if (header == nullptr || header->value.len != 55) {
        return {};
    }
    const std::string_view text = view(header->value);
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool dash = i == 2 || i == 35 || i == 52;
        const bool hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
        if (dash ? text[i] != '-' : !hex) {
            return {};
        }
    }
    return text.starts_with("ff") ? ngx_str_t{} : header->value;
}

bool find_idempotency_key(ngx_http_request_t* r, std::string_view& key) noexcept {
    const auto [header, count] = find_header(r, "idempotency-key");
    key = count == 0 ? std::string_view() : view(header->value);
    const bool visible = std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < 0x7f; });
    return count == 0 || (count == 1 && !key.empty() && key.size() <= limits::kIdempotencyKeyBytesMax && visible);
}

BatchFormat batch_format(ngx_http_request_t* r) {
    return body_type(r->headers_in.content_type) == BodyType::kLines ? BatchFormat::kLines : BatchFormat::kArray;
}

ngx_int_t respond_too_large(ngx_http_request_t* r, const LocConf* conf) {
    return respond_problem(r,
                           {NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                            "An event may have at most " + std::to_string(conf->publish.event_max_bytes) + " bytes"});
}

bool body_has_arrived(ngx_http_request_t* r) noexcept {
#if (NGX_HTTP_V2)
    if (r->stream != nullptr) {
        return false;
    }
#endif
    const off_t expected = r->headers_in.content_length_n;
    if (r->headers_in.chunked || expected <= 0) {
        return false;
    }
    off_t arrived = r->header_in->last - r->header_in->pos;
#if (NGX_SSL)
    if (r->connection->ssl != nullptr) {
        return arrived >= expected;  // what lies in the socket is not yet decrypted
    }
#endif
#if (NGX_HAVE_FIONREAD)
    // nginx reads the headers into a small buffer first; the rest of a short request usually waits in the socket, and
    // ngx_unix_recv() has asked how much that is.
    arrived += std::max(r->connection->read->available, 0);
#endif
    return arrived >= expected;
}

ngx_int_t check_publish_request(ngx_http_request_t* r, const LocConf* conf) {
    if (r->method != NGX_HTTP_POST) {
        add_header(r, "Allow", "POST");
        return end_in_phase(r, respond_problem(r, {NGX_HTTP_NOT_ALLOWED, "Events are published with POST"}));
    }
    const bool batch = conf->publish.kind == PublishKind::kBatch;
    const ngx_table_elt_t* encoding = find_header(r, "content-encoding").first;
    const BodyType type = body_type(r->headers_in.content_type);
    const bool readable = type == BodyType::kJson || (batch && type == BodyType::kLines);
    if (!readable || (encoding != nullptr && view(encoding->value) != "identity")) {
        return end_in_phase(
            r, respond_problem(r, {NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                   batch ? "Batches are sent as application/json or application/x-ndjson without "
                                           "Content-Encoding"
                                         : "Events are sent as application/json without Content-Encoding"}));
    }
    if (!batch && r->headers_in.content_length_n > static_cast<off_t>(conf->publish.event_max_bytes)) {
        return end_in_phase(r, respond_too_large(r, conf));
    }
    return NGX_DECLINED;
}

}  // namespace headgate::edge
