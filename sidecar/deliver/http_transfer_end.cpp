// What is read of a response, and what is made of it: the second half of http_transfer.h.
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "common/limits.h"
#include "sidecar/deliver/http_transfer.h"

namespace headgate {

namespace {

// A look-up of a name needs descriptors too, and does not say that it had none.
bool lacks_descriptors() noexcept {
    const int fd = eventfd(0, EFD_CLOEXEC);
    if (fd < 0) {
        return is_lacking(errno);
    }
    close(fd);
    return false;
}

}  // namespace

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

LocalFault HttpTransfer::local_fault(CURLcode code, int status) const noexcept {
    if (code == CURLE_OK || status != 0 || is_bad_url_ || blocked_request_) {
        return LocalFault::kNone;
    }
    if (has_too_many_look_ups_) {
        return LocalFault::kTooManyLookUps;
    }
    const bool may_lack = code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_SSL_CACERT_BADFILE;
    return lacks_socket_ || (may_lack && lacks_descriptors()) ? LocalFault::kNoSocket : LocalFault::kNone;
}

HttpResponse HttpTransfer::finish(CURLcode code) {
    look_ups_.ended(host_, this,
                    code == CURLE_COULDNT_RESOLVE_HOST ? NameLookUps::End::kNotFound : NameLookUps::End::kLeftBehind);
    long status = 0;
    if (is_bad_url_ || has_refused_tunnel() ||
        curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status) != CURLE_OK) {
        status = 0;
    }
    const HttpFailure failure = classify(code, static_cast<int>(status));
    HttpResponse response = std::move(response_);
    response.failure = failure;
    response.status = static_cast<int>(status);
    response.local_fault = local_fault(code, response.status);
    if (!request_.only_resolves) {
        response.addresses.clear();
    }
    if (response.local_fault != LocalFault::kNone) {
        response.failure = HttpFailure::kInterrupted;
        response.message = response.local_fault == LocalFault::kNoSocket
                               ? "not sent: this machine had no file descriptor or no memory for a socket"
                               : "not sent: too many look-ups of names are under way";
    } else if (response.failure == HttpFailure::kBlockedAddress) {
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
