// What a single request may do, as libcurl options and callbacks. Next file: http_transfer_end.cpp, what is read of its
// response and what is made of it.
#include "sidecar/deliver/http_transfer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "common/base64url.h"
#include "common/limits.h"

namespace headgate {

namespace {

const std::vector<std::string> kNoNetworks;
constexpr std::size_t kAddressesMax = 64;        // remembered of one look-up
constexpr std::size_t kProxiedAddressesMax = 4;  // tried through a proxy

// The end of every header list: libcurl would wait up to a second for "100 Continue" before a body above 1 MiB.
char no_expect_line[] = "Expect:";
curl_slist no_expect = {no_expect_line, nullptr};

std::optional<std::pair<IpAddress, std::uint16_t>> address_of(const curl_sockaddr& socket_address) {
    if (socket_address.family == AF_INET) {
        sockaddr_in v4{};
        std::memcpy(&v4, &socket_address.addr, sizeof v4);
        return std::pair(ip_from_v4(ntohl(v4.sin_addr.s_addr)), ntohs(v4.sin_port));
    }
    if (socket_address.family == AF_INET6 && socket_address.addrlen >= sizeof(sockaddr_in6)) {
        // curl_sockaddr ends in a struct sockaddr with the longer address behind it.
        sockaddr_in6 v6{};
        std::memcpy(&v6, static_cast<const void*>(&socket_address.addr), sizeof v6);
        IpAddress address;
        std::memcpy(address.bytes.data(), &v6.sin6_addr, address.bytes.size());
        return std::pair(address, ntohs(v6.sin6_port));
    }
    return std::nullopt;
}

}  // namespace

template <typename Value>
void HttpTransfer::set(CURLoption option, Value value) {
    if (const CURLcode code = curl_easy_setopt(easy_.get(), option, value); code != CURLE_OK) {
        throw std::runtime_error("libcurl refuses option " + std::to_string(option) + ": " + curl_easy_strerror(code));
    }
}

HttpTransfer::HttpTransfer(const TargetGuard& guard, const HttpClientOptions& options, NameLookUps& look_ups)
    : easy_(curl_easy_init()), guard_(guard), proxy_(options.proxy), look_ups_(look_ups) {
    if (!easy_) {
        throw std::runtime_error("libcurl: no easy handle");
    }
    set(CURLOPT_PRIVATE, this);
    set(CURLOPT_ERRORBUFFER, error_);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_QUICK_EXIT, 1L);  // else a slow resolver thread stalls the whole loop when its request times out
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_PROXY, "");    // never what the environment says,
    set(CURLOPT_NOPROXY, "");  // nor what it excepts
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set(CURLOPT_HEADEROPT, static_cast<long>(CURLHEADER_SEPARATE));  // no header of a delivery is told to the proxy
    if (!proxy_.username.empty()) {
        // Some versions of libcurl percent-decode what they are given as name and password: so the header itself.
        const std::string line = "Proxy-Authorization: Basic " + base64_encode(proxy_.username + ":" + proxy_.password);
        proxy_headers_.reset(curl_slist_append(nullptr, line.c_str()));
        if (!proxy_headers_) {
            throw std::bad_alloc();
        }
        set(CURLOPT_PROXYHEADER, proxy_headers_.get());
    }
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
    set(CURLOPT_PATH_AS_IS, 1L);
    set(CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
    set(CURLOPT_SSL_VERIFYPEER, 1L);
    set(CURLOPT_SSL_VERIFYHOST, 2L);
    if (!options.ca_file.empty()) {
        set(CURLOPT_CAINFO, options.ca_file.c_str());
        set(CURLOPT_PROXY_CAINFO, options.ca_file.c_str());
    }
    for (const std::string& answer : options.resolve) {
        resolve_.reset(curl_slist_append(resolve_.release(), answer.c_str()));
    }
    if (resolve_) {
        set(CURLOPT_RESOLVE, resolve_.get());
    }
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(limits::kConnectTimeoutMs));
    set(CURLOPT_RESOLVER_START_FUNCTION, &HttpTransfer::on_look_up);
    set(CURLOPT_RESOLVER_START_DATA, this);
    set(CURLOPT_OPENSOCKETFUNCTION, &HttpTransfer::on_open_socket);
    set(CURLOPT_OPENSOCKETDATA, this);
    set(CURLOPT_PREREQFUNCTION, &HttpTransfer::on_prerequest);
    set(CURLOPT_PREREQDATA, this);
    set(CURLOPT_HEADERFUNCTION, &HttpTransfer::on_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_WRITEFUNCTION, &HttpTransfer::on_body);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_XFERINFOFUNCTION, &HttpTransfer::on_progress);
    set(CURLOPT_XFERINFODATA, this);
}

