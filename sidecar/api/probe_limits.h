// How many requests to endpoints may be under way at once because somebody asked for one (a test call, a look-up),
// beside the deliveries: a few for each organization, so that none keeps another waiting. Event loop only.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <utility>

namespace headgate {

class ProbeLimits {
 public:
    static constexpr std::size_t kPerOrgMax = 4;
    static constexpr std::size_t kMax = 64;

    // Holds one place until it is destroyed.
    class Place {
     public:
        Place() = default;
        Place(ProbeLimits& limits, std::string org) : limits_(&limits), org_(std::move(org)) {}
        Place(Place&& other) noexcept : limits_(std::exchange(other.limits_, nullptr)), org_(std::move(other.org_)) {}
        Place& operator=(Place&&) = delete;
        ~Place() {
            if (limits_ != nullptr) limits_->leave(org_);
        }
        explicit operator bool() const noexcept { return limits_ != nullptr; }

     private:
        ProbeLimits* limits_ = nullptr;
        std::string org_;
    };

    // Empty when the organization, or all of them together, have as many as they may.
    [[nodiscard]] Place enter(const std::string& org) {
        std::size_t& count = by_org_[org];
        if (count >= kPerOrgMax || total_ >= kMax) {
            if (count == 0) by_org_.erase(org);
            return {};
        }
        ++count;
        ++total_;
        return {*this, org};
    }

 private:
    void leave(const std::string& org) {
        --total_;
        const auto found = by_org_.find(org);
        if (--found->second == 0) by_org_.erase(found);
    }

    std::map<std::string, std::size_t> by_org_;
    std::size_t total_ = 0;
};

}  // namespace headgate
