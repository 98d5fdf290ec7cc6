// Bounds the look-ups of hosts' names. libcurl runs each in a thread of its own, and when the request's time is up it
// leaves the thread behind, for as long as the resolver takes: nobody can end it. So a host is looked up once at a
// time, and requests to it wait for that one; and no look-up begins while kLookUpsMax threads are at it, left behind or
// not. Of the thread of http_client.cpp alone. Input: http_transfer.cpp, as look-ups begin and end; output: whose turn
// it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace headgate {

class HttpTransfer;

// At a time in the process, those left behind included.
inline constexpr int kLookUpsMax = 64;
inline constexpr int kLookUpsKnownMax = 96;  // of names that were found before

class NameLookUps {
 public:
    using TimePoint = std::chrono::steady_clock::time_point;
    enum class Answer : std::uint8_t {
        kBegin,
        kWait,     // another request's look-up of the same name is under way
        kTooMany,  // not now
    };

    // Counts the process' threads: those that come later are taken for look-ups.
    NameLookUps();

    enum class End : std::uint8_t { kFound, kNotFound, kLeftBehind };

    [[nodiscard]] Answer begin(const std::string& host, const HttpTransfer* who, TimePoint now);
    // Nothing when `who` has begun none.
    void ended(const std::string& host, const HttpTransfer* who, End end);

    // It is among the ready when the host's look-up has ended, or at `deadline`.
    void wait(const std::string& host, HttpTransfer* who, TimePoint deadline);
    [[nodiscard]] std::vector<HttpTransfer*> take_ready(TimePoint now);
    [[nodiscard]] std::optional<TimePoint> next_deadline() const;
    void forget_waiting() noexcept;

 private:
    struct Waiting {
        HttpTransfer* who;
        TimePoint deadline;
    };
    struct Host {
        const HttpTransfer* leader = nullptr;  // whose look-up it is
        TimePoint busy_until;                  // without a leader: it was left behind, and is taken to go on until then
        std::vector<Waiting> waiting;
    };

    std::unordered_map<std::string, Host> hosts_;
    std::unordered_set<std::string> known_;  // found before; a part of them, when they are very many
    bool has_ended_ = false;                 // one of them has no leader
    std::int64_t threads_before_ = 0;
};

}  // namespace headgate
