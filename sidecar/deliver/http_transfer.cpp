// What a single request may do, as libcurl options and callbacks.
#include "sidecar/deliver/http_transfer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>

#include <algorithm>
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

HttpTransfer::HttpTransfer(const TargetGuard& guard, const HttpClientOptions& options)
    : easy_(curl_easy_init()), guard_(guard), proxy_(options.proxy) {
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
    set(CURLOPT_TIMEOUT_MS,
        static_cast<long>(std::clamp<std::int64_t>(request_.timeout_ms, 1, limits::kDeliveryTimeoutMsMax)));
    set(CURLOPT_NOPROGRESS, 1L);
    enter(request_.only_resolves || !proxy_.url.empty() ? Stage::kLookUp : Stage::kDirect);
    return true;
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
    const auto spent =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started_).count();
    const std::int64_t left = std::clamp<std::int64_t>(request_.timeout_ms, 1, limits::kDeliveryTimeoutMsMax) - spent;
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

curl_socket_t HttpTransfer::on_open_socket(void* self, curlsocktype, curl_sockaddr* address) noexcept {
    auto& transfer = *static_cast<HttpTransfer*>(self);
    try {
        if (transfer.stage_ == Stage::kThroughProxy) {
            transfer.opened_allowed_ = true;  // the proxy itself
            return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
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
    transfer.opened_allowed_ = true;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

// Runs for every request, on a new connection and on a reused one. A new connection has passed
// on_open_socket; a reused one may have been opened for an organization that is allowed more.
int HttpTransfer::on_prerequest(void* self, char* remote_ip, char*, int remote_port, int) noexcept {
    auto& transfer = *static_cast<HttpTransfer*>(self);
    try {
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

std::size_t HttpTransfer::on_header(char* data, std::size_t size, std::size_t count, void* self) noexcept {
    auto& transfer = *static_cast<HttpTransfer*>(self);
    std::string_view line(data, size * count);
    transfer.header_bytes_ += line.size();
    if (transfer.header_bytes_ > limits::kResponseHeaderBytesMax) {
        transfer.is_head_too_large_ = true;
        return 0;
    }
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) {
        line.remove_suffix(1);
    }
    constexpr std::string_view kEncoding = "content-encoding:";
    if (line.size() > kEncoding.size() && strncasecmp(line.data(), kEncoding.data(), kEncoding.size()) == 0) {
        // Compressed bytes can inflate to nothing at all, for ever: on_progress counts them as they come.
        curl_easy_setopt(transfer.easy_.get(), CURLOPT_NOPROGRESS, 0L);
    }
    try {
        if (line.starts_with("HTTP/")) {
            transfer.response_.headers.clear();  // what came before was an interim response (1xx)
        } else if (!line.empty()) {
            transfer.response_.headers.append(line).push_back('\n');
        }
    } catch (...) {
        return 0;
    }
    return size * count;
}

std::size_t HttpTransfer::on_body(char* data, std::size_t size, std::size_t count, void* self) noexcept {
    auto& transfer = *static_cast<HttpTransfer*>(self);
    const std::size_t bytes = size * count;
    transfer.body_bytes_ += bytes;
    try {
        std::string& body = transfer.response_.body;
        body.append(data, std::min(bytes, limits::kResponseKeptBytesMax - body.size()));
    } catch (...) {
        return 0;
    }
    if (transfer.body_bytes_ > limits::kResponseReadBytesMax) {
        transfer.is_body_too_large_ = true;
        return 0;
    }
    return bytes;
}

int HttpTransfer::on_progress(void* self, curl_off_t, curl_off_t downloaded, curl_off_t, curl_off_t) noexcept {
    auto& transfer = *static_cast<HttpTransfer*>(self);
    if (downloaded <= static_cast<curl_off_t>(limits::kResponseReadBytesMax)) {
        return 0;
    }
    transfer.is_body_too_large_ = true;
    return 1;
}

HttpFailure HttpTransfer::classify(CURLcode code, int status) const noexcept {
    if (is_bad_url_ || blocked_request_) {
        return HttpFailure::kBlockedAddress;
    }
    if (is_head_too_large_) {
        return HttpFailure::kResponseTooLarge;
    }
    if (is_body_too_large_) {
        // It said yes before it said too much: another attempt would only make it do its work again.
        return status >= 200 && status <= 299 ? HttpFailure::kNone : HttpFailure::kResponseTooLarge;
    }
    if (request_.only_resolves && !response_.addresses.empty()) {
        return HttpFailure::kNone;
    }
    switch (code) {
        case CURLE_OK:
            return HttpFailure::kNone;
        case CURLE_BAD_CONTENT_ENCODING:  // the head could be read, and the status is what counts
            return status != 0 ? HttpFailure::kNone : HttpFailure::kConnection;
        case CURLE_OPERATION_TIMEDOUT:
            return HttpFailure::kTimeout;
        case CURLE_COULDNT_RESOLVE_HOST:
            return HttpFailure::kDns;
        case CURLE_OUT_OF_MEMORY:  // what libcurl says of a header line beyond its own bound of 100 KiB
            return HttpFailure::kResponseTooLarge;
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CIPHER:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_ISSUER_ERROR:
        case CURLE_SSL_INVALIDCERTSTATUS:
            return HttpFailure::kTls;
        default:
            // Every address was refused: that is our answer, not the network's.
            return !blocked_because_.empty() && !opened_allowed_ ? HttpFailure::kBlockedAddress
                                                                 : HttpFailure::kConnection;
    }
}

HttpResponse HttpTransfer::finish(CURLcode code) {
    long status = 0;
    if (is_bad_url_ || has_refused_tunnel() ||
        curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status) != CURLE_OK) {
        status = 0;
    }
    const HttpFailure failure = classify(code, static_cast<int>(status));
    HttpResponse response = std::move(response_);
    response.failure = failure;
    response.status = static_cast<int>(status);
    if (!request_.only_resolves) {
        response.addresses.clear();
    }
    if (response.failure == HttpFailure::kBlockedAddress) {
        response.message = std::move(blocked_because_);
    } else if (response.failure == HttpFailure::kResponseTooLarge) {
        response.message = "the response exceeds what is read of one";
    } else if (has_refused_tunnel()) {
        response.message = "the proxy refused to connect to the endpoint";
    } else if (stage_ == Stage::kThroughProxy &&
               (code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_COULDNT_CONNECT)) {
        response.message = "the proxy cannot be reached";  // where it is, is the operator's affair
    } else if (response.failure != HttpFailure::kNone) {
        response.message = error_[0] != '\0' ? error_ : curl_easy_strerror(code);
    }
    response.duration_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started_).count();
    request_ = {};
    return response;
}

HttpResponse HttpTransfer::interrupt() {
    HttpResponse response = finish(CURLE_ABORTED_BY_CALLBACK);
    response.failure = HttpFailure::kInterrupted;
    response.message = "interrupted";
    return response;
}

}  // namespace headgate
