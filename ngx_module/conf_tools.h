// What the parsers of directives share: arguments, errors with their place, secret files.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ngx_module/ngx.h"

namespace headgate::edge {

inline char* const kConfOk = NGX_CONF_OK;
inline char* const kConfError = static_cast<char*>(NGX_CONF_ERROR);

// Where a directive was written, for errors that are only found when levels are merged.
struct DirectivePlace {
    ngx_str_t file{};
    ngx_uint_t line = 0;
};
[[nodiscard]] inline DirectivePlace place_of(ngx_conf_t* cf) noexcept {
    return {cf->conf_file->file.name, cf->conf_file->line};
}

// The directive's arguments, its name left out.
[[nodiscard]] std::span<ngx_str_t> arguments(ngx_conf_t* cf) noexcept;
// `name=value`: the value, or nullopt when the argument has another name.
[[nodiscard]] std::optional<std::string_view> parameter(const ngx_str_t& argument, std::string_view name) noexcept;

// An error at the directive that is being read; formats are ngx_log_error()'s. Both return kConfError.
template <typename... Args>
char* conf_fail(ngx_conf_t* cf, const char* format, Args... args) noexcept {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, format, args...);
    return kConfError;
}
// An error at a directive that was read before.
template <typename... Args>
char* conf_fail_at(ngx_conf_t* cf, const DirectivePlace& place, const char* format, Args... args) noexcept {
    u_char text[NGX_MAX_CONF_ERRSTR];
    u_char* end = ngx_snprintf(text, sizeof text, format, args...);
    ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%*s in %V:%ui", static_cast<std::size_t>(end - text), text, &place.file,
                  place.line);
    return kConfError;
}

// A borrowed view as nginx's string.
inline ngx_str_t* as_ngx_str(ngx_str_t& holder, std::string_view text) noexcept {
    holder = borrowed(text);
    return &holder;
}

// The list, made in the configuration's pool on first use.
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

// A secret file: readable, bounded, and nobody's but its owner's. nullopt: the error has been logged.
[[nodiscard]] std::optional<std::string> read_secret(ngx_conf_t* cf, ngx_str_t name);
// The same for a file that may be anybody's to read; `is_private`: it is not.
[[nodiscard]] std::optional<std::string> read_key_file(ngx_conf_t* cf, ngx_str_t name, bool& is_private);
// A positive time in nginx's units (`500ms`, `1s`).
[[nodiscard]] bool parse_msec(std::string_view text, ngx_msec_t& out) noexcept;
// A value with variables; nullptr: the error has been logged. `text` lives as long as the configuration.
[[nodiscard]] ngx_http_complex_value_t* compile_value(ngx_conf_t* cf, std::string_view text);

}  // namespace headgate::edge
