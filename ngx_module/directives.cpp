// The command table and the parser of each directive. Merging and what only shows then: conf.cpp.
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <span>
#include <sstream>

#include "common/api_key.h"
#include "common/limits.h"
#include "common/scopes.h"
#include "ngx_module/conf.h"
#include "ngx_module/publish.h"
#include "ngx_module/status.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

char* const kOk = NGX_CONF_OK;
char* const kError = static_cast<char*>(NGX_CONF_ERROR);

// ---- helpers --------------------------------------------------------------------------------

std::span<ngx_str_t> arguments(ngx_conf_t* cf) noexcept {
    auto* values = static_cast<ngx_str_t*>(cf->args->elts);
    return {values + 1, cf->args->nelts - 1};
}

DirectivePlace place_of(ngx_conf_t* cf) noexcept { return {cf->conf_file->file.name, cf->conf_file->line}; }

template <typename... Args>
char* fail(ngx_conf_t* cf, const char* format, Args... args) noexcept {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, format, args...);
    return kError;
}

// `name=value`: the value, or nullopt when the argument has another name.
std::optional<std::string_view> parameter(const ngx_str_t& argument, std::string_view name) noexcept {
    const std::string_view text = view(argument);
    if (text.size() <= name.size() || !text.starts_with(name) || text[name.size()] != '=') {
        return std::nullopt;
    }
    return text.substr(name.size() + 1);
}

ngx_str_t* as_ngx_str(ngx_str_t& holder, std::string_view text) noexcept {
    holder = {text.size(), reinterpret_cast<u_char*>(const_cast<char*>(text.data()))};
    return &holder;
}

template <typename T>
std::vector<T>* list_in_pool(ngx_conf_t* cf, std::vector<T>*& list) {
    if (list == nullptr) {
        list = make_in_pool<std::vector<T>>(cf->pool);
        if (list == nullptr) {
            throw std::bad_alloc();
        }
    }
    return list;
}

// A secret file: readable, bounded, and nobody's but its owner's.
std::optional<std::string> read_secret(ngx_conf_t* cf, ngx_str_t name) {
    if (ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK) {
        return std::nullopt;
    }
    const std::string path(view(name));
    struct stat info {};
    if (stat(path.c_str(), &info) == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno, "secret file \"%s\" cannot be read", path.c_str());
        return std::nullopt;
    }
    if ((info.st_mode & 0077) != 0) {
        fail(cf, "secret file \"%s\" is open to others than its owner: chmod 600 it", path.c_str());
        return std::nullopt;
    }
    if (static_cast<std::size_t>(info.st_size) > limits::kSecretFileBytesMax) {
        fail(cf, "secret file \"%s\" is larger than %uz bytes", path.c_str(), limits::kSecretFileBytesMax);
        return std::nullopt;
    }
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    if (!file) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno, "secret file \"%s\" cannot be read", path.c_str());
        return std::nullopt;
    }
    return text.str();
}

// ---- http level -----------------------------------------------------------------------------

char* parse_zone(ngx_conf_t* cf, MainConf* conf) {
    ngx_str_t text = arguments(cf)[0];
    u_char* colon = static_cast<u_char*>(ngx_strlchr(text.data, text.data + text.len, ':'));
    if (conf->zone != nullptr) {
        return fail(cf, "is duplicate");
    }
    if (colon == nullptr || colon == text.data) {
        return fail(cf, "invalid zone \"%V\": it is written name:size", &text);
    }
    ngx_str_t name{static_cast<std::size_t>(colon - text.data), text.data};
    ngx_str_t size_text{text.len - name.len - 1, colon + 1};
    const ssize_t size = ngx_parse_size(&size_text);
    if (size == NGX_ERROR) {
        return fail(cf, "invalid zone size \"%V\"", &size_text);
    }
    if (size < static_cast<ssize_t>(256 * 1024)) {
        return fail(cf, "zone \"%V\" is too small: at least 256k", &name);
    }
    conf->zone = ngx_shared_memory_add(cf, &name, static_cast<std::size_t>(size), &ngx_http_headgate_module);
    if (conf->zone == nullptr) {
        return kError;
    }
    if (conf->zone->data != nullptr) {
        return fail(cf, "zone \"%V\" is already defined", &name);
    }
    conf->zone->init = init_zone;
    return kOk;
}

bool parse_msec(std::string_view text, ngx_msec_t& out) noexcept {
    ngx_str_t holder;
    const ngx_int_t value = ngx_parse_time(as_ngx_str(holder, text), 0);
    if (value == NGX_ERROR || value == 0) {
        return false;
    }
    out = static_cast<ngx_msec_t>(value);
    return true;
}

