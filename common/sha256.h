// SHA-256 (FIPS 180-4) of what comes in pieces: bodies that lie in several buffers or in a file.
#pragma once

#include <string_view>

#include "common/hmac.h"

struct evp_md_ctx_st;

namespace headgate {

class Sha256 {
 public:
    // If OpenSSL cannot compute a digest, now or later, the process aborts rather than compare a wrong one.
    Sha256() noexcept;
    ~Sha256();
    Sha256(const Sha256&) = delete;
    Sha256& operator=(const Sha256&) = delete;

    void update(std::string_view bytes) noexcept;
    // The digest of all pieces since the last finish(). The next piece begins another one.
    [[nodiscard]] Sha256Digest finish() noexcept;

 private:
    evp_md_ctx_st* const context_;
};

}  // namespace headgate
