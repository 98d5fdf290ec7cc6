// The loop around the multi handle: takes what was submitted, lets libcurl work on the sockets that are ready, hands
// back what has finished. libcurl names the sockets and the time that it waits for, and epoll waits for them: a turn of
// the loop costs what has happened in it, however many requests are in flight. Next file: http_transfer.cpp, what a
// single request may do.
#include "sidecar/deliver/http_client.h"

#include <curl/curl.h>
#include <spdlog/spdlog.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <unordered_map>
#include <utility>

#include "common/problem.h"
#include "sidecar/deliver/http_transfer.h"

namespace headgate {

namespace asio = boost::asio;

namespace {

void initialize_curl_once() {
    static const CURLcode kCode = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (kCode != CURLE_OK) {
        throw std::runtime_error(std::string("libcurl: ") + curl_easy_strerror(kCode));
    }
}

class FileDescriptor {
 public:
    explicit FileDescriptor(int fd) : fd_(fd) {
        if (fd_ < 0) {
            throw std::runtime_error("the HTTP client has no file descriptors");
        }
    }
    ~FileDescriptor() { close(fd_); }
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    [[nodiscard]] int get() const noexcept { return fd_; }

 private:
    int fd_;
};

struct MultiDeleter {
    void operator()(CURLM* multi) const noexcept { curl_multi_cleanup(multi); }
};

std::string_view trimmed_value(std::string_view text) noexcept {
    const std::size_t begin = text.find_first_not_of(" \t");
    const std::size_t end = text.find_last_not_of(" \t");
    return begin == std::string_view::npos ? std::string_view{} : text.substr(begin, end - begin + 1);
}

// Calls each(name, value) for every line until it returns false.
template <typename Each>
void for_each_header(std::string_view lines, Each each) {
    while (!lines.empty()) {
        const std::size_t end = lines.find('\n');
        const std::string_view line = lines.substr(0, end);
        const std::size_t colon = line.find(':');
        if (colon != std::string_view::npos && !each(line.substr(0, colon), trimmed_value(line.substr(colon + 1)))) {
            return;
        }
        lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
    }
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
    return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

std::string_view failure_name(HttpFailure failure) noexcept {
    switch (failure) {
        case HttpFailure::kNone:
            break;
        case HttpFailure::kTimeout:
            return "timeout";
        case HttpFailure::kConnection:
            return "connection_error";
        case HttpFailure::kTls:
            return "tls_error";
        case HttpFailure::kDns:
            return "dns_error";
        case HttpFailure::kBlockedAddress:
            return "blocked_address";
        case HttpFailure::kResponseTooLarge:
            return "response_too_large";
        case HttpFailure::kInterrupted:
            return "interrupted";
    }
    return "";
}

void HeaderLines::add(std::string_view name, std::string_view value) {
    const std::string_view text = trimmed_value(value);
    bytes_ += name;
    // To libcurl "Name:" means "leave this header out"; "Name;" is the one with an empty value.
    bytes_ += text.empty() ? ";" : ": ";
    bytes_ += text;
    bytes_ += '\0';
}

std::string_view find_header(std::string_view header_lines, std::string_view name) noexcept {
    std::string_view found;
    for_each_header(header_lines, [&](std::string_view each, std::string_view value) {
        if (!equal_ignoring_case(each, name)) {
            return true;
        }
        found = value;
        return false;
    });
    return found;
}

std::string headers_json(std::string_view header_lines) {
    std::vector<std::pair<std::string_view, std::string>> headers;
    std::unordered_map<std::string, std::size_t> index_of;
    for_each_header(header_lines, [&](std::string_view name, std::string_view value) {
        std::string key(name);
        std::transform(key.begin(), key.end(), key.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
        const auto [entry, is_new] = index_of.emplace(std::move(key), headers.size());
        if (is_new) {
            headers.emplace_back(name, value);
        } else {
            headers[entry->second].second.append(", ").append(value);
        }
        return true;
    });
    std::string json = "{";
    for (const auto& [name, value] : headers) {
        if (json.size() > 1) {
            json += ',';
        }
        append_json_string(json, name);
        json += ':';
        append_json_string(json, value);
    }
    json += '}';
    return json;
}

struct HttpClient::Impl {
    struct Submission {
        HttpRequest request;
        Done done;
    };
    struct Completion {
        Done done;
        HttpResponse response;
    };

    asio::any_io_executor executor;
    const TargetGuard guard;
    const HttpClientOptions options;
    // libcurl calls back with sockets that it closes, so they outlive it.
    FileDescriptor poller{epoll_create1(EPOLL_CLOEXEC)};
    FileDescriptor waker{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    std::optional<std::chrono::steady_clock::time_point> due_at;  // libcurl's next time-out
    std::unique_ptr<CURLM, MultiDeleter> multi;

    std::mutex mutex;
    std::vector<Submission> submitted;  // guarded by mutex, like the next two
    bool is_aborting = false;
    bool is_stopping = false;

    // Of the thread alone. Transfers outlive their time in the multi handle.
    std::vector<std::unique_ptr<HttpTransfer>> idle;
    std::unordered_map<HttpTransfer*, std::unique_ptr<HttpTransfer>> active;
    std::vector<Completion> completions;
    std::thread thread;

    Impl(asio::any_io_executor executor, TargetGuard guard, HttpClientOptions options)
        : executor(std::move(executor)), guard(std::move(guard)), options(std::move(options)) {
        initialize_curl_once();
        multi.reset(curl_multi_init());
        if (!multi) {
            throw std::runtime_error("libcurl: no multi handle");
        }
        curl_multi_setopt(multi.get(), CURLMOPT_MAXCONNECTS, static_cast<long>(this->options.connections_kept_max));
        curl_multi_setopt(multi.get(), CURLMOPT_SOCKETFUNCTION, &Impl::on_socket);
        curl_multi_setopt(multi.get(), CURLMOPT_SOCKETDATA, this);
        curl_multi_setopt(multi.get(), CURLMOPT_TIMERFUNCTION, &Impl::on_timer);
        curl_multi_setopt(multi.get(), CURLMOPT_TIMERDATA, this);
        epoll_event event{.events = EPOLLIN, .data = {.fd = waker.get()}};
        if (epoll_ctl(poller.get(), EPOLL_CTL_ADD, waker.get(), &event) != 0) {
            throw std::runtime_error("the HTTP client cannot be woken");
        }
        idle.push_back(std::make_unique<HttpTransfer>(this->guard, this->options));  // refused options fail at start
        thread = std::thread([this] { run(); });
    }

    ~Impl() {
        {
            const std::lock_guard lock(mutex);
            is_stopping = true;
        }
        wake();
        thread.join();
    }

    void wake() const noexcept { eventfd_write(waker.get(), 1); }

    // libcurl waits for these events of the socket from now on. It says so before it closes one.
    static int on_socket(CURL*, curl_socket_t socket, int what, void* self, void* is_known) noexcept {
        auto& impl = *static_cast<Impl*>(self);
        const int poller = impl.poller.get();
        if (what == CURL_POLL_REMOVE) {
            epoll_ctl(poller, EPOLL_CTL_DEL, socket, nullptr);
            return 0;
        }
        epoll_event event{.events = 0, .data = {.fd = socket}};
        event.events |= (what & CURL_POLL_IN) != 0 ? EPOLLIN : 0U;
        event.events |= (what & CURL_POLL_OUT) != 0 ? EPOLLOUT : 0U;
        if (is_known == nullptr) {
            curl_multi_assign(impl.multi.get(), socket, self);
        }
        if (epoll_ctl(poller, is_known == nullptr ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, socket, &event) == 0) {
            return 0;
        }
        const int other = errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
        return epoll_ctl(poller, other, socket, &event) == 0 ? 0 : -1;
    }

    static int on_timer(CURLM*, long timeout_ms, void* self) noexcept {
        auto& due_at = static_cast<Impl*>(self)->due_at;
        due_at.reset();
        if (timeout_ms >= 0) {
            due_at = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
        }
        return 0;
    }

    // At most this long; a millisecond more than libcurl asked for rather than turning in a circle.
    [[nodiscard]] int wait_ms() const {
        constexpr std::int64_t kWaitMsMax = 10'000;
        if (!due_at) {
            return static_cast<int>(kWaitMsMax);
        }
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(*due_at - std::chrono::steady_clock::now());
        return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, kWaitMsMax));
    }

    void work_on_sockets() {
        std::array<epoll_event, 64> events{};
        const int count = epoll_wait(poller.get(), events.data(), static_cast<int>(events.size()), wait_ms());
        int running = 0;
        for (int i = 0; i < count; ++i) {
            const epoll_event& event = events[static_cast<std::size_t>(i)];
            if (event.data.fd == waker.get()) {
                eventfd_t ignored = 0;
                eventfd_read(waker.get(), &ignored);
                continue;
            }
            int what = 0;
            what |= (event.events & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0;
            what |= (event.events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0;
            what |= (event.events & (EPOLLERR | EPOLLHUP)) != 0 ? CURL_CSELECT_ERR : 0;
            curl_multi_socket_action(multi.get(), event.data.fd, what, &running);
        }
    }

    void work_on_time() {
        if (due_at && *due_at <= std::chrono::steady_clock::now()) {
            due_at.reset();
            int running = 0;
            curl_multi_socket_action(multi.get(), CURL_SOCKET_TIMEOUT, 0, &running);
        }
    }

    void submit(HttpRequest request, Done done) {
        bool was_empty = false;
        {
            const std::lock_guard lock(mutex);
            was_empty = submitted.empty();
            submitted.push_back({std::move(request), std::move(done)});
        }
        if (was_empty) {
            wake();
        }
    }

    void start(Submission submission) {
        std::unique_ptr<HttpTransfer> transfer;
        if (idle.empty()) {
            transfer = std::make_unique<HttpTransfer>(guard, options);
        } else {
            transfer = std::move(idle.back());
            idle.pop_back();
        }
        HttpTransfer* const raw = transfer.get();
        active.emplace(raw, std::move(transfer));
        if (!raw->start(std::move(submission.request), std::move(submission.done))) {
            complete(raw, raw->finish(CURLE_URL_MALFORMAT));
        } else if (curl_multi_add_handle(multi.get(), raw->easy()) != CURLM_OK) {
            complete(raw, raw->finish(CURLE_FAILED_INIT));
        }
    }

    void complete(HttpTransfer* transfer, HttpResponse response) {
        completions.push_back({transfer->take_done(), std::move(response)});
        const auto found = active.find(transfer);
        idle.push_back(std::move(found->second));
        active.erase(found);
    }

    void collect() {
        int left = 0;
        while (const CURLMsg* message = curl_multi_info_read(multi.get(), &left)) {
            if (message->msg != CURLMSG_DONE) {
                continue;
            }
            const CURLcode code = message->data.result;
            CURL* const easy = message->easy_handle;
            char* self = nullptr;
            curl_easy_getinfo(easy, CURLINFO_PRIVATE, &self);
            auto* const transfer = reinterpret_cast<HttpTransfer*>(self);
            curl_multi_remove_handle(multi.get(), easy);
            if (transfer->goes_on() && curl_multi_add_handle(multi.get(), easy) == CURLM_OK) {
                continue;
            }
            complete(transfer, transfer->finish(code));
        }
    }

    void interrupt_active() {
        while (!active.empty()) {
            HttpTransfer* const transfer = active.begin()->first;
            curl_multi_remove_handle(multi.get(), transfer->easy());
            complete(transfer, transfer->interrupt());
        }
    }

    void hand_back() {
        if (completions.empty()) {
            return;
        }
        asio::post(executor, [batch = std::exchange(completions, {})]() mutable {
            for (Completion& completion : batch) {
                completion.done(std::move(completion.response));
            }
        });
    }

    void run() {
        // OpenSSL writes without MSG_NOSIGNAL, and libcurl leaves SIGPIPE alone under CURLOPT_NOSIGNAL.
        sigset_t pipe_signal;
        sigemptyset(&pipe_signal);
        sigaddset(&pipe_signal, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &pipe_signal, nullptr);
        std::vector<Submission> batch;
        for (;;) {
            bool aborts = false;
            bool stops = false;
            {
                const std::lock_guard lock(mutex);
                batch.swap(submitted);
                stops = is_stopping;
                aborts = std::exchange(is_aborting, false) || stops;
            }
            for (Submission& submission : batch) {
                start(std::move(submission));
            }
            batch.clear();
            if (aborts) {
                interrupt_active();
            }
            work_on_time();
            collect();
            hand_back();
            if (stops) {
                idle.clear();
                return;
            }
            work_on_sockets();
            collect();
        }
    }
};

HttpClient::HttpClient(asio::any_io_executor executor, TargetGuard guard, HttpClientOptions options)
    : impl_(std::make_unique<Impl>(std::move(executor), std::move(guard), std::move(options))) {}

HttpClient::~HttpClient() = default;

void HttpClient::submit(HttpRequest request, Done done) { impl_->submit(std::move(request), std::move(done)); }

bool HttpClient::has_proxy() const noexcept { return !impl_->options.proxy.url.empty(); }

void HttpClient::abort_all() {
    {
        const std::lock_guard lock(impl_->mutex);
        impl_->is_aborting = true;
    }
    impl_->wake();
}

namespace {

// Starts the request of an awaiting coroutine. Its handler can only be moved, and std::function copies.
struct SendInitiation {
    template <typename Handler>
    void operator()(Handler handler, HttpClient* client, HttpRequest request) const {
        // Tracked: the loop has work as long as the request is on its way.
        auto executor = asio::prefer(asio::get_associated_executor(handler), asio::execution::outstanding_work.tracked);
        auto shared = std::make_shared<Handler>(std::move(handler));
        client->submit(std::move(request), [shared, executor](HttpResponse response) {
            asio::dispatch(executor, [shared, response = std::move(response)]() mutable {
                std::move (*shared)(std::move(response));
            });
        });
    }
};

}  // namespace

asio::awaitable<HttpResponse> HttpClient::send(HttpRequest request) {
    co_return co_await asio::async_initiate<const asio::use_awaitable_t<>&, void(HttpResponse)>(
        SendInitiation{}, asio::use_awaitable, this, std::move(request));
}

}  // namespace headgate