char* parse_redis(ngx_conf_t* cf, MainConf* conf) {
    if (!conf->redis.empty()) {
        return fail(cf, "is duplicate");
    }
    auto redis = std::make_unique<RedisConf>();
    ngx_str_set(&redis->name, "default");
    ngx_str_t address{};
    for (ngx_str_t& argument : arguments(cf)) {
        if (const auto value = parameter(argument, "connect_timeout")) {
            if (!parse_msec(*value, redis->connect_timeout_ms)) {
                return fail(cf, "invalid time in \"%V\"", &argument);
            }
        } else if (const auto value = parameter(argument, "timeout")) {
            if (!parse_msec(*value, redis->timeout_ms)) {
                return fail(cf, "invalid time in \"%V\"", &argument);
            }
        } else if (view(argument).find('=') != std::string_view::npos) {
            return fail(cf, "unknown parameter \"%V\"", &argument);
        } else if (address.len != 0) {
            return fail(cf, "more than one address: \"%V\"", &argument);
        } else {
            address = argument;
        }
    }
    ngx_url_t url{};
    url.url = address;
    url.default_port = 6379;
    if (ngx_parse_url(cf->pool, &url) != NGX_OK || url.naddrs == 0) {
        return fail(cf, "%s in \"%V\"", url.err == nullptr ? "no address" : url.err, &address);
    }
    redis->addr = url.addrs[0];
    conf->redis.push_back(std::move(redis));
    return kOk;
}

char* parse_shards(ngx_conf_t* cf, MainConf* conf) {
    ngx_str_t& text = arguments(cf)[0];
    if (conf->shards != NGX_CONF_UNSET) {
        return fail(cf, "is duplicate");
    }
    conf->shards = ngx_atoi(text.data, text.len);
    if (conf->shards < 1 || conf->shards > limits::kShardsMax) {
        return fail(cf, "invalid number of shards \"%V\": 1 to %d", &text, limits::kShardsMax);
    }
    return kOk;
}

char* parse_plan(ngx_conf_t* cf, MainConf* conf) {
    auto plan = std::make_unique<RatePlan>();
    std::string rates;
    plan->name = view(arguments(cf)[0]);
    for (ngx_str_t& argument : arguments(cf).subspan(1)) {
        const auto rate = parameter(argument, "rate");
        if (!rate) {
            return fail(cf, "unknown parameter \"%V\"", &argument);
        }
        rates.append(rates.empty() ? "" : "+").append(*rate);
    }
    if (conf->find_plan(plan->name) != nullptr) {
        return fail(cf, "headgate_plan \"%s\" is already defined", plan->name.c_str());
    }
    auto windows = parse_rate_plan(rates);
    if (!windows) {
        return fail(cf, "%s", windows.error().message.c_str());
    }
    plan->windows = std::move(*windows);
    conf->plans.push_back(std::move(plan));
    return kOk;
}

char* parse_pepper(ngx_conf_t* cf, MainConf* conf) {
    if (conf->pepper != nullptr) {
        return fail(cf, "is duplicate");
    }
    const auto text = read_secret(cf, arguments(cf)[0]);
    if (!text) {
        return kError;
    }
    const std::string_view secret = secret_file_value(*text);
    if (secret.size() < limits::kSecretBytesMin) {
        return fail(cf, "the pepper in \"%V\" is shorter than %uz bytes", &arguments(cf)[0], limits::kSecretBytesMin);
    }
    conf->pepper = std::make_unique<HmacSha256Key>(secret);
    conf->pepper_fingerprint = pepper_fingerprint(*conf->pepper);
    return kOk;
}

// ---- authentication -------------------------------------------------------------------------

char* parse_auth(ngx_conf_t* cf, LocConf* conf) {
    if (conf->auth != NGX_CONF_UNSET_UINT) {
        return fail(cf, "is duplicate");
    }
    ngx_uint_t kinds = 0;
    for (ngx_str_t& argument : arguments(cf)) {
        const std::string_view word = view(argument);
        ngx_uint_t kind = 0;
        kind = word == "off" ? kAuthOff : kind;
        kind = word == "jwt" ? kAuthJwt : kind;
        kind = word == "api_key" ? kAuthApiKey : kind;
        if (kind == 0 || (kinds & kind) != 0) {
            return fail(cf, "invalid value \"%V\": off, jwt, api_key or \"jwt api_key\"", &argument);
        }
        kinds |= kind;
    }
    if ((kinds & kAuthOff) != 0 && kinds != kAuthOff) {
        return fail(cf, "\"off\" stands alone");
    }
    conf->auth = kinds;
    conf->auth_place = place_of(cf);
    return kOk;
}

