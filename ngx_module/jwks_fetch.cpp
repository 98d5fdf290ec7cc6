// See jwks_fetch.h.
#include "ngx_module/jwks_fetch.h"

#include <algorithm>

#include "ngx_module/token_keys.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

// One subrequest under way. In the main request's pool.
struct JwksFetch {
    JwksFetch* next;
    RequestCtx* ctx;
    const RemoteKeys* remote;
    ngx_http_request_t* subrequest;
    std::uint64_t claim;
    std::int64_t deadline_ms;
    u_char* text;  // limits::kKeySetBytesMax
    std::size_t text_bytes;
    const char* problem;  // why it is refused already; static text
    bool ended;           // its last byte is here
    bool done;
};

namespace {

std::int64_t clock_ms() noexcept { return static_cast<std::int64_t>(ngx_current_msec); }

JwksFetch* find_fetch(ngx_http_request_t* r) noexcept {
    if (r == r->main) {
        return nullptr;
    }
    const RequestCtx* ctx = find_request_ctx(r);
    JwksFetch* fetch = ctx == nullptr ? nullptr : ctx->fetches;
    while (fetch != nullptr && fetch->subrequest != r) {
        fetch = fetch->next;
    }
    return fetch;
}

// ---- the subrequest ---------------------------------------------------------------------------

// What a subrequest has in place of its client's: made before it, so that it never runs with the client's.
struct FreshRequest {
    ngx_str_t uri, args, line, unparsed_uri;
    ngx_list_t headers;
    ngx_http_request_body_t* body;
    ngx_http_variable_value_t* variables;
};

bool make_fresh(ngx_http_request_t* r, const RemoteKeys& remote, FreshRequest& fresh) noexcept {
    const auto* core = static_cast<ngx_http_core_main_conf_t*>(ngx_http_get_module_main_conf(r, ngx_http_core_module));
    constexpr std::size_t kMethodBytes = sizeof("GET ") - 1;
    const std::size_t uri_bytes = remote.uri.size() + (remote.args.empty() ? 0 : 1 + remote.args.size());
    const std::size_t line_bytes = kMethodBytes + uri_bytes + sizeof(" HTTP/1.1") - 1;
    fresh.uri = copy_to_pool(r->pool, remote.uri);  // copies: a location may rewrite them
    fresh.args = copy_to_pool(r->pool, remote.args);
    fresh.line = {line_bytes, static_cast<u_char*>(ngx_pnalloc(r->pool, line_bytes))};
    fresh.body = static_cast<ngx_http_request_body_t*>(ngx_pcalloc(r->pool, sizeof(ngx_http_request_body_t)));
    fresh.variables = static_cast<ngx_http_variable_value_t*>(
        ngx_pcalloc(r->pool, core->variables.nelts * sizeof(ngx_http_variable_value_t)));
    if (fresh.uri.data == nullptr || fresh.args.data == nullptr || fresh.line.data == nullptr ||
        fresh.body == nullptr || fresh.variables == nullptr ||
        ngx_list_init(&fresh.headers, r->pool, 1, sizeof(ngx_table_elt_t)) != NGX_OK) {
        return false;
    }
    (void)ngx_snprintf(fresh.line.data, line_bytes, "GET %s%s%s HTTP/1.1", remote.uri.c_str(),
                       remote.args.empty() ? "" : "?", remote.args.c_str());
    fresh.unparsed_uri = {uri_bytes, fresh.line.data + kMethodBytes};
    return true;
}

// Headers, body, and variables made of them.
void begin_anew(ngx_http_request_t* sr, const FreshRequest& fresh) noexcept {
    const auto* server = static_cast<ngx_http_core_srv_conf_t*>(ngx_http_get_module_srv_conf(sr, ngx_http_core_module));
    sr->headers_in = {};
    sr->headers_in.headers = fresh.headers;
    sr->headers_in.headers.last = &sr->headers_in.headers.part;
    sr->headers_in.content_length_n = -1;
    sr->headers_in.keep_alive_n = -1;
    sr->headers_in.server = server->server_name;  // not the client's Host
    sr->request_body = fresh.body;
    sr->variables = fresh.variables;
    sr->request_line = fresh.line;
    sr->unparsed_uri = fresh.unparsed_uri;
    sr->valid_unparsed_uri = 0;
}

// The body was complete and says what keys there are.
void store_keys(ZoneShared& shared, const JwksFetch& fetch) noexcept {
    ZoneLock lock(shared.pool);
    JwksSlot* slot = shared.jwks.find(fetch.remote->identity);
    if (slot == nullptr || slot->claim != fetch.claim) {
        return;  // a later fetch is under way, or it has no slot any more
    }
    if (slot->generation == 0 || slot->text_bytes != fetch.text_bytes ||
        ngx_memcmp(slot->text, fetch.text, fetch.text_bytes) != 0) {
        ngx_memcpy(slot->text, fetch.text, fetch.text_bytes);
        slot->text_bytes = fetch.text_bytes;
        ++slot->generation;
    }
    slot->schedule.succeed(clock_ms());
    ++slot->settled;
    shared.jwks.changed();
}

void give_back_claim(ZoneShared& shared, const RemoteKeys& remote, std::uint64_t claim, bool abandoned) noexcept {
    ZoneLock lock(shared.pool);
    JwksSlot* slot = shared.jwks.find(remote.identity);
    if (slot == nullptr || slot->claim != claim) {
        return;
    }
    if (abandoned) {
        slot->schedule.abandon(clock_ms());
    } else {
        slot->schedule.fail();
    }
    ++slot->settled;
    shared.jwks.changed();
}

// nullptr: these are keys. Else why not.
const char* problem_of(ngx_http_request_t* sr, const JwksFetch& fetch, ngx_int_t rc, std::string& detail) {
    const ngx_int_t status = rc >= NGX_HTTP_OK ? rc : static_cast<ngx_int_t>(sr->headers_out.status);
    if (fetch.problem != nullptr) {
        return fetch.problem;
    }
    if (status != NGX_HTTP_OK) {
        detail = std::to_string(status);
        return "its status is not 200: ";
    }
    if (rc != NGX_OK || !fetch.ended || fetch.text_bytes == 0 ||
        (sr->headers_out.content_length_n >= 0 &&
         static_cast<std::size_t>(sr->headers_out.content_length_n) != fetch.text_bytes)) {
        return "it is cut short";
    }
    const auto keys =
        key_set_from_jwks({reinterpret_cast<const char*>(fetch.text), fetch.text_bytes}, SymmetricKeys::kRefuse);
    if (!keys) {
        detail = keys.error().message;
        return "it holds no usable key: ";
    }
    return nullptr;
}

// ngx_http_post_subrequest_pt. Always NGX_OK: whatever became of the fetch, the client's request is not ended by it.
ngx_int_t on_fetched(ngx_http_request_t* sr, void* data, ngx_int_t rc) noexcept {
    auto* fetch = static_cast<JwksFetch*>(data);
    if (std::exchange(fetch->done, true)) {
        return NGX_OK;
    }
    Worker& worker = current_worker(sr);
    std::string detail;
    const char* problem = "there is no memory for it";
    try {
        problem = problem_of(sr, *fetch, rc, detail);
    } catch (const std::exception&) {
        detail.clear();
    }
    if (problem == nullptr) {
        store_keys(worker.shared(), *fetch);
    } else {
        ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0, "headgate: the keys of %s are not renewed: %s%s",
                      fetch->remote->shown.c_str(), problem, detail.c_str());
        give_back_claim(worker.shared(), *fetch->remote, fetch->claim, false);
    }
    ngx_pfree(sr->pool, fetch->text);
    fetch->text = nullptr;
    worker.key_waiters().wake();
    return NGX_OK;
}

