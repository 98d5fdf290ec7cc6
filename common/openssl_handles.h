// OpenSSL's handles as unique_ptr, and its error queue left as it was found.
#pragma once

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <memory>

namespace headgate {

template <auto Free>
struct OpensslDeleter {
    template <typename T>
    void operator()(T* handle) const noexcept {
        Free(handle);
    }
};

using EvpKey = std::unique_ptr<EVP_PKEY, OpensslDeleter<EVP_PKEY_free>>;
using EvpKeyContext = std::unique_ptr<EVP_PKEY_CTX, OpensslDeleter<EVP_PKEY_CTX_free>>;
using EvpDigestContext = std::unique_ptr<EVP_MD_CTX, OpensslDeleter<EVP_MD_CTX_free>>;
using BigNumber = std::unique_ptr<BIGNUM, OpensslDeleter<BN_free>>;
using BigNumberContext = std::unique_ptr<BN_CTX, OpensslDeleter<BN_CTX_free>>;

// Removes, when it goes, the errors that were queued while it lived (ERR_set_mark(3)). An error that stays on the
// queue would be taken for one of the next TLS call on this thread.
class OpensslErrorMark {
 public:
    OpensslErrorMark() noexcept { ERR_set_mark(); }
    ~OpensslErrorMark() { ERR_pop_to_mark(); }
    OpensslErrorMark(const OpensslErrorMark&) = delete;
    OpensslErrorMark& operator=(const OpensslErrorMark&) = delete;
};

}  // namespace headgate
