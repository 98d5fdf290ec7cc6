// The peer of the delivery rows: a plain libcurl multi loop that posts bodies and does nothing else. It
// reads no Redis, signs nothing, records nothing.
//
// Input: a URL, a file with one body per line (posted in turn), how many to post and how many at once.
// Output: one JSON object: posted, failed (anything but 2xx), and the seconds from before the first
// request is started to after the last answer.
#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr long kTimeoutMs = 30'000;
constexpr int kPollMs = 1'000;

// CURL and CURLM are both void to C++: each needs a closer of its own.
struct EasyCloser {
    void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
using Easy = std::unique_ptr<CURL, EasyCloser>;
struct MultiCloser {
    void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
using Multi = std::unique_ptr<CURLM, MultiCloser>;

struct Outcome {
    int posted = 0;
    int failed = 0;
    double seconds = 0;
};

void check(CURLMcode code) {
    if (code != CURLM_OK) {
        throw std::runtime_error(curl_multi_strerror(code));
    }
}

std::size_t discard(char*, std::size_t size, std::size_t count, void*) { return size * count; }

class Poster {
 public:
    Poster(std::string url, std::vector<std::string> bodies, int count, int in_flight)
        : url_(std::move(url)), bodies_(std::move(bodies)), count_(count), multi_(curl_multi_init()) {
        headers_ = curl_slist_append(headers_, "Content-Type: application/json");
        check(curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS, static_cast<long>(in_flight)));
        for (int i = 0; i < std::min(in_flight, count_); ++i) {
            handles_.push_back(make_handle());
        }
    }
    ~Poster() {
        for (const Easy& easy : handles_) {
            curl_multi_remove_handle(multi_.get(), easy.get());
        }
        curl_slist_free_all(headers_);
    }
    Poster(const Poster&) = delete;
    Poster& operator=(const Poster&) = delete;

    Outcome run() {
        const Clock::time_point begun = Clock::now();
        for (const Easy& easy : handles_) {
            post_next(easy.get());
        }
        while (outcome_.posted + outcome_.failed < count_) {
            int running = 0;
            check(curl_multi_perform(multi_.get(), &running));
            if (!take_finished()) {
                check(curl_multi_poll(multi_.get(), nullptr, 0, kPollMs, nullptr));
            }
        }
        outcome_.seconds = std::chrono::duration<double>(Clock::now() - begun).count();
        return outcome_;
    }

 private:
    Easy make_handle() {
        Easy easy(curl_easy_init());
        curl_easy_setopt(easy.get(), CURLOPT_URL, url_.c_str());
        curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers_);
        curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, discard);
        curl_easy_setopt(easy.get(), CURLOPT_TIMEOUT_MS, kTimeoutMs);
        curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy.get(), CURLOPT_PROXY, "");  // the environment's proxy is for others
        return easy;
    }

    void post_next(CURL* easy) {
        const std::string& body = bodies_[static_cast<std::size_t>(started_++) % bodies_.size()];
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.data());
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
        check(curl_multi_add_handle(multi_.get(), easy));
    }

    // Whether anything was finished, and so perhaps something new was started.
    bool take_finished() {
        bool any = false;
        int left = 0;
        while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
            CURL* easy = message->easy_handle;
            long status = 0;
            curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
            const bool ok = message->data.result == CURLE_OK && status >= 200 && status < 300;
            ++(ok ? outcome_.posted : outcome_.failed);
            check(curl_multi_remove_handle(multi_.get(), easy));
            if (started_ < count_) {
                post_next(easy);
            }
            any = true;
        }
        return any;
    }

    std::string url_;
    std::vector<std::string> bodies_;
    int count_;
    int started_ = 0;
    curl_slist* headers_ = nullptr;
    Multi multi_;
    std::vector<Easy> handles_;
    Outcome outcome_;
};

int parse_number(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value <= 0) {
        throw std::invalid_argument("not a positive number: " + std::string(text));
    }
    return value;
}

std::vector<std::string> read_lines(const char* path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) {
        lines.push_back(line);
    }
    if (lines.empty()) {
        throw std::runtime_error(std::string(path) + ": no bodies");
    }
    return lines;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 5) {
            throw std::invalid_argument("usage: curl_multi_post URL BODIES_FILE COUNT IN_FLIGHT");
        }
        curl_global_init(CURL_GLOBAL_DEFAULT);
        const Outcome outcome =
            Poster(argv[1], read_lines(argv[2]), parse_number(argv[3]), parse_number(argv[4])).run();
        std::printf("{\"posted\":%d,\"failed\":%d,\"seconds\":%.6f}\n", outcome.posted, outcome.failed,
                    outcome.seconds);
        curl_global_cleanup();
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "curl_multi_post: %s\n", error.what());
        return 1;
    }
}
