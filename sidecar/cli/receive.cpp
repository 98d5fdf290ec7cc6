// headgate receive: a webhook receiver that verifies what comes and prints it; for trying things out. With a secret it
// verifies `v1`, with a public key `v1a`; with both, both.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>
#include <charconv>
#include <csignal>
#include <iostream>

#include "common/event_id.h"
#include "common/webhook_signature.h"
#include "sidecar/api/reply.h"
#include "sidecar/base/json_text.h"
#include "sidecar/base/log.h"
#include "sidecar/base/text.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"
#include "sidecar/cli/public_keys.h"
#include "sidecar/io/http_server.h"

namespace headgate {
namespace {

constexpr std::int64_t kToleranceSeconds = 300;
constexpr std::size_t kBodyBytesMax = 8 * 1024 * 1024;

struct ReceiveOptions {
    std::string secret, public_key, listen = "127.0.0.1:0";
    int count = 0;
    double within_seconds = 0;
};

// An event's id is a UUIDv7: its first 48 bits are the ms of its creation (RFC 9562, section 5.7).
std::optional<std::int64_t> created_ms(std::string_view id) {
    if (!uuid_is_valid(id) || id[14] != '7') return std::nullopt;
    std::string hex = std::string(id.substr(0, 8)) + std::string(id.substr(9, 4));
    std::int64_t ms = 0;
    std::from_chars(hex.data(), hex.data() + hex.size(), ms, 16);
    return ms;
}

class Receiver {
 public:
    // `key` and `public_keys`: what signatures are verified with, all that there is.
    Receiver(const Invocation& invocation, const ReceiveOptions& options, std::optional<HmacSha256Key> key,
             std::optional<KeySet> public_keys)
        : as_json_(invocation.json),
          options_(options),
          key_(std::move(key)),
          public_keys_(std::move(public_keys)),
          signals_(io_, SIGINT, SIGTERM),
          deadline_(io_) {}

    Result<void> run() {
        HttpServerOptions server_options;
        server_options.listen = options_.listen;
        server_options.body_bytes_max = kBodyBytesMax;
        server_.emplace(io_.get_executor(), std::move(server_options),
                        [this](ServerRequest request) { return receive(std::move(request)); });
        auto where = server_->listen();
        if (!where) return tl::unexpected(where.error());
        boost::json::object listening;
        listening.emplace("listening", *where);
        print_record(as_json_, listening);
        signals_.async_wait([this](const boost::system::error_code& ec, int) {
            if (!ec) finish();
        });
        if (options_.within_seconds > 0) {
            deadline_.expires_after(
                std::chrono::milliseconds(static_cast<std::int64_t>(options_.within_seconds * 1000)));
            deadline_.async_wait([this](const boost::system::error_code& ec) {
                if (!ec) finish();
            });
        }
        boost::asio::co_spawn(io_, server_->run(), boost::asio::detached);
        io_.run();
        if (options_.count > 0 && verified_ < options_.count)
            return fail(ErrorCode::kUnavailable, "received " + std::to_string(verified_) + " verified events of " +
                                                     std::to_string(options_.count));
        return {};
    }

 private:
    boost::asio::awaitable<ServerResponse> receive(ServerRequest request) {
        std::string_view id = request.header("webhook-id");
        const bool by_secret = key_ && verify_by_secret(request);
        const bool by_key = public_keys_ && verify_by_key(request);
        const bool verified = by_secret == key_.has_value() && by_key == public_keys_.has_value();
        auto created = created_ms(id);
        boost::json::object record;
        record.emplace("id", id);
        record.emplace("type", request.header("x-webhook-event"));
        record.emplace("verified", verified);
        if (key_) record.emplace("v1", by_secret);
        if (public_keys_) record.emplace("v1a", by_key);
        if (created)
            record.emplace("latency_ms", wall_clock_ms() - *created);
        else
            record.emplace("latency_ms", nullptr);
        print(record);
        if (!verified) co_return problem_response(400, "The signature does not verify with this secret or key");
        if (++verified_ == options_.count) finish();
        co_return bare_response(200, R"({"received":true})");
    }

