// Named places where a test build can be killed: HEADGATE_FAILPOINT=<name>[:<n-th hit>] in the
// environment raises SIGKILL there, as a crash of the machine would. Nothing in other builds.
#pragma once

#ifdef HEADGATE_FAILPOINTS

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <string_view>

namespace headgate {

// `hits` belongs to one place in the code.
inline void failpoint(std::string_view name, std::atomic<long>& hits) noexcept {
    const char* asked = std::getenv("HEADGATE_FAILPOINT");
    if (asked == nullptr) return;
    std::string_view wanted(asked);
    std::size_t colon = wanted.find(':');
    if (wanted.substr(0, colon) != name) return;
    long nth = colon == std::string_view::npos ? 1 : std::atol(asked + colon + 1);
    if (++hits == nth) std::raise(SIGKILL);
}

}  // namespace headgate

#define HEADGATE_FAILPOINT(name)                     \
    do {                                             \
        static std::atomic<long> failpoint_hits{0};  \
        ::headgate::failpoint(name, failpoint_hits); \
    } while (false)

#else

#define HEADGATE_FAILPOINT(name) static_cast<void>(0)

#endif
