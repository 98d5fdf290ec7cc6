// The failpoints of a test build. HEADGATE_FAILPOINT=<name>[:<nth>][=kill|stop|sleep<ms>][,…] : at its nth hit (the
// first unless said) a place raises SIGKILL, or SIGSTOP: then the test changes what it wants to change meanwhile, and
// sends SIGCONT or SIGKILL. Each place of the list acts once; but one that sleeps, as a slow disk does, from its nth
// hit on.
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "sidecar/base/failpoint.h"

namespace headgate {
namespace {

constexpr std::size_t kPlacesMax = 16;
std::array<std::atomic<long>, kPlacesMax> hits;  // of the places in the list, in its order

// The number that a text begins with.
long leading_number(std::string_view text, long otherwise) noexcept {
    std::from_chars(text.data(), text.data() + text.size(), otherwise);  // none: left as it is
    return otherwise;
}

}  // namespace

void failpoint(const char* name) noexcept {
    // Asked each time: a unit test sets it in a forked child, long after the first hits.
    const char* asked = std::getenv("HEADGATE_FAILPOINT");  // NOLINT(concurrency-mt-unsafe): no thread sets one
    if (asked == nullptr) return;
    std::string_view list(asked);
    for (std::size_t place = 0; place < kPlacesMax && !list.empty(); place++) {
        std::string_view one = list.substr(0, list.find(','));
        list.remove_prefix(one.size() < list.size() ? one.size() + 1 : list.size());
        const std::size_t action_at = one.find('=');
        const std::string_view action = action_at == std::string_view::npos ? "" : one.substr(action_at + 1);
        one = one.substr(0, action_at);
        const std::size_t colon = one.find(':');
        if (one.substr(0, colon) != name) continue;
        const long nth = colon == std::string_view::npos ? 1 : leading_number(one.substr(colon + 1), 1);
        const long hit = ++hits[place];
        if (action.starts_with("sleep")) {
            const std::chrono::milliseconds pause(leading_number(action.substr(5), 0));
            if (hit >= nth) std::this_thread::sleep_for(pause);
        } else if (hit == nth) {
            std::raise(action == "stop" ? SIGSTOP : SIGKILL);
        }
    }
}

}  // namespace headgate
