// The only place that includes nginx's headers, and the few bridges between its types and ours.
#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wextra"
extern "C" {
#include <ngx_config.h>
//
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>
#include <ngx_http.h>
}
#pragma GCC diagnostic pop

#include <cstdint>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

extern "C" ngx_module_t ngx_http_headgate_module;

namespace headgate::edge {

[[nodiscard]] inline std::string_view view(const ngx_str_t& text) noexcept {
    return {reinterpret_cast<const char*>(text.data), text.len};
}

// For what nginx takes without a promise of const, and never writes to.
[[nodiscard]] inline u_char* bytes_of(std::string_view text) noexcept {
    return reinterpret_cast<u_char*>(const_cast<char*>(text.data()));
}
[[nodiscard]] inline ngx_str_t borrowed(std::string_view text) noexcept { return {text.size(), bytes_of(text)}; }

// Calls look(ngx_table_elt_t&) with each header of a request or response, in their order.
template <typename Look>
void for_each_header(ngx_list_t& headers, Look&& look) {
    for (ngx_list_part_t* part = &headers.part; part != nullptr; part = part->next) {
        auto* elements = static_cast<ngx_table_elt_t*>(part->elts);
        for (ngx_uint_t i = 0; i < part->nelts; ++i) {
            look(elements[i]);
        }
    }
}

// Is it the request header of this (lowercase) name?
[[nodiscard]] inline bool header_is(const ngx_table_elt_t& header, std::string_view lowercase) noexcept {
    return header.key.len == lowercase.size() &&
           ngx_memcmp(header.lowcase_key, lowercase.data(), lowercase.size()) == 0;
}

// A copy in `pool`; data is nullptr when there is no memory.
[[nodiscard]] inline ngx_str_t copy_to_pool(ngx_pool_t* pool, std::string_view text) noexcept {
    ngx_str_t out{0, static_cast<u_char*>(ngx_pnalloc(pool, text.size() + 1))};
    if (out.data != nullptr) {
        ngx_memcpy(out.data, text.data(), text.size());
        out.data[text.size()] = '\0';
        out.len = text.size();
    }
    return out;
}

// An object that lives in pool memory and is destroyed with the pool. The cleanup is registered
// before the object exists, so that an exception or a lack of memory leaves nothing behind.
template <typename T, typename... Args>
[[nodiscard]] T* make_in_pool(ngx_pool_t* pool, Args&&... args) {
    if constexpr (std::is_trivially_destructible_v<T>) {
        void* memory = ngx_pcalloc(pool, sizeof(T));
        return memory == nullptr ? nullptr : new (memory) T(std::forward<Args>(args)...);
    } else {
        ngx_pool_cleanup_t* cleanup = ngx_pool_cleanup_add(pool, sizeof(T));
        if (cleanup == nullptr) {
            return nullptr;
        }
        T* object = new (cleanup->data) T(std::forward<Args>(args)...);
        cleanup->handler = [](void* data) noexcept { static_cast<T*>(data)->~T(); };
        return object;
    }
}

// Freshly read; of no meaning outside this machine, and it never steps.
[[nodiscard]] inline std::int64_t monotonic_us() noexcept {
    timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1'000;
}

[[nodiscard]] inline std::int64_t now_ms() noexcept {
    const ngx_time_t* now = ngx_timeofday();
    return static_cast<std::int64_t>(now->sec) * 1000 + static_cast<std::int64_t>(now->msec);
}

}  // namespace headgate::edge
