// One request on one pooled libcurl easy handle, and the callbacks that bound it. Runs on the
// thread of http_client.cpp only.
#pragma once

#include <curl/curl.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sidecar/deliver/http_client.h"
#include "sidecar/deliver/name_look_ups.h"

namespace headgate {

// An errno of socket() and its like: what this machine lacks, whoever the peer may be.
[[nodiscard]] inline bool is_lacking(int error) noexcept {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

class HttpTransfer {
 public:
    // The options that never change are set once here. Throws std::runtime_error if libcurl refuses.
    HttpTransfer(const TargetGuard& guard, const HttpClientOptions& options, NameLookUps& look_ups);
    HttpTransfer(const HttpTransfer&) = delete;
    HttpTransfer& operator=(const HttpTransfer&) = delete;

    [[nodiscard]] CURL* easy() const noexcept { return easy_.get(); }
    // Sets the handle up for the request. False: its URL is not one that may be sent to (finish() says why).
    [[nodiscard]] bool start(HttpRequest request, HttpClient::Done done);
    // The handle is done, but the request is not: true when it should be added to the multi handle again.
    //   - A reused connection led where this organization may not go, but the host may have other addresses:
    //     once more, on a connection of its own.
    //   - The host was looked up and has addresses that are allowed: now through the proxy, to the first of them,
    //     and to the next when the proxy cannot reach that one.
    [[nodiscard]] bool goes_on() noexcept;
    // Ended before it began: another request's look-up of its host is under way. True at most once for each time.
    [[nodiscard]] bool waits_for_name() noexcept { return std::exchange(must_wait_, false); }
    [[nodiscard]] const std::string& host() const noexcept { return host_; }
    // A connection may take so long, the look-up included.
    [[nodiscard]] std::chrono::steady_clock::time_point waits_until() const noexcept;
    // After such a wait. False: its time is up.
    [[nodiscard]] bool resume() noexcept;
    // The response; the handle is ready for the next start().
    [[nodiscard]] HttpResponse finish(CURLcode code);
    [[nodiscard]] HttpResponse interrupt();
    [[nodiscard]] HttpClient::Done take_done() noexcept { return std::move(done_); }

 private:
    struct EasyDeleter {
        void operator()(CURL* easy) const noexcept { curl_easy_cleanup(easy); }
    };
    struct ListDeleter {
        void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
    };

    // Without a proxy there is one stage. With one, libcurl would leave the resolving of names to it, and hand the
    // guard nothing but the proxy's own address: so the name is looked up first, by a connection attempt that is
    // shown every address and opens none.
    enum class Stage : std::uint8_t { kDirect, kLookUp, kThroughProxy };

    template <typename Value>
    void set(CURLoption option, Value value);
    void link_headers();
    [[nodiscard]] HttpFailure classify(CURLcode code, int status) const noexcept;
    [[nodiscard]] LocalFault local_fault(CURLcode code, int status) const noexcept;
    [[nodiscard]] std::chrono::milliseconds timeout() const noexcept;
    [[nodiscard]] std::chrono::milliseconds time_left() const noexcept;
    [[nodiscard]] curl_socket_t open_socket(const curl_sockaddr& address) noexcept;
    [[nodiscard]] bool is_allowed(const IpAddress& address, std::uint16_t port);
    void enter(Stage stage);
    [[nodiscard]] bool connect_next();
    void note_address(const IpAddress& address, std::uint16_t port);
    [[nodiscard]] bool has_refused_tunnel() const noexcept;

    static int on_look_up(void* resolver, void* reserved, void* self) noexcept;
    static curl_socket_t on_open_socket(void* self, curlsocktype purpose, curl_sockaddr* address) noexcept;
    static int on_prerequest(void* self, char* remote_ip, char* local_ip, int remote_port, int local_port) noexcept;
    static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self) noexcept;
    static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self) noexcept;
    static int on_progress(void* self, curl_off_t download_total, curl_off_t downloaded, curl_off_t upload_total,
                           curl_off_t uploaded) noexcept;

    std::unique_ptr<curl_slist, ListDeleter> resolve_;                     // read by easy_
    std::unique_ptr<curl_slist, ListDeleter> connect_to_, proxy_headers_;  // read by easy_
    std::unique_ptr<CURL, EasyDeleter> easy_;
    const TargetGuard& guard_;
    const HttpProxy& proxy_;
    NameLookUps& look_ups_;
    HttpRequest request_;
    HttpClient::Done done_;
    std::vector<curl_slist> header_nodes_;  // into request_.headers; libcurl reads the list, and frees nothing
    HttpResponse response_;
    std::string blocked_because_;
    std::string url_;   // that the handle is set up for: mostly one webhook's again and again; empty: none
    std::string host_;  // of url_; empty: it is an address
    Stage stage_ = Stage::kDirect;
    bool is_set_up_ = false;  // for a direct request, as the last one left it
    std::uint16_t port_ = 0;
    std::vector<IpAddress> allowed_;  // of the look-up
    std::size_t next_allowed_ = 0;
    std::size_t header_bytes_ = 0;  // of all response heads, 1xx and trailers included
    std::size_t body_bytes_ = 0;    // inflated
    bool is_https_ = false;
    bool is_bad_url_ = false;
    bool opened_allowed_ = false;   // a socket was opened to an address that is allowed
    bool blocked_request_ = false;  // refused on the connection that libcurl had chosen
    bool must_wait_ = false;        // for another's look-up
    bool has_too_many_look_ups_ = false;
    bool lacks_socket_ = false;  // there was none to be had
    bool is_head_too_large_ = false;
    bool is_body_too_large_ = false;
    bool has_own_connection_ = false;
    std::chrono::steady_clock::time_point started_;
    char error_[CURL_ERROR_SIZE] = {};
};

}  // namespace headgate
