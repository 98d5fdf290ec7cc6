// See limit_charge.h. Nothing here allocates but from the request's pool: it runs for every limited request.
#include "ngx_module/limit_charge.h"

#include <algorithm>
#include <charconv>
#include <new>

#include "common/event_record.h"
#include "common/hmac.h"
#include "common/percent_encode.h"
#include "common/redis_scripts.h"
#include "ngx_module/limit_lease.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

// No value is encoded to anything that begins like this: a colon is escaped.
constexpr std::string_view kHashedMark = "sha256:";

char* append(char* out, std::string_view text) noexcept { return std::copy(text.begin(), text.end(), out); }

// The windows that a plan limiter applies: the key's own limits, else its plan, else the default. nullptr: none.
const LimitWindows* plan_windows(ngx_http_request_t* r, const RequestCtx* ctx, const LimitConf& conf, bool& passing) {
    const Principal& principal = ctx->principal;
    if (principal.limits.len != 0) {
        std::unique_ptr<LimitWindows> spare;
        const LimitWindows* found = current_worker(r).limit_texts().find(view(principal.limits), spare);
        if (found == nullptr) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "headgate: key %V has limits that do not parse",
                          &principal.key_id);
            return nullptr;
        }
        passing = spare != nullptr;
        if (passing && (found = make_in_pool<LimitWindows>(r->pool, std::move(*spare))) == nullptr) {
            throw std::bad_alloc();
        }
        return found;
    }
    const RatePlan* plan = main_conf(r)->find_plan(view(principal.plan));
    plan = plan == nullptr ? conf.default_plan : plan;
    return plan == nullptr ? nullptr : plan->windows.get();
}

// cost=$var: 1 to burst. What is no number counts as 1 and is logged.
std::int64_t request_cost(ngx_http_request_t* r, const LimitConf& conf) {
    ngx_str_t text;
    if (conf.cost == nullptr || ngx_http_complex_value(r, conf.cost, &text) != NGX_OK) {
        return 1;
    }
    std::int64_t cost = 0;
    const std::string_view digits = view(text);
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), cost);
    if (parsed.ec == std::errc() && parsed.ptr == digits.data() + digits.size() && cost >= 1) {
        return cost;
    }
    if (parsed.ec == std::errc::result_out_of_range && !digits.starts_with('-') &&
        parsed.ptr == digits.data() + digits.size()) {
        return INT64_MAX;  // a number, and more than any burst
    }
    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                  "headgate: limit cost \"%V\" is no positive number: 1 is charged", &text);
    return 1;
}

struct KeyText {
    char* begin;
    char* end;
};

KeyText key_text(ngx_pool_t* pool, std::size_t bytes_max) {
    auto* begin = static_cast<char*>(ngx_pnalloc(pool, kLimitKeyHead.size() + bytes_max + 1));
    if (begin == nullptr) {
        throw std::bad_alloc();
    }
    return {begin, append(begin, kLimitKeyHead)};
}

std::string_view finish(KeyText& text) noexcept {
    *text.end++ = '}';
    return {text.begin, static_cast<std::size_t>(text.end - text.begin)};
}

// p:<key id>, or for tokens without one s:<sha256(iss NUL sub)>
std::string_view principal_key(ngx_pool_t* pool, const Principal& principal) {
    const std::string_view id = view(principal.key_id);
    if (!id.empty()) {
        KeyText text = key_text(pool, 2 + encoded_bytes_max(id));
        text.end = encode_key_value(append(text.end, "p:"), id);
        return finish(text);
    }
    std::string issuer(view(principal.iss));
    issuer.push_back('\0');
    KeyText text = key_text(pool, 2 + 64);
    text.end = hex_encode_into(sha256(issuer, view(principal.sub)), append(text.end, "s:"));
    return finish(text);
}

// v:<limit name>:<value>
std::string_view value_key(ngx_pool_t* pool, const LimitConf& conf, std::string_view value) {
    KeyText text = key_text(pool, 3 + encoded_bytes_max(conf.name) + encoded_bytes_max(value));
    text.end = encode_key_value(append(text.end, "v:"), conf.name);
    *text.end++ = ':';
    text.end = encode_key_value(text.end, value);
    return finish(text);
}

}  // namespace

std::size_t encoded_bytes_max(std::string_view value) noexcept {
    return std::max(percent_encoded_bytes_max(std::min(value.size(), limits::kLimitKeyBytesMax)),
                    kHashedMark.size() + 64);
}

char* encode_key_value(char* out, std::string_view value) {
    if (value.size() > limits::kLimitKeyBytesMax) {
        return hex_encode_into(sha256(value), append(out, kHashedMark));
    }
    return percent_encode(out, value);
}

ChargeKind make_charge(ngx_http_request_t* r, const RequestCtx* ctx, const LimitConf& conf, LimitCharge& charge) {
    charge.limiter = &conf;
    charge.windows = conf.by_plan ? plan_windows(r, ctx, conf, charge.passing) : conf.windows.get();
    if (charge.windows == nullptr) {
        return ChargeKind::kForbidden;
    }
    if (conf.key != nullptr) {
        ngx_str_t value;
        if (ngx_http_complex_value(r, conf.key, &value) != NGX_OK) {
            value.len = 0;
        }
        if (value.len == 0) {
            return conf.deny_empty ? ChargeKind::kForbidden : ChargeKind::kBypass;
        }
        charge.key = value_key(r->pool, conf, view(value));
    } else {
        charge.key = principal_key(r->pool, ctx->principal);
    }
    charge.cost = request_cost(r, conf);
    if (charge.cost > charge.windows->burst_min()) {
        return ChargeKind::kTooExpensive;
    }
    charge.zone_key = charge.windows->zone_key(charge.key.substr(kLimitKeyHead.size()), current_worker(r).limit_memo());
    return ChargeKind::kCharge;
}

std::size_t limit_arguments(const LimitWindows& windows) noexcept { return 4 + windows.argument_count(); }

void write_limit_arguments(RespWriter& writer, const LeaseTake& take, const LimitWindows& windows) {
    writer.bulk(take.need).bulk(take.ahead).bulk(take.ret).bulk(take.ret_age_us);
    writer.raw(windows.arguments());
}

LeaseTake take_of(const LimitCharge& charge) noexcept {
    return charge.take != nullptr ? charge.take->take : LeaseTake{.need = charge.cost};
}

std::string limit_command(std::string_view key, const LeaseTake& take, const LimitWindows& windows) {
    std::string command;
    command.reserve(256 + windows.arguments().size());
    RespWriter writer(command);
    writer.array(4 + limit_arguments(windows));
    writer.bulk("EVALSHA").bulk(limit_script_sha1()).bulk("1").bulk(key);
    write_limit_arguments(writer, take, windows);
    return command;
}

}  // namespace headgate::edge