// The claim's number; 0 when another request was faster.
std::uint64_t claim_fetch(ZoneShared& shared, const RemoteKeys& remote, std::int64_t cache_ms, bool for_kid) noexcept {
    const std::int64_t now = clock_ms();
    ZoneLock lock(shared.pool);
    JwksSlot* slot = shared.jwks.find(remote.identity);
    if (slot == nullptr ||
        !(for_kid ? slot->schedule.wants_fetch_for_kid(now) : slot->schedule.wants_fetch(now, cache_ms))) {
        return 0;
    }
    slot->schedule.begin(now, for_kid);
    shared.jwks.changed();
    return ++slot->claim;
}

bool start_subrequest(ngx_http_request_t* r, RequestCtx* ctx, const RemoteKeys& remote, std::uint64_t claim) noexcept {
    auto* fetch = static_cast<JwksFetch*>(ngx_pcalloc(r->pool, sizeof(JwksFetch)));
    auto* after = static_cast<ngx_http_post_subrequest_t*>(ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t)));
    auto* text = static_cast<u_char*>(ngx_palloc(r->pool, limits::kKeySetBytesMax));
    FreshRequest fresh{};
    if (fetch == nullptr || after == nullptr || text == nullptr || !make_fresh(r, remote, fresh)) {
        return false;
    }
    *fetch = {ctx->fetches, ctx, &remote, nullptr, claim, clock_ms() + kFetchDeadlineMs,
              text,         0,   nullptr, false,   false};
    *after = {on_fetched, fetch};
    // In the background: the request itself waits only if it must, and a fetch that outlives its wait goes on.
    if (ngx_http_subrequest(r, &fresh.uri, &fresh.args, &fetch->subrequest, after, NGX_HTTP_SUBREQUEST_BACKGROUND) !=
        NGX_OK) {
        return false;
    }
    begin_anew(fetch->subrequest, fresh);
    ctx->fetches = fetch;
    return true;
}

}  // namespace