void HttpTransfer::link_headers() {
    std::string& bytes = request_.headers.bytes();
    header_nodes_.clear();
    for (std::size_t at = 0; at < bytes.size(); at = bytes.find('\0', at) + 1) {
        header_nodes_.push_back({bytes.data() + at, nullptr});
    }
    for (std::size_t i = 0; i < header_nodes_.size(); ++i) {
        header_nodes_[i].next = i + 1 < header_nodes_.size() ? &header_nodes_[i + 1] : &no_expect;
    }
    set(CURLOPT_HTTPHEADER, header_nodes_.empty() ? &no_expect : header_nodes_.data());
}

bool HttpTransfer::start(HttpRequest request, HttpClient::Done done) {
    request_ = std::move(request);
    done_ = std::move(done);
    response_ = {};
    blocked_because_.clear();
    allowed_.clear();
    next_allowed_ = 0;
    header_bytes_ = body_bytes_ = 0;
    is_bad_url_ = opened_allowed_ = blocked_request_ = has_own_connection_ = false;
    is_head_too_large_ = is_body_too_large_ = false;
    must_wait_ = has_too_many_look_ups_ = lacks_socket_ = false;
    error_[0] = '\0';
    started_ = std::chrono::steady_clock::now();
    if (url_.empty() || url_ != request_.url) {
        url_.clear();
        const auto target = parse_target_url(request_.url);
        if (!target) {
            is_bad_url_ = true;
            blocked_because_ = target.error().message;
            return false;
        }
        is_https_ = target->scheme == "https";
        port_ = target->port;
        host_ = target->is_literal_address ? std::string() : target->host;
        set(CURLOPT_URL, request_.url.c_str());
        url_ = request_.url;
    }
    link_headers();
    if (request_.body) {
        set(CURLOPT_POST, 1L);
        set(CURLOPT_POSTFIELDS, request_.body->data());
        set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request_.body->size()));
    } else {
        set(CURLOPT_HTTPGET, 1L);
    }
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(timeout().count()));
    set(CURLOPT_NOPROGRESS, 1L);
    enter(request_.only_resolves || !proxy_.url.empty() ? Stage::kLookUp : Stage::kDirect);
    return true;
}

std::chrono::milliseconds HttpTransfer::timeout() const noexcept {
    return std::chrono::milliseconds(std::clamp<std::int64_t>(request_.timeout_ms, 1, limits::kDeliveryTimeoutMsMax));
}

std::chrono::milliseconds HttpTransfer::time_left() const noexcept {
    return std::chrono::duration_cast<std::chrono::milliseconds>(started_ + timeout() -
                                                                 std::chrono::steady_clock::now());
}

std::chrono::steady_clock::time_point HttpTransfer::waits_until() const noexcept {
    return started_ + std::min(timeout(), std::chrono::milliseconds(limits::kConnectTimeoutMs));
}

bool HttpTransfer::resume() noexcept {
    if (std::chrono::steady_clock::now() >= waits_until()) {
        constexpr std::string_view kLate = "the look-up of the host's name took too long";
        kLate.copy(error_, kLate.size());
        error_[kLate.size()] = '\0';
        return false;
    }
    error_[0] = '\0';
    const auto left = time_left().count();
    return left > 0 && curl_easy_setopt(easy_.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(left)) == CURLE_OK;
}

void HttpTransfer::enter(Stage stage) {
    stage_ = stage;
    if (stage == Stage::kDirect && is_set_up_) {
        return;
    }
    is_set_up_ = stage == Stage::kDirect;
    set(CURLOPT_FRESH_CONNECT, stage == Stage::kLookUp ? 1L : 0L);
    set(CURLOPT_PROXY, stage == Stage::kThroughProxy ? proxy_.url.c_str() : "");
    set(CURLOPT_HTTPPROXYTUNNEL, stage == Stage::kThroughProxy ? 1L : 0L);
    if (stage != Stage::kThroughProxy) {
        set(CURLOPT_CONNECT_TO, static_cast<curl_slist*>(nullptr));
        connect_to_.reset();
    }
}

// A tunnel to the next address that was allowed; false when there is none, or no time. A kept tunnel is reused for
// the same host and the same address only: libcurl compares CURLOPT_CONNECT_TO as well.
bool HttpTransfer::connect_next() {
    const auto left = time_left().count();
    if (next_allowed_ >= std::min(allowed_.size(), kProxiedAddressesMax) || left <= 0) {
        return false;
    }
    const IpAddress& address = allowed_[next_allowed_++];
    const std::string text = address.is_v4() ? address.to_string() : "[" + address.to_string() + "]";
    std::unique_ptr<curl_slist, ListDeleter> list(
        curl_slist_append(nullptr, ("::" + text + ":" + std::to_string(port_)).c_str()));
    if (!list) {
        return false;
    }
    enter(Stage::kThroughProxy);
    set(CURLOPT_CONNECT_TO, list.get());
    connect_to_ = std::move(list);
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(left));
    blocked_because_.clear();
    error_[0] = '\0';
    return true;
}

bool HttpTransfer::has_refused_tunnel() const noexcept {
    long code = 0;
    return stage_ == Stage::kThroughProxy &&
           curl_easy_getinfo(easy_.get(), CURLINFO_HTTP_CONNECTCODE, &code) == CURLE_OK && code != 0 &&
           (code < 200 || code > 299);
}

