// See conf_tools.h.
#include "ngx_module/conf_tools.h"

#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "common/limits.h"

namespace headgate::edge {

std::span<ngx_str_t> arguments(ngx_conf_t* cf) noexcept {
    auto* values = static_cast<ngx_str_t*>(cf->args->elts);
    return {values + 1, cf->args->nelts - 1};
}

std::optional<std::string_view> parameter(const ngx_str_t& argument, std::string_view name) noexcept {
    const std::string_view text = view(argument);
    if (text.size() <= name.size() || !text.starts_with(name) || text[name.size()] != '=') {
        return std::nullopt;
    }
    return text.substr(name.size() + 1);
}

std::optional<std::string> read_key_file(ngx_conf_t* cf, ngx_str_t name, bool& is_private) {
    if (ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK) {
        return std::nullopt;
    }
    const std::string path(view(name));
    struct stat info {};
    if (stat(path.c_str(), &info) == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno, "key file \"%s\" cannot be read", path.c_str());
        return std::nullopt;
    }
    is_private = (info.st_mode & 0077) == 0;
    if (static_cast<std::size_t>(info.st_size) > limits::kSecretFileBytesMax) {
        conf_fail(cf, "key file \"%s\" is larger than %uz bytes", path.c_str(), limits::kSecretFileBytesMax);
        return std::nullopt;
    }
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    if (!file) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno, "key file \"%s\" cannot be read", path.c_str());
        return std::nullopt;
    }
    return text.str();
}

std::optional<std::string> read_secret(ngx_conf_t* cf, ngx_str_t name) {
    bool is_private = false;
    auto text = read_key_file(cf, name, is_private);
    if (text && !is_private) {
        conf_fail(cf, "secret file \"%V\" is open to others than its owner: chmod 600 it", &name);
        return std::nullopt;
    }
    return text;
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

ngx_http_complex_value_t* compile_value(ngx_conf_t* cf, std::string_view text) {
    auto* value = static_cast<ngx_http_complex_value_t*>(ngx_pcalloc(cf->pool, sizeof(ngx_http_complex_value_t)));
    ngx_str_t holder;
    ngx_http_compile_complex_value_t compile{};
    compile.cf = cf;
    compile.value = as_ngx_str(holder, text);
    compile.complex_value = value;
    return value != nullptr && ngx_http_compile_complex_value(&compile) == NGX_OK ? value : nullptr;
}

}  // namespace headgate::edge
