// Fuzzes the verification of tokens against one key of each kind: no crash, nothing left on OpenSSL's queue, and
// nothing accepted but what one of those keys signed. Its corpus is corpus/jwt, which test_jwt_fuzz_corpus replays.
#include <cstdint>
#include <cstdlib>

#include "../jwt_fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    if (!headgate::test::token_is_handled_rightly({reinterpret_cast<const char*>(data), bytes})) {
        std::abort();
    }
    return 0;
}
