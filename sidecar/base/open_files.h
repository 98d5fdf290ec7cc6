// How many files and sockets this process may have open (RLIMIT_NOFILE), and how many it needs.
#pragma once

#include <cstdint>

namespace headgate {

// Besides one connection for each request in flight: 256 of the API, 64 look-ups of names with three descriptors each,
// the store's files or connections, Redis, and what the libraries open for a moment.
inline constexpr std::int64_t kOpenFilesBesides = 512;

[[nodiscard]] std::int64_t open_files_max() noexcept;  // as it stands: the soft limit
[[nodiscard]] std::int64_t open_files_hard_max() noexcept;
// The soft limit becomes the hard one; what it is then.
std::int64_t raise_open_files_max() noexcept;

// Connections to endpoints that are kept open, in use or not, when so many files may be open.
[[nodiscard]] int connections_kept_max(std::int64_t open_files) noexcept;

}  // namespace headgate