char* parse_realm(ngx_conf_t* cf, LocConf* conf) {
    if (conf->realm.data != nullptr) {
        return fail(cf, "is duplicate");
    }
    conf->realm = arguments(cf)[0];
    const std::string_view realm = view(conf->realm);
    if (realm.find_first_of("\"\\") != std::string_view::npos ||
        std::any_of(realm.begin(), realm.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; })) {
        return fail(cf, "a realm has no quotes, backslashes or control characters");
    }
    return kOk;
}

char* parse_require_scope(ngx_conf_t* cf, LocConf* conf) {
    if (conf->require_scopes != nullptr) {
        return fail(cf, "is duplicate");
    }
    auto* scopes = list_in_pool(cf, conf->require_scopes);
    for (ngx_str_t& argument : arguments(cf)) {
        if (!scope_is_valid(view(argument))) {
            return fail(cf, "invalid scope \"%V\"", &argument);
        }
        scopes->emplace_back(view(argument));
    }
    return kOk;
}

char* parse_jwt_key_file(ngx_conf_t* cf, LocConf* conf) {
    auto source = std::make_unique<JwtSource>();
    std::optional<JwtAlgorithm> algorithm;
    for (ngx_str_t& argument : arguments(cf).subspan(1)) {
        if (const auto value = parameter(argument, "alg")) {
            if (!parse_jwt_algorithm(*value, algorithm.emplace())) {
                return fail(cf, "unknown algorithm in \"%V\"", &argument);
            }
        } else if (const auto value = parameter(argument, "issuer"); value && !value->empty()) {
            source->issuer = *value;
        } else if (const auto value = parameter(argument, "org"); value && !value->empty()) {
            if (value->starts_with("claim:")) {
                source->org_claim = value->substr(6);
            } else {
                source->org_fixed = *value;
            }
        } else if (const auto value = parameter(argument, "scopes"); value && !value->empty()) {
            source->scope_ceiling = *value;
        } else {
            return fail(cf, "invalid parameter \"%V\"", &argument);
        }
    }
    const auto text = read_secret(cf, arguments(cf)[0]);
    if (!text) {
        return kError;
    }
    auto keys = key_set_from_file(*text, algorithm);
    if (!keys) {
        return fail(cf, "key file \"%V\": %s", &arguments(cf)[0], keys.error().message.c_str());
    }
    for (const std::string& reason : keys->skipped) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "key file \"%V\": left out: %s", &arguments(cf)[0], reason.c_str());
    }
    source->keys = std::move(*keys);
    list_in_pool(cf, conf->jwt_sources)->push_back(std::move(source));
    return kOk;
}

// ---- limits ---------------------------------------------------------------------------------

ngx_http_complex_value_t* compile_value(ngx_conf_t* cf, std::string_view text) {
    auto* value = static_cast<ngx_http_complex_value_t*>(ngx_pcalloc(cf->pool, sizeof(ngx_http_complex_value_t)));
    ngx_str_t holder;
    ngx_http_compile_complex_value_t compile{};
    compile.cf = cf;
    compile.value = as_ngx_str(holder, text);
    compile.complex_value = value;
    return value != nullptr && ngx_http_compile_complex_value(&compile) == NGX_OK ? value : nullptr;
}

char* parse_limit(ngx_conf_t* cf, LocConf* conf) {
    auto limit = std::make_unique<LimitConf>();
    std::string rates;
    limit->place = place_of(cf);
    for (ngx_str_t& argument : arguments(cf)) {
        if (view(argument) == "plan") {
            limit->by_plan = true;
        } else if (const auto rate = parameter(argument, "rate")) {
            rates.append(rates.empty() ? "" : "+").append(*rate);
        } else if (const auto plan = parameter(argument, "default_plan")) {
            limit->default_plan_name = *plan;
        } else if (const auto name = parameter(argument, "name")) {
            limit->name = *name;
        } else if (const auto key = parameter(argument, "key")) {
            if ((limit->key = compile_value(cf, *key)) == nullptr) {
                return kError;
            }
        } else if (const auto cost = parameter(argument, "cost")) {
            if ((limit->cost = compile_value(cf, *cost)) == nullptr) {
                return kError;
            }
        } else if (const auto empty = parameter(argument, "empty"); empty && (*empty == "allow" || *empty == "deny")) {
            limit->deny_empty = *empty == "deny";
        } else {
            return fail(cf, "invalid parameter \"%V\"", &argument);
        }
    }
    if (limit->by_plan == !rates.empty()) {
        return fail(cf, "either \"plan\" or \"rate=\" must be given");
    }
    if (limit->by_plan && limit->key != nullptr) {
        return fail(cf, "\"plan\" limits the caller: \"key=\" does not go with it");
    }
    if (!limit->by_plan) {
        auto windows = parse_rate_plan(rates);
        if (!windows) {
            return fail(cf, "%s", windows.error().message.c_str());
        }
        limit->windows = std::move(*windows);
        limit->name = limit->name.empty() ? rates : limit->name;
    }
    auto* limits = list_in_pool(cf, conf->limits);
    if (limits->size() == kLimitersMax) {
        return fail(cf, "more than %uz limits in one place", kLimitersMax);
    }
    limits->push_back(std::move(limit));
    return kOk;
}