    [[nodiscard]] bool verify_by_secret(const ServerRequest& request) const {
        bool standard = verify_standard(*key_, request.header("webhook-id"), request.header("webhook-timestamp"),
                                        request.header("webhook-signature"), request.body, wall_clock_ms() / 1000,
                                        kToleranceSeconds);
        return standard && verify_sha256_hex(*key_, request.header("x-webhook-signature"), request.body);
    }

    // A key pair may have been rotated: then the set is read again, at most once a second.
    [[nodiscard]] bool verify_by_key(const ServerRequest& request) {
        const auto verifies = [&] {
            return verify_standard_v1a(*public_keys_, request.header("webhook-id"), request.header("webhook-timestamp"),
                                       request.header("webhook-signature"), request.body, wall_clock_ms() / 1000,
                                       kToleranceSeconds);
        };
        if (verifies()) return true;
        const auto now = std::chrono::steady_clock::now();
        if (now < next_reading_) return false;
        next_reading_ = now + std::chrono::seconds(1);
        auto again = read_public_keys(options_.public_key);
        if (!again) return false;
        public_keys_ = std::move(*again);
        return verifies();
    }

    void print(const boost::json::object& record) const {
        if (as_json_) {
            print_record(true, record);
            return;
        }
        std::string line = "event";
        for (const auto& [name, value] : record) {
            std::string text = value.is_string() ? log_value({value.get_string().data(), value.get_string().size()})
                                                 : json_text(value);
            if (value.is_bool()) text = value.get_bool() ? "yes" : "no";
            line += " " + std::string(name.data(), name.size()) + "=" + text;
        }
        std::cout << line << std::endl;
    }

    // The answer under way is still written.
    void finish() {
        server_->stop();
        signals_.cancel();
        deadline_.cancel();
    }

    bool as_json_;
    const ReceiveOptions& options_;
    std::optional<HmacSha256Key> key_;
    std::optional<KeySet> public_keys_;
    std::chrono::steady_clock::time_point next_reading_{};
    boost::asio::io_context io_{1};
    boost::asio::signal_set signals_;
    boost::asio::steady_timer deadline_;
    std::optional<HttpServer> server_;
    int verified_ = 0;
};

Result<void> receive(const Invocation& invocation, const ReceiveOptions& options) {
    if (options.secret.empty() && options.public_key.empty())
        return fail(ErrorCode::kInvalidArgument, "give --secret, --public-key, or both");
    std::optional<HmacSha256Key> key;
    if (!options.secret.empty()) {
        auto bytes = webhook_secret_bytes(options.secret);
        if (!bytes) return fail(ErrorCode::kInvalidArgument, "--secret is no webhook secret; it begins with whsec_");
        key.emplace(*bytes);
    }
    std::optional<KeySet> public_keys;
    if (!options.public_key.empty()) {
        auto read = read_public_keys(options.public_key);
        if (!read) return tl::unexpected(read.error());
        public_keys = std::move(*read);
    }
    std::signal(SIGPIPE, SIG_IGN);
    return Receiver(invocation, options, std::move(key), std::move(public_keys)).run();
}

}  // namespace

void add_receive(CLI::App& root, Invocation& invocation) {
    auto options = std::make_shared<ReceiveOptions>();
    auto* command = root.add_subcommand("receive", "receive webhooks, verify and print them");
    command->add_option("--secret", options->secret, "the webhook's secret");
    command->add_option(
        "--public-key", options->public_key,
        "verify v1a too: whpk_…, a file (PEM, JWK, or such a text), or the URL of the webhook's JWK set");
    command->add_option("--listen", options->listen, "host:port; port 0 is one that is free")->capture_default_str();
    command->add_option("--count", options->count, "end after so many verified events")->check(CLI::PositiveNumber);
    command->add_option("--within", options->within_seconds, "end after so many seconds; failed if --count is missed")
        ->check(CLI::PositiveNumber);
    command->callback([&invocation, options] {
        invocation.action = [&invocation, options] { return receive(invocation, *options); };
    });
}

}  // namespace headgate
