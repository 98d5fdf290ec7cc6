// Sends HTTP requests to endpoints that nobody vouches for: one thread around a libcurl multi
// handle, keep-alive over HTTP/1.1 and HTTP/2, every socket and every request checked by the
// TargetGuard, every response bounded in time and in bytes. Input: HttpRequest; output: HttpResponse,
// handed back in batches on the event loop. Used by the dispatcher, by the test button and by
// everything else that follows a URL of a customer.
//
// No redirects, no proxy of the environment, no cookies, TLS always verified. A proxy of the configuration takes
// nothing from the guard: names are resolved and checked here, and the proxy is asked to CONNECT to an address.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/deliver/target_guard.h"

namespace headgate {

// The header lines of one request in one buffer, as libcurl reads them.
class HeaderLines {
 public:
    void add(std::string_view name, std::string_view value);
    // "Name: value" NUL "Name: value" NUL …
    [[nodiscard]] std::string& bytes() noexcept { return bytes_; }

 private:
    std::string bytes_;
};

struct HttpRequest {
    std::string url;
    HeaderLines headers;
    std::shared_ptr<const std::string> body;  // null: GET; else POST, sent from here without a copy
    std::int64_t timeout_ms = 30'000;         // in total, from the start to the last byte of the response
    std::shared_ptr<const std::vector<std::string>> org_networks;  // as TargetGuard takes them; null: none
    // Looks the host up as a request would, and opens nothing. The answer is in `addresses`.
    bool only_resolves = false;
};

enum class HttpFailure : std::uint8_t {
    // There is a response, whatever its status. Of a 2xx no more than the first bytes of its body need be there: what
    // is too long is not read, and what cannot be decoded is left out.
    kNone,
    kTimeout,
    kConnection,
    kTls,
    kDns,
    kBlockedAddress,
    kResponseTooLarge,
    kInterrupted,  // by abort_all(), the end of the client, or a LocalFault
};
[[nodiscard]] std::string_view failure_name(HttpFailure failure) noexcept;  // the error_type of an attempt

// What kept a request from beginning here, on this machine.
enum class LocalFault : std::uint8_t {
    kNone,
    kNoSocket,        // no file descriptor, or no memory for a socket
    kTooManyLookUps,  // of names; see name_look_ups.h
};

struct HttpResponse {
    HttpFailure failure = HttpFailure::kNone;
    LocalFault local_fault = LocalFault::kNone;  // of kInterrupted
    std::string message;                         // of a failure; no secret in it
    int status = 0;                              // 0 = none was read
    std::string headers;                         // "Name: value" LF …, of the last response head
    std::string body;                            // decoded, its first kResponseKeptBytesMax bytes
    std::int64_t duration_ms = 0;
    std::vector<IpAddress> addresses;  // of a request that only resolves, each once
};

// The first value of a response header, without white space around it; empty when there is none.
[[nodiscard]] std::string_view find_header(std::string_view header_lines, std::string_view name) noexcept;
// {"Name":"value",…}; repeated headers are joined with a comma and a space.
[[nodiscard]] std::string headers_json(std::string_view header_lines);

// Of the operator, who vouches for it: its own address is not checked.
struct HttpProxy {
    std::string url;                 // http://host:port or https://host:port; empty: none
    std::string username, password;  // empty: it asks for none
};

struct HttpClientOptions {
    int connections_kept_max = 256;
    HttpProxy proxy;
    std::string ca_file;               // PEM; empty: the system's
    std::vector<std::string> resolve;  // "host:port:address[,address…]": answers in place of those of DNS
};

class HttpClient {
 public:
    // `done` runs on `executor`, several of them in one handler when they finished together.
    using Done = std::function<void(HttpResponse)>;

    HttpClient(boost::asio::any_io_executor executor, TargetGuard guard, HttpClientOptions options = {});
    // Whatever is in flight is reported as kInterrupted first.
    ~HttpClient();
    HttpClient(const HttpClient&) = delete;
    HttpClient& operator=(const HttpClient&) = delete;

    // Any thread. The caller bounds how many are in flight.
    void submit(HttpRequest request, Done done);
    boost::asio::awaitable<HttpResponse> send(HttpRequest request);
    // Ends everything in flight as kInterrupted; later requests are sent as usual. Any thread.
    void abort_all();
    [[nodiscard]] bool has_proxy() const noexcept;

 private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace headgate
