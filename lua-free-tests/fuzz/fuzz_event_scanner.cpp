// Fuzzes the event scanner: no crash, the same outcome however the body is cut, and Boost.JSON's verdict. Its corpus
// is corpus/event_scanner, which test_event_scanner replays.
#include <cstdlib>

#include "../event_scanner_oracle.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    using namespace headgate;
    const std::string_view body(reinterpret_cast<const char*>(data), bytes);
    static EventScanner scanner;
    const test::Outcome whole = test::scan(scanner, body);
    const std::size_t cut = bytes == 0 ? 0 : (data[bytes / 2] * 256u + data[bytes - 1]) % (bytes + 1);
    if (!(test::scan(scanner, body, {cut}) == whole)) {
        std::abort();
    }
    std::vector<std::size_t> every_byte(bytes);
    for (std::size_t i = 0; i < bytes; ++i) {
        every_byte[i] = i;
    }
    if (!(test::scan(scanner, body, every_byte) == whole)) {
        std::abort();
    }
    bool decided = false;
    const test::Outcome expected = test::oracle(body, decided);
    if (decided && !test::agrees(whole, expected)) {
        std::abort();
    }
    return 0;
}
