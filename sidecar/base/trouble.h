// What fails and is tried again without end, for the log: told when it begins, when it becomes another failure, once a
// minute as long as it lasts, and when it is over. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace headgate {

class Trouble {
 public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::seconds kReminder{60};

    // It has failed, once more. True: tell it.
    [[nodiscard]] bool is_news(std::string_view error, Clock::time_point now = Clock::now()) {
        if (failures_++ > 0 && error == told_ && now < told_at_ + kReminder) return false;
        told_ = error;
        told_at_ = now;
        return true;
    }
    // It has gone well. Returns how often in a row it had failed before; 0: there is nothing to tell.
    [[nodiscard]] std::uint64_t end() {
        told_.clear();
        return std::exchange(failures_, 0);
    }

 private:
    std::string told_;  // the last that was
    Clock::time_point told_at_{};
    std::uint64_t failures_ = 0;  // in a row
};

}  // namespace headgate
