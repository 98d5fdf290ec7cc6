// Fuzzes the reading of key files and JWKS: no crash, nothing left on OpenSSL's queue, and every set that is accepted
// is one that tokens can be verified with. Its corpus is corpus/jwks, which test_jwt_fuzz_corpus replays.
#include <cstdint>
#include <cstdlib>

#include "../jwt_fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    if (!headgate::test::key_text_is_handled_rightly({reinterpret_cast<const char*>(data), bytes})) {
        std::abort();
    }
    return 0;
}
