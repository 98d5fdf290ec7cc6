// Fuzzes the batch scanner, as an array and as NDJSON: no crash, the same outcome however the body is cut, and the
// verdict of the oracle. Its corpus is corpus/batch_scanner, which test_batch_scanner replays.
#include <cstdlib>

#include "../batch_scanner_oracle.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    using namespace headgate;
    const std::string_view body(reinterpret_cast<const char*>(data), bytes);
    constexpr std::size_t kEventsMax = 8;
    constexpr std::size_t kEventBytesMax = 200;
    for (const BatchFormat format : {BatchFormat::kArray, BatchFormat::kLines}) {
        const test::BatchOutcome whole = test::scan_batch(format, body, {}, kEventsMax, kEventBytesMax);
        const std::size_t cut = bytes == 0 ? 0 : (data[bytes / 2] * 256u + data[bytes - 1]) % (bytes + 1);
        if (!(test::scan_batch(format, body, {cut}, kEventsMax, kEventBytesMax) == whole)) {
            std::abort();
        }
        std::vector<std::size_t> every_byte(bytes);
        for (std::size_t i = 0; i < bytes; ++i) {
            every_byte[i] = i;
        }
        if (!(test::scan_batch(format, body, every_byte, kEventsMax, kEventBytesMax) == whole)) {
            std::abort();
        }
        bool decided = false;
        const test::BatchOutcome expected = test::batch_oracle(format, body, decided, kEventsMax, kEventBytesMax);
        if (decided && !test::batches_agree(whole, expected, body)) {
            std::abort();
        }
    }
    return 0;
}
