// What open_files.h declares.
#include "sidecar/base/open_files.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>

namespace headgate {
namespace {

std::int64_t number(rlim_t limit) noexcept {
    constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
    return limit == RLIM_INFINITY || limit > static_cast<rlim_t>(kMax) ? kMax : static_cast<std::int64_t>(limit);
}

}  // namespace

std::int64_t open_files_max() noexcept {
    rlimit files{};
    return getrlimit(RLIMIT_NOFILE, &files) == 0 ? number(files.rlim_cur) : 0;
}

std::int64_t open_files_hard_max() noexcept {
    rlimit files{};
    return getrlimit(RLIMIT_NOFILE, &files) == 0 ? number(files.rlim_max) : 0;
}

std::int64_t raise_open_files_max() noexcept {
    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);  // else it stays as it is
    }
    return open_files_max();
}

int connections_kept_max(std::int64_t open_files) noexcept {
    return static_cast<int>(std::clamp<std::int64_t>(open_files / 4, 8, 256));
}

}  // namespace headgate
