// Credentials by the hundred thousand, made beforehand: the rows must not wait for a signature, and
// Perl would take minutes. And what one RSA verification costs by itself, for comparison.
//
//   credentials rsa-key PRIVATE_FILE PUBLIC_FILE         RSA-2048, PEM
//   credentials tokens HS256|RS256 KEY_FILE COUNT        tokens of as many subjects, one a line
//   credentials verify PUBLIC_FILE TOKENS_FILE SECONDS   {"verified":n,"cpu_us":x}: processor time of a verification
//   credentials api-keys PEPPER_FILE COUNT KEYS_FILE     the keys, one a line, into the file; on standard output
//                                                        what projects them into Redis, for `redis-cli --pipe`
//
// Next: lib/Headgate/Bench/Credentials.pm.
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <sys/resource.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/api_key.h"
#include "common/base64url.h"
#include "common/event_record.h"
#include "common/hmac.h"
#include "common/resp.h"

namespace {

using namespace headgate;

struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using Key = std::unique_ptr<EVP_PKEY, Free>;
using Digest = std::unique_ptr<EVP_MD_CTX, Free>;
using File = std::unique_ptr<std::FILE, Free>;

constexpr int kTokenSeconds = 86'400;
constexpr int kRsaBits = 2048;

void require(bool worked, const char* what) {
    if (!worked) {
        throw std::runtime_error(what);
    }
}

int parse_number(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    require(error == std::errc() && end == text.data() + text.size() && value > 0, "not a positive number");
    return value;
}

File open_file(const char* path, const char* mode) {
    File file(std::fopen(path, mode));
    require(file != nullptr, path);
    return file;
}

std::string read_secret(const char* path) {
    std::ifstream file(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    require(!text.empty(), path);
    return std::string(secret_file_value(text));
}

void make_rsa_key(const char* private_path, const char* public_path) {
    const Key key(EVP_RSA_gen(kRsaBits));
    require(key != nullptr, "no RSA key");
    require(
        PEM_write_PrivateKey(open_file(private_path, "w").get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1,
        private_path);
    require(PEM_write_PUBKEY(open_file(public_path, "w").get(), key.get()) == 1, public_path);
}

// As POST /token issues it, but for the subject and without `key` and `kid`: each has a limit of its own.
std::string signed_part(std::string_view algorithm, long long now_s, int number) {
    const std::string header = R"({"alg":")" + std::string(algorithm) + R"(","typ":"JWT"})";
    char claims[256];
    const int length = std::snprintf(
        claims, sizeof claims,
        R"({"exp":%lld,"iat":%lld,"iss":"headgate","jti":"%032d","org":"org-bench","plan":"bench","scope":"events:write","sub":"subject-%08d"})",
        now_s + kTokenSeconds, now_s, number, number);
    require(length > 0 && static_cast<std::size_t>(length) < sizeof claims, "claims too long");
    return base64url_encode(header) + "." + base64url_encode({claims, static_cast<std::size_t>(length)});
}

std::string rsa_signature(EVP_PKEY* key, std::string_view text) {
    const Digest digest(EVP_MD_CTX_new());
    std::string signature(static_cast<std::size_t>(EVP_PKEY_get_size(key)), '\0');
    std::size_t bytes = signature.size();
    const auto* data = reinterpret_cast<const unsigned char*>(text.data());
    require(EVP_DigestSignInit(digest.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
                EVP_DigestSign(digest.get(), reinterpret_cast<unsigned char*>(signature.data()), &bytes, data,
                               text.size()) == 1,
            "no signature");
    return signature;
}

void make_tokens(std::string_view algorithm, const char* key_path, int count) {
    require(algorithm == "HS256" || algorithm == "RS256", "unknown algorithm");
    const long long now_s =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    std::vector<std::string> tokens(static_cast<std::size_t>(count));
    if (algorithm == "HS256") {
        const HmacSha256Key key{read_secret(key_path)};
        for (int i = 0; i < count; ++i) {
            const std::string text = signed_part(algorithm, now_s, i);
            const Sha256Digest mac = key.sign(text);
            tokens[static_cast<std::size_t>(i)] =
                text + "." + base64url_encode({reinterpret_cast<const char*>(mac.data()), mac.size()});
        }
    } else {
        const Key key(PEM_read_PrivateKey(open_file(key_path, "r").get(), nullptr, nullptr, nullptr));
        require(key != nullptr, key_path);
        // 0.7 ms each: all cores.
        const int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
        std::vector<std::jthread> signers;
        for (int first = 0; first < threads; ++first) {
            signers.emplace_back([&tokens, &key, algorithm, now_s, count, threads, first] {
                for (int i = first; i < count; i += threads) {
                    const std::string text = signed_part(algorithm, now_s, i);
                    tokens[static_cast<std::size_t>(i)] = text + "." + base64url_encode(rsa_signature(key.get(), text));
                }
            });
        }
    }
    for (const std::string& token : tokens) {
        std::puts(token.c_str());
    }
}

double cpu_us() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto us = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
    };
    return us(usage.ru_utime) + us(usage.ru_stime);
}

// What `openssl speed rsa2048` does, but with these tokens: SHA-256 of the text and the RSA operation, one
// prepared context copied for each. Decoding is not counted.
void measure_verification(const char* key_path, const char* tokens_path, int seconds) {
    const Key key(PEM_read_PUBKEY(open_file(key_path, "r").get(), nullptr, nullptr, nullptr));
    require(key != nullptr, key_path);
    struct Token {
        std::string text, signature;
    };
    std::vector<Token> tokens;
    std::ifstream file(tokens_path);
    for (std::string line; std::getline(file, line);) {
        const std::size_t dot = line.rfind('.');
        require(dot != std::string::npos, "not a token");
        tokens.push_back({line.substr(0, dot), base64url_decode(std::string_view(line).substr(dot + 1)).value_or("")});
    }
    require(!tokens.empty(), tokens_path);
    const Digest prepared(EVP_MD_CTX_new());
    const Digest digest(EVP_MD_CTX_new());
    require(EVP_DigestVerifyInit(prepared.get(), nullptr, EVP_sha256(), nullptr, key.get()) == 1, "cannot verify");
    const double end_us = cpu_us() + seconds * 1e6;
    const double begun_us = cpu_us();
    long long verified = 0;
    while (cpu_us() < end_us) {
        for (int i = 0; i < 64; ++i, ++verified) {
            const Token& token = tokens[static_cast<std::size_t>(verified) % tokens.size()];
            require(
                EVP_MD_CTX_copy_ex(digest.get(), prepared.get()) == 1 &&
                    EVP_DigestVerify(digest.get(), reinterpret_cast<const unsigned char*>(token.signature.data()),
                                     token.signature.size(), reinterpret_cast<const unsigned char*>(token.text.data()),
                                     token.text.size()) == 1,
                "a token that its own key does not verify");
        }
    }
    std::printf("{\"verified\":%lld,\"cpu_us\":%.3f}\n", verified,
                (cpu_us() - begun_us) / static_cast<double>(verified));
}

void make_api_keys(const char* pepper_path, int count, const char* keys_path) {
    const HmacSha256Key pepper{read_secret(pepper_path)};
    const File keys = open_file(keys_path, "w");
    for (int i = 0; i < count; ++i) {
        const NewApiKey key = make_api_key();
        std::fprintf(keys.get(), "%s\n", key.text.c_str());
        char id[40];
        std::snprintf(id, sizeof id, "key-%032d", i);
        std::string command;
        RespWriter(command).command("HSET", api_key_key(kDefaultKeyPrefix, api_key_hash(pepper, key.text)), "id", id,
                                    "org", "org-bench", "scopes", "events:write", "allowed_ips", "", "plan", "bench",
                                    "limits", "", "expires_at", "", "active", "1", "prefix", key.prefix);
        std::fwrite(command.data(), 1, command.size(), stdout);
    }
}

void run(std::span<char*> words) {
    const std::string_view what = words.empty() ? "" : words[0];
    if (what == "rsa-key" && words.size() == 3) {
        make_rsa_key(words[1], words[2]);
    } else if (what == "tokens" && words.size() == 4) {
        make_tokens(words[1], words[2], parse_number(words[3]));
    } else if (what == "verify" && words.size() == 4) {
        measure_verification(words[1], words[2], parse_number(words[3]));
    } else if (what == "api-keys" && words.size() == 4) {
        make_api_keys(words[1], parse_number(words[2]), words[3]);
    } else {
        throw std::invalid_argument("usage: see the head of bench/credentials.cpp");
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run({argv + 1, static_cast<std::size_t>(argc - 1)});
        return std::fflush(stdout) == 0 ? 0 : 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "credentials: %s\n", error.what());
        return 1;
    }
}