void start_jwks_fetch(ngx_http_request_t* r, RequestCtx* ctx, const RemoteKeys& remote, const JwtConf& conf,
                      bool for_kid) {
    ZoneShared& shared = current_worker(r).shared();
    const std::uint64_t claim = claim_fetch(shared, remote, conf.key_cache_seconds * 1000, for_kid);
    if (claim != 0 && !start_subrequest(r, ctx, remote, claim)) {
        give_back_claim(shared, remote, claim, false);
        throw std::bad_alloc();
    }
}

bool carries_jwks_fetch(const RequestCtx* ctx) noexcept {
    for (const JwksFetch* fetch = ctx->fetches; fetch != nullptr; fetch = fetch->next) {
        if (!fetch->done) {
            return true;
        }
    }
    return false;
}

void jwks_refetch(ZoneShared& shared) noexcept {
    ZoneLock lock(shared.pool);
    for (JwksSlot& slot : shared.jwks.slots) {
        slot.schedule.forced = true;
    }
    shared.jwks.changed();
}

// ---- what the subrequest answers ----------------------------------------------------------------

bool is_jwks_fetch(ngx_http_request_t* r) noexcept { return find_fetch(r) != nullptr; }

ngx_int_t capture_jwks_header(ngx_http_request_t* r) noexcept {
    JwksFetch* fetch = find_fetch(r);
    const ngx_table_elt_t* encoding = r->headers_out.content_encoding;
    if (encoding != nullptr && encoding->hash != 0 && encoding->value.len != 0 && view(encoding->value) != "identity") {
        fetch->problem = "it is compressed";
    }
    if (r->headers_out.content_length_n > static_cast<off_t>(limits::kKeySetBytesMax)) {
        fetch->problem = "it is larger than 64 KiB";
    }
    // As X-Accel-Buffering: no has it. A buffered answer to a background request would be collected to its end, into
    // a file, before the body filter saw any of it.
    if (r->upstream != nullptr) {
        r->upstream->buffering = 0;
    }
    return NGX_OK;
}

namespace {

// Takes a buffer's bytes; sets `problem` when that cannot be.
void take_bytes(JwksFetch& fetch, const ngx_buf_t& buf) noexcept {
    const auto bytes = static_cast<std::size_t>(ngx_buf_size(&buf));
    if (fetch.text_bytes + bytes > limits::kKeySetBytesMax) {
        fetch.problem = "it is larger than 64 KiB";
        return;
    }
    u_char* to = fetch.text + fetch.text_bytes;
    fetch.text_bytes += bytes;
    if (ngx_buf_in_memory(&buf)) {
        ngx_memcpy(to, buf.pos, bytes);
    } else if (ngx_read_file(buf.file, to, bytes, buf.file_pos) != static_cast<ssize_t>(bytes)) {
        fetch.problem = "its file cannot be read";
    }
}

}  // namespace

ngx_int_t capture_jwks_body(ngx_http_request_t* r, ngx_chain_t* in) noexcept {
    JwksFetch* fetch = find_fetch(r);
    for (; in != nullptr; in = in->next) {
        ngx_buf_t* buf = in->buf;
        fetch->ended = fetch->ended || buf->last_in_chain || buf->last_buf;
        if (fetch->problem == nullptr && clock_ms() > fetch->deadline_ms) {
            fetch->problem = "it takes too long";
        }
        if (fetch->problem == nullptr && !fetch->done && !ngx_buf_special(buf)) {
            take_bytes(*fetch, *buf);
        }
        buf->pos = buf->last;
        buf->file_pos = buf->file_last;
    }
    // An error here would end the client's request (ngx_http_output_filter() sets c->error). An upstream of which
    // nothing is left to read is finished (ngx_http_upstream_process_non_buffered_request()).
    if (fetch->problem != nullptr && r->upstream != nullptr) {
        r->upstream->length = 0;
    }
    return NGX_OK;
}

void abandon_jwks_fetches(RequestCtx* ctx) noexcept {
    for (JwksFetch* fetch = ctx->fetches; fetch != nullptr; fetch = fetch->next) {
        if (!std::exchange(fetch->done, true)) {
            Worker& worker = current_worker(ctx->r);
            give_back_claim(worker.shared(), *fetch->remote, fetch->claim, true);
            worker.key_waiters().wake();
        }
    }
}

}  // namespace headgate::edge
