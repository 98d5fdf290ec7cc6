// What name_look_ups.h declares.
#include "sidecar/deliver/name_look_ups.h"

#include <sys/stat.h>

#include <algorithm>
#include <iterator>

#include "common/limits.h"

namespace headgate {

namespace {

constexpr std::size_t kKnownMax = 10'000;

// A directory for each thread makes a link each. 0 = not known: then nothing is bounded.
std::int64_t threads_now() noexcept {
    struct stat tasks {};
    return stat("/proc/self/task", &tasks) == 0 ? static_cast<std::int64_t>(tasks.st_nlink) : 0;
}

}  // namespace

NameLookUps::NameLookUps() : threads_before_(threads_now()) {}

NameLookUps::Answer NameLookUps::begin(const std::string& host, const HttpTransfer* who, TimePoint now) {
    const auto found = hosts_.find(host);
    if (found != hosts_.end()) {
        const Host& entry = found->second;
        if (entry.leader != nullptr ? entry.leader != who : entry.busy_until > now) {
            return Answer::kWait;
        }
    }
    if (threads_now() - threads_before_ >= (known_.contains(host) ? kLookUpsKnownMax : kLookUpsMax)) {
        return Answer::kTooMany;
    }
    Host& entry = hosts_[host];
    entry.leader = who;
    entry.busy_until = now + std::chrono::milliseconds(limits::kConnectTimeoutMs);
    return Answer::kBegin;
}

void NameLookUps::ended(const std::string& host, const HttpTransfer* who, End end) {
    const auto found = hosts_.find(host);
    if (found == hosts_.end() || found->second.leader != who) {
        return;
    }
    found->second.leader = nullptr;
    has_ended_ = true;
    if (end == End::kLeftBehind) {
        known_.erase(host);
        return;
    }
    found->second.busy_until = TimePoint::min();
    if (end == End::kFound) {
        if (known_.size() >= kKnownMax) {
            known_.clear();
        }
        known_.insert(host);
    }
}

void NameLookUps::wait(const std::string& host, HttpTransfer* who, TimePoint deadline) {
    Host& entry = hosts_[host];
    entry.waiting.push_back({who, deadline});
    has_ended_ = true;  // or may have, before `who` came
}

std::vector<HttpTransfer*> NameLookUps::take_ready(TimePoint now) {
    std::vector<HttpTransfer*> ready;
    if (!has_ended_ && next_deadline().value_or(TimePoint::max()) > now) {
        return ready;
    }
    has_ended_ = false;
    for (auto entry = hosts_.begin(); entry != hosts_.end();) {
        Host& host = entry->second;
        const bool is_free = host.leader == nullptr && host.busy_until <= now;
        std::erase_if(host.waiting, [&](const Waiting& each) {
            const bool is_ready = is_free || each.deadline <= now;
            if (is_ready) {
                ready.push_back(each.who);
            }
            return is_ready;
        });
        entry = is_free ? hosts_.erase(entry) : std::next(entry);
    }
    return ready;
}

std::optional<NameLookUps::TimePoint> NameLookUps::next_deadline() const {
    std::optional<TimePoint> next;
    for (const auto& [name, host] : hosts_) {
        if (host.leader == nullptr) {
            next = std::min(next.value_or(host.busy_until), host.busy_until);
        }
        for (const Waiting& each : host.waiting) {
            next = std::min(next.value_or(each.deadline), each.deadline);
        }
    }
    return next;
}

void NameLookUps::forget_waiting() noexcept {
    for (auto& [name, host] : hosts_) {
        host.waiting.clear();
    }
}

}  // namespace headgate