char* parse_limit_mode(ngx_conf_t* cf, LocConf* conf) {
    const std::string_view mode = view(arguments(cf)[0]);
    if (conf->limit_mode != NGX_CONF_UNSET_UINT) {
        return fail(cf, "is duplicate");
    }
    if (mode != "exact" && mode != "lease") {
        return fail(cf, "invalid mode \"%V\": exact or lease", &arguments(cf)[0]);
    }
    conf->limit_mode = mode == "lease" ? 1 : 0;
    return kOk;
}

// ---- publishing and status ------------------------------------------------------------------

void set_handler(ngx_conf_t* cf, ngx_http_handler_pt handler) noexcept {
    static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module))->handler =
        handler;
}

char* parse_publish(ngx_conf_t* cf, LocConf* conf) {
    if (conf->publish != PublishKind::kNone) {
        return fail(cf, "is duplicate");
    }
    if (view(arguments(cf)[0]) != "event") {
        return fail(cf, "invalid value \"%V\": event", &arguments(cf)[0]);
    }
    conf->publish = PublishKind::kEvent;
    conf->publish_place = place_of(cf);
    set_handler(cf, publish_handler);
    return kOk;
}

char* parse_status(ngx_conf_t* cf, LocConf*) {
    set_handler(cf, status_handler);
    return kOk;
}

// ---- the table ------------------------------------------------------------------------------

// No exception crosses into nginx, whatever a parser meets.
template <auto Parse>
char* main_directive(ngx_conf_t* cf, ngx_command_t*, void* conf) noexcept {
    try {
        return Parse(cf, static_cast<MainConf*>(conf));
    } catch (const std::exception& e) {
        return fail(cf, "%s", e.what());
    }
}

template <auto Parse>
char* loc_directive(ngx_conf_t* cf, ngx_command_t*, void* conf) noexcept {
    try {
        auto* main = static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_headgate_module));
        if (!std::exchange(main->in_use, true)) {
            main->in_use_place = place_of(cf);
        }
        return Parse(cf, static_cast<LocConf*>(conf));
    } catch (const std::exception& e) {
        return fail(cf, "%s", e.what());
    }
}

constexpr ngx_uint_t kAnyLevel = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF;

}  // namespace

// clang-format off
ngx_command_t commands[] = {
    {ngx_string("headgate_zone"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1,
     main_directive<parse_zone>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_redis"), NGX_HTTP_MAIN_CONF | NGX_CONF_1MORE,
     main_directive<parse_redis>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_shards"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1,
     main_directive<parse_shards>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_plan"), NGX_HTTP_MAIN_CONF | NGX_CONF_2MORE,
     main_directive<parse_plan>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_api_key_pepper_file"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1,
     main_directive<parse_pepper>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},

    {ngx_string("headgate_auth"), kAnyLevel | NGX_CONF_TAKE12,
     loc_directive<parse_auth>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_realm"), kAnyLevel | NGX_CONF_TAKE1,
     loc_directive<parse_realm>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_require_scope"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_require_scope>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_jwt_key_file"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_jwt_key_file>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    {ngx_string("headgate_limit"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_limit>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_limit_mode"), kAnyLevel | NGX_CONF_TAKE1,
     loc_directive<parse_limit_mode>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    {ngx_string("headgate_publish"), NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1,
     loc_directive<parse_publish>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_event_max_size"), kAnyLevel | NGX_CONF_TAKE1,
     ngx_conf_set_size_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocConf, event_max_bytes), nullptr},
    {ngx_string("headgate_publish_inflight"), kAnyLevel | NGX_CONF_TAKE1,
     ngx_conf_set_size_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocConf, publish_inflight_bytes), nullptr},

    {ngx_string("headgate_status"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS,
     loc_directive<parse_status>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    ngx_null_command,
};
// clang-format on

}  // namespace headgate::edge
