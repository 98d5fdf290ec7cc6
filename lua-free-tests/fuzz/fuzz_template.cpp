// Fuzzes the templates of webhooks' bodies and the payloads that fill them: no crash, JSON that is JSON, a form that is
// a form, and nothing longer than it may be. Its corpus is corpus/template, which test_template_fuzz_corpus replays.
#include <cstdint>
#include <cstdlib>

#include "../template_fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    if (!headgate::test::template_is_right({reinterpret_cast<const char*>(data), bytes})) {
        std::abort();
    }
    return 0;
}
