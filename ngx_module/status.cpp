// See status.h.
#include "ngx_module/status.h"

#include <optional>

#include "ngx_module/respond.h"
#include "ngx_module/status_snapshot.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

enum class Form : std::uint8_t { kJson, kPrometheus, kOpenMetrics };

bool contains(std::string_view text, std::string_view lowercase) noexcept {
    return ngx_strlcasestrn(bytes_of(text), bytes_of(text) + text.size(), bytes_of(lowercase), lowercase.size() - 1) !=
           nullptr;
}

// What Accept asks for. A scraper lists what it reads; any mention of OpenMetrics or of the text format's version is
// one, whatever its weight: browsers and curl mention neither.
Form accepted_form(ngx_http_request_t* r) noexcept {
    Form form = Form::kJson;
    for_each_header(r->headers_in.headers, [&form](const ngx_table_elt_t& header) {
        if (!header_is(header, "accept") || form == Form::kOpenMetrics) {
            return;
        }
        const std::string_view value = view(header.value);
        if (contains(value, "application/openmetrics-text")) {
            form = Form::kOpenMetrics;
        } else if (contains(value, "text/plain") && contains(value, "version=0.0.4")) {
            form = Form::kPrometheus;
        }
    });
    return form;
}

// nullopt: `format` names something else.
std::optional<Form> requested_form(ngx_http_request_t* r) noexcept {
    ngx_str_t format;
    if (ngx_http_arg(r, bytes_of("format"), 6, &format) != NGX_OK) {
        return accepted_form(r);
    }
    if (view(format) == "json") {
        return Form::kJson;
    }
    if (view(format) != "prometheus") {
        return std::nullopt;
    }
    return accepted_form(r) == Form::kOpenMetrics ? Form::kOpenMetrics : Form::kPrometheus;
}

ngx_int_t respond_status(ngx_http_request_t* r, Form form) {
    const StatusSnapshot snapshot = status_snapshot(current_worker(r).shared());
    add_header(r, "Cache-Control", "no-store");
    switch (form) {
        case Form::kPrometheus:
            return respond_body(r, NGX_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8",
                                status_metrics(snapshot, MetricsFormat::kPrometheus));
        case Form::kOpenMetrics:
            return respond_body(r, NGX_HTTP_OK, "application/openmetrics-text; version=1.0.0; charset=utf-8",
                                status_metrics(snapshot, MetricsFormat::kOpenMetrics));
        case Form::kJson:
            break;
    }
    return respond_body(r, NGX_HTTP_OK, "application/json", status_json(snapshot) + "\n");
}

}  // namespace

ngx_int_t status_handler(ngx_http_request_t* r) noexcept {
    return guarded(r, [r]() -> ngx_int_t {
        if (main_conf(r)->worker == nullptr) {
            return NGX_HTTP_SERVICE_UNAVAILABLE;
        }
        if ((r->method & (NGX_HTTP_GET | NGX_HTTP_HEAD)) == 0) {
            add_header(r, "Allow", "GET, HEAD");
            return respond_problem(r, {NGX_HTTP_NOT_ALLOWED, "The status is read with GET"});
        }
        if (const ngx_int_t rc = ngx_http_discard_request_body(r); rc != NGX_OK) {
            return rc;
        }
        const std::optional<Form> form = requested_form(r);
        if (!form) {
            return respond_problem(r, {NGX_HTTP_BAD_REQUEST, "format is json or prometheus"});
        }
        return respond_status(r, *form);
    });
}

}  // namespace headgate::edge
