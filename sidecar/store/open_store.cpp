// Which engine a store URL names. Every engine has its own opener.
#include "sidecar/store/open_store.h"

#include <libpq-fe.h>

#include <charconv>

namespace headgate {

Result<std::unique_ptr<Store>> open_store(const StoreOptions& options) {
    if (options.url.starts_with("sqlite:")) return open_sqlite_store(options);
    if (is_postgres_url(options.url)) return open_postgres_store(options);
    // Not the whole of it: what was meant to be a URL may have a password in it.
    return fail(ErrorCode::kInvalidArgument,
                "store.url must be sqlite:/path/to/file.db or postgresql://host/database, not \"" +
                    options.url.substr(0, options.url.find(':')) + "…\"");
}

std::vector<std::pair<std::string, std::uint16_t>> store_addresses(const std::string& url) {
    std::vector<std::pair<std::string, std::uint16_t>> addresses;
    if (!is_postgres_url(url)) return addresses;
    struct Freer {
        void operator()(PQconninfoOption* options) const noexcept { PQconninfoFree(options); }
    };
    std::unique_ptr<PQconninfoOption, Freer> options(PQconninfoParse(url.c_str(), nullptr));
    if (options == nullptr) return addresses;
    auto split = [&](std::string_view name) {
        std::vector<std::string> items;
        for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; option++) {
            if (name != option->keyword || option->val == nullptr) continue;
            std::string_view rest = option->val;
            for (;;) {
                const std::size_t end = rest.find(',');
                items.emplace_back(rest.substr(0, end));
                if (end == std::string_view::npos) break;
                rest.remove_prefix(end + 1);
            }
        }
        return items;
    };
    auto hosts = split("host");
    const auto more = split("hostaddr");
    hosts.insert(hosts.end(), more.begin(), more.end());
    const auto ports = split("port");
    for (std::size_t i = 0; i < hosts.size(); i++) {
        if (hosts[i].empty() || hosts[i].starts_with('/') || hosts[i].starts_with('@')) continue;
        std::uint16_t port = 5432;
        if (!ports.empty()) {
            // One port for each host, or one for all of them.
            const std::string& text = ports[ports.size() == 1 ? 0 : i % ports.size()];
            if (!text.empty()) std::from_chars(text.data(), text.data() + text.size(), port);
        }
        addresses.emplace_back(hosts[i], port);
    }
    return addresses;
}

}  // namespace headgate
