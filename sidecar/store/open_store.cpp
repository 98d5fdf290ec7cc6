// Which engine a store URL names. Every engine has its own opener.
#include "sidecar/store/open_store.h"

namespace headgate {

Result<std::unique_ptr<Store>> open_store(const StoreOptions& options) {
    if (options.url.starts_with("sqlite:")) return open_sqlite_store(options);
    if (is_postgres_url(options.url)) return open_postgres_store(options);
    // Not the whole of it: what was meant to be a URL may have a password in it.
    return fail(ErrorCode::kInvalidArgument,
                "store.url must be sqlite:/path/to/file.db or postgresql://host/database, not \"" +
                    options.url.substr(0, options.url.find(':')) + "…\"");
}

}  // namespace headgate
