// Fuzzes patterns, filters and the payloads that they are asked about: no crash, the naive evaluator's verdict, and no
// webhook suffers from another's filter. Its corpus is corpus/match, which test_match_fuzz_corpus replays.
#include <spdlog/spdlog.h>

#include <cstdint>
#include <cstdlib>

#include "../match_fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    static const bool is_quiet = (spdlog::set_level(spdlog::level::off), true);
    if (!is_quiet || !headgate::test::match_is_right({reinterpret_cast<const char*>(data), bytes})) {
        std::abort();
    }
    return 0;
}
