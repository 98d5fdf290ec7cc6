// See publish_answer.h.
#include "ngx_module/publish_answer.h"

#include "common/problem.h"
#include "ngx_module/limit.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

std::string invalid_json_text(std::string_view subject, std::string_view message, std::uint64_t offset) {
    std::string text(subject);
    text.append(" is not valid JSON at byte ").append(std::to_string(offset)).append(": ").append(message);
    return text;
}

void append_shape_errors(std::string& out, std::uint32_t problems, std::string_view where) {
    out.append("\"errors\":[");
    std::size_t texts = 0;
    const ShapeProblemText* text = shape_problem_texts(texts);
    for (std::size_t i = 0; i < texts; ++i) {
        if ((problems & text[i].bit) == 0) {
            continue;
        }
        out.append(out.back() == '[' ? "" : ",").append("{\"loc\":[").append(where);
        if (!text[i].member.empty()) {
            out.append(",");
            append_json_string(out, text[i].member);
        }
        out.append("],\"msg\":");
        append_json_string(out, text[i].message);
        out.append("}");
    }
    out.append("]");
}

ngx_int_t respond_not_stored(ngx_http_request_t* r, std::string_view detail) {
    give_up_charge(find_request_ctx(r));
    count(current_worker(r).counters().events_failed);
    return respond_unavailable(r, detail);
}

void count_stored(ngx_http_request_t* r, const OutgoingEvent& event) noexcept {
    Counters& counters = current_worker(r).counters();
    count(counters.events_published);
    count(counters.payload_bytes, static_cast<ngx_atomic_int_t>(event.payload.size()));
    count(counters.payload_bytes_copied, static_cast<ngx_atomic_int_t>(event.payload_bytes_copied));
}

std::string_view publish_obstacle(ngx_http_request_t* r, std::uint64_t body_bytes) noexcept {
    Worker& worker = current_worker(r);
    worker.backlog().touch();
    if (!worker.events().meta().may_publish() && worker.events().ready()) {
        return kNotStored;  // the reason is in the error log, at emerg
    }
    return worker.inflight_bytes() + body_bytes > loc_conf(r)->publish.inflight_bytes ? kNotStored : std::string_view();
}

bool shard_is_full(ngx_http_request_t* r, const OutgoingEvent& event) noexcept {
    return current_worker(r).backlog().is_full(event.shard, loc_conf(r)->publish.backlog_max);
}

}  // namespace headgate::edge