bool HttpTransfer::goes_on() noexcept {
    try {
        if (stage_ == Stage::kLookUp) {
            return !request_.only_resolves && connect_next();
        }
        if (stage_ == Stage::kThroughProxy) {
            return has_refused_tunnel() && connect_next();
        }
    } catch (...) {  // out of memory: what there is of an answer is the answer
        return false;
    }
    if (!blocked_request_ || opened_allowed_ || has_own_connection_) {
        return false;
    }
    has_own_connection_ = true;
    blocked_request_ = false;
    is_set_up_ = false;
    return curl_easy_setopt(easy_.get(), CURLOPT_FRESH_CONNECT, 1L) == CURLE_OK;
}

bool HttpTransfer::is_allowed(const IpAddress& address, std::uint16_t port) {
    const auto& networks = request_.org_networks ? *request_.org_networks : kNoNetworks;
    if (guard_.check(address, port, is_https_, networks) == TargetVerdict::kAllowed) {
        return true;
    }
    blocked_because_ = guard_.explain(address, port, is_https_, networks);
    return false;
}

void HttpTransfer::note_address(const IpAddress& address, std::uint16_t port) {
    auto& all = response_.addresses;
    if (std::find(all.begin(), all.end(), address) != all.end() || all.size() >= kAddressesMax) {
        return;
    }
    all.push_back(address);
    if (is_allowed(address, port)) {
        allowed_.push_back(address);
    }
}

// libcurl does not find the host among the names that it remembers. Not 0: the request ends.
int HttpTransfer::on_look_up(void*, void*, void* self) noexcept {
    auto& transfer = *static_cast<HttpTransfer*>(self);
    if (transfer.host_.empty() || transfer.stage_ == Stage::kThroughProxy) {
        return 0;  // an address, or the operator's own proxy
    }
    try {
        switch (transfer.look_ups_.begin(transfer.host_, &transfer, std::chrono::steady_clock::now())) {
            case NameLookUps::Answer::kBegin:
                return 0;
            case NameLookUps::Answer::kWait:
                transfer.must_wait_ = true;
                return 1;
            case NameLookUps::Answer::kTooMany:
                break;
        }
    } catch (...) {  // out of memory: not now
    }
    transfer.has_too_many_look_ups_ = true;
    return 1;
}

curl_socket_t HttpTransfer::open_socket(const curl_sockaddr& address) noexcept {
    opened_allowed_ = true;
    const int fd = socket(address.family, address.socktype | SOCK_CLOEXEC, address.protocol);
    lacks_socket_ = lacks_socket_ || (fd < 0 && is_lacking(errno));
    return fd;
}

curl_socket_t HttpTransfer::on_open_socket(void* self, curlsocktype, curl_sockaddr* address) noexcept {
    auto& transfer = *static_cast<HttpTransfer*>(self);
    try {
        transfer.look_ups_.ended(transfer.host_, &transfer, NameLookUps::End::kFound);
        if (transfer.stage_ == Stage::kThroughProxy) {
            return transfer.open_socket(*address);  // to the proxy itself
        }
        const auto target = address_of(*address);
        if (target && transfer.stage_ == Stage::kLookUp) {
            transfer.note_address(target->first, target->second);
            return CURL_SOCKET_BAD;
        }
        if (!target || !transfer.is_allowed(target->first, target->second)) {
            return CURL_SOCKET_BAD;
        }
    } catch (...) {
        return CURL_SOCKET_BAD;  // out of memory: refused
    }
    return transfer.open_socket(*address);
}

// Runs for every request, on a new connection and on a reused one. A new connection has passed
// on_open_socket; a reused one may have been opened for an organization that is allowed more.
int HttpTransfer::on_prerequest(void* self, char* remote_ip, char*, int remote_port, int) noexcept {
    auto& transfer = *static_cast<HttpTransfer*>(self);
    try {
        transfer.look_ups_.ended(transfer.host_, &transfer, NameLookUps::End::kFound);
        if (transfer.stage_ == Stage::kThroughProxy) {  // `remote_ip` is the proxy's
            const auto& addresses = transfer.allowed_;
            const std::size_t next = transfer.next_allowed_;
            if (next > 0 && next <= addresses.size() && transfer.is_allowed(addresses[next - 1], transfer.port_)) {
                return CURL_PREREQFUNC_OK;
            }
            transfer.blocked_request_ = true;
            return CURL_PREREQFUNC_ABORT;
        }
        const auto address = parse_ip(remote_ip == nullptr ? "" : remote_ip);
        if (address && remote_port > 0 && remote_port <= 65535 &&
            transfer.is_allowed(*address, static_cast<std::uint16_t>(remote_port))) {
            return CURL_PREREQFUNC_OK;
        }
    } catch (...) {  // out of memory: refused
    }
    transfer.blocked_request_ = true;
    return CURL_PREREQFUNC_ABORT;
}

}  // namespace headgate
