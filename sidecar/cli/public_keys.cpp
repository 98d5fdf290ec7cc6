// See public_keys.h.
#include "sidecar/cli/public_keys.h"

#include <curl/curl.h>

#include <fstream>
#include <memory>

#include "common/limits.h"
#include "common/webhook_signature.h"

namespace headgate {
namespace {

constexpr long kFetchTimeoutSeconds = 10;

struct FetchDeleter {
    void operator()(CURL* handle) const noexcept { curl_easy_cleanup(handle); }
};

std::size_t append_keys(char* data, std::size_t, std::size_t bytes, void* out) {
    auto& answer = *static_cast<std::string*>(out);
    if (answer.size() + bytes > limits::kKeySetBytesMax) return 0;
    answer.append(data, bytes);
    return bytes;
}

Result<std::string> fetch(const std::string& url) {
    std::unique_ptr<CURL, FetchDeleter> curl(curl_easy_init());
    if (!curl) return fail(ErrorCode::kInternal, "libcurl cannot be started");
    std::string body;
    curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, append_keys);
    curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, kFetchTimeoutSeconds);
    curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
    const CURLcode code = curl_easy_perform(curl.get());
    if (code != CURLE_OK) return fail(ErrorCode::kUnavailable, url + ": " + curl_easy_strerror(code));
    long status = 0;
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) return fail(ErrorCode::kUnavailable, url + " answered " + std::to_string(status));
    return body;
}

Result<KeySet> key_set_from_public_key(std::string_view text) {
    const auto bytes = webhook_public_key_bytes(text);
    if (!bytes) return fail(ErrorCode::kInvalidArgument, "no public key: it is whpk_ and base64 of 32 bytes");
    auto material = KeyMaterial::from_ed25519(*bytes);
    if (!material) return tl::unexpected(material.error());
    KeySet set;
    set.keys.push_back({(*material)->thumbprint(), (*material)->algorithms(), std::move(*material)});
    return set;
}

}  // namespace

Result<KeySet> read_public_keys(const std::string& where) {
    if (where.starts_with("whpk_")) return key_set_from_public_key(where);
    if (where.starts_with("http://") || where.starts_with("https://")) {
        auto body = fetch(where);
        if (!body) return tl::unexpected(body.error());
        auto keys = key_set_from_jwks(*body);
        if (!keys) return fail(ErrorCode::kInvalidArgument, where + ": " + keys.error().message);
        return keys;
    }
    std::ifstream file(where, std::ios::binary);
    if (!file) return fail(ErrorCode::kNotFound, "--public-key: cannot read " + where);
    std::string text(limits::kKeySetBytesMax + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    if (text.starts_with("whpk_")) {
        text.erase(text.find_last_not_of(" \t\r\n") + 1);
        return key_set_from_public_key(text);
    }
    auto keys = key_set_from_file(text, JwtAlgorithm::kEdDsa);
    if (!keys) return fail(ErrorCode::kInvalidArgument, where + ": " + keys.error().message);
    return keys;
}

}  // namespace headgate
