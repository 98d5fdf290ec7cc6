// headgate check-config: every problem of the configuration and of what it names, at once.
#include <hiredis/hiredis.h>

#include <boost/json.hpp>
#include <filesystem>
#include <optional>

#include "common/resp.h"
#include "sidecar/base/open_files.h"
#include "sidecar/cli/ask_redis.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"

namespace headgate {
namespace {

class Findings {
 public:
    void ok(std::string_view check, std::string_view detail) { add(check, "ok", detail); }
    void warning(std::string_view check, std::string_view detail) { add(check, "warning", detail); }
    void problem(std::string_view check, std::string_view detail) {
        ++problems_;
        add(check, "problem", detail);
    }
    [[nodiscard]] const boost::json::array& rows() const { return rows_; }
    [[nodiscard]] int problems() const { return problems_; }

 private:
    void add(std::string_view check, std::string_view result, std::string_view detail) {
        boost::json::object row;
        row.emplace("check", check);
        row.emplace("result", result);
        row.emplace("detail", detail);
        rows_.push_back(std::move(row));
    }
    boost::json::array rows_;
    int problems_ = 0;
};

// Every server of a cluster.
boost::asio::awaitable<RedisAnswers> ask(RedisLink& redis) {
    std::string commands;
    RespWriter(commands)
        .command("PING")
        .command("CONFIG", "GET", "maxmemory-policy")
        .command("CONFIG", "GET", "appendonly")
        .command("CONFIG", "GET", "appendfsync");
    co_return co_await redis.send_to_servers(std::move(commands), 4);
}

// The value of a CONFIG GET reply; nullopt when an ACL or a hosting service forbids the command.
std::optional<std::string> config_value(const redisReply& reply) {
    if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 2 || reply.element[1]->str == nullptr) return std::nullopt;
    return std::string(reply.element[1]->str, reply.element[1]->len);
}

void judge_redis(const RedisReplies& replies, std::string_view check, Findings& findings) {
    if (replies[0]->type == REDIS_REPLY_ERROR)
        return findings.problem(check, "Redis refuses us: " + std::string(replies[0]->str, replies[0]->len));
    findings.ok(check, "answers");
    auto policy = config_value(*replies[1]);
    if (!policy)
        findings.warning(check, "does not say its eviction policy; it must be noeviction");
    else if (*policy != "noeviction")
        findings.problem(check,
                         "maxmemory-policy is " + *policy +
                             ": it may throw events away; run: redis-cli config set maxmemory-policy noeviction");
    auto append_only = config_value(*replies[2]);
    auto fsync = config_value(*replies[3]);
    if (append_only && *append_only != "yes")
        findings.warning(check,
                         "appendonly is off: events that were answered 201 are lost when Redis dies; run: "
                         "redis-cli config set appendonly yes");
    else if (fsync && *fsync != "always")
        findings.warning(check, "appendfsync is " + *fsync +
                                    ": about 2 s of events can be lost when Redis dies; `always` loses none");
}

void check_redis(const Result<RedisAddress>& address, std::string_view check, Findings& findings) {
    if (!address) return findings.problem(check, address.error().message);
    for (const Result<RedisReplies>& replies : ask_redis(*address, ask)) {
        if (!replies)
            findings.problem(check, replies.error().message +
                                        "; is Redis running there? `headgate serve` starts without it and waits");
        else
            judge_redis(*replies, check, findings);
    }
}

// Which of the keys the store's secrets need, and which may go.
void check_master_keys(Store& store, const Config& config, Findings& findings) {
    constexpr std::string_view kCheck = "security.master_key_file";
    auto sealed = store.sealed_under();
    if (!sealed) return findings.problem(kCheck, sealed.error().message);
    std::int64_t current = 0, older = 0;
    for (const Store::SealedUnder& row : *sealed) {
        if (!row.is_given)
            findings.problem(kCheck, std::to_string(row.values) + " secrets are encrypted under master key " + row.kid +
                                         ", which is neither in security.master_key_file nor in "
                                         "security.previous_master_key_files");
        (row.is_current ? current : older) += row.is_given ? row.values : 0;
    }
    if (older > 0)
        findings.warning(kCheck, std::to_string(older) +
                                     " secrets are encrypted under older master keys; run: headgate migrate reseal");
    else if (!config.security_previous_master_key_files.empty())
        findings.ok(kCheck,
                    "no secret is encrypted under an older master key; when `headgate migrate reseal` has said done, "
                    "security.previous_master_key_files can be emptied");
    else
        findings.ok(kCheck, "opens the store's secrets (" + std::to_string(current) + ")");
}

void check_store(const Config& config, Findings& findings) {
    if (config.store_url.starts_with("sqlite:")) {
        std::filesystem::path path = config.store_url.substr(7);
        std::error_code ec;
        if (!std::filesystem::is_directory(path.parent_path(), ec))
            return findings.problem("store.url", "the directory " + path.parent_path().string() + " does not exist");
        if (!std::filesystem::exists(path, ec))
            return findings.warning("store.url", path.string() + " does not exist yet; `headgate serve` will make it");
    }
    auto master_keys = load_master_keys(config);
    if (!master_keys) return;  // told already
    auto options = store_options(config, *master_keys);
    if (!options) return findings.problem("store.password_file", options.error().message);
    options->read_only = true;
    auto store = open_store(*options);
    if (!store) return findings.problem("store.url", store.error().message);
    auto version = (*store)->schema_version();
    if (!version) return findings.problem("store.url", version.error().message);
    findings.ok("store.url", "opens; schema version " + std::to_string(*version));
    if (*version > 0) check_master_keys(**store, config, findings);
}

// `serve` raises its own bound as far as it may.
void check_open_files(const Config& config, Findings& findings) {
    const std::int64_t files = open_files_hard_max();
    const std::int64_t wanted = config.delivery_max_in_flight + kOpenFilesBesides;
    if (files < wanted)
        findings.warning("delivery.max_in_flight",
                         std::to_string(config.delivery_max_in_flight) + " requests want up to " +
                             std::to_string(wanted) + " open files, and started as this command was, there may be " +
                             std::to_string(files) + ": raise `ulimit -Hn`, or LimitNOFILE of the service");
}

// One finding for each line of an error.
void add_lines(std::string_view check, std::string_view lines, Findings& findings) {
    while (!lines.empty()) {
        auto end = lines.find('\n');
        findings.problem(check, std::string(lines.substr(0, end)));
        lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
    }
}

void check_secrets(const Config& config, Findings& findings) {
    auto secrets = load_secrets(config);
    if (secrets) return findings.ok("secrets", "pepper, token key and master keys can be read");
    add_lines("secrets", secrets.error().message, findings);
}

Result<void> check(const Invocation& invocation) {
    std::string file = config_path(invocation.config_option);
    Findings findings;
    auto config = load_config(file);
    if (!config) {
        add_lines("configuration", config.error().message, findings);
    } else {
        findings.ok("configuration", file);
        check_secrets(*config, findings);
        if (auto http = http_client_options(*config); !http) findings.problem("delivery.proxy", http.error().message);
        check_open_files(*config, findings);
        check_store(*config, findings);
        check_redis(events_redis(*config), "redis.url", findings);
        if (config->redis_keys_url != config->redis_url) check_redis(keys_redis(*config), "redis.keys_url", findings);
    }
    print_table(invocation.json, {"check", "result", "detail"}, findings.rows());
    if (findings.problems() == 0) return {};
    return fail(ErrorCode::kInvalidArgument, std::to_string(findings.problems()) + " problem" +
                                                 (findings.problems() == 1 ? "" : "s") + " in " + file);
}

}  // namespace

void add_check_config(CLI::App& root, Invocation& invocation) {
    root.add_subcommand("check-config", "check the configuration and everything that it names")
        ->callback([&invocation] { invocation.action = [&invocation] { return check(invocation); }; });
}

}  // namespace headgate
