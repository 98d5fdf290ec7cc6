// A shortage on this machine: requests that could not begin for want of a file descriptor or of memory for a socket.
// That is no endpoint's doing. As many as are under way then are what there is room for: no more are begun, until the
// bound has grown again, by an eighth each second. Pure: no clock and no I/O. Next file: dispatcher.cpp.
#pragma once

#include <algorithm>
#include <limits>

#include "sidecar/store/rows.h"

namespace headgate {

class Shortage {
 public:
    // A delivery that could not begin is tried again after this long; nothing begins meanwhile when nothing is under
    // way whose end could help.
    static constexpr TimeMs kPauseMs = 1'000;

    // A request could not begin, while so many others were under way. `now` is of a clock that never steps back.
    void met(int in_flight, TimeMs now) noexcept {
        limit_ = std::max(std::min(in_flight, at(now)), 1);
        since_ = now;
        is_idle_ = in_flight == 0;
    }
    // How many requests may be in flight, of at most `most`.
    [[nodiscard]] int limit(int most, TimeMs now) const noexcept {
        return is_idle_ && now < since_ + kPauseMs ? 0 : std::min(most, at(now));
    }

 private:
    [[nodiscard]] int at(TimeMs now) const noexcept {
        if (limit_ == kNone) {
            return kNone;
        }
        const TimeMs grown = limit_ + (now - since_) / kPauseMs * std::max(limit_ / 8, 1);
        return static_cast<int>(std::min<TimeMs>(grown, kNone));
    }

    static constexpr int kNone = std::numeric_limits<int>::max();
    int limit_ = kNone;
    TimeMs since_ = 0;
    bool is_idle_ = false;
};

}  // namespace headgate
