// headgate init: a directory with everything that a first start needs. It never overwrites, and
// removes what it wrote when it fails half-way.
#include <fcntl.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <boost/json.hpp>
#include <filesystem>

#include "common/hmac.h"
#include "sidecar/api/key_input.h"
#include "sidecar/api/org_input.h"
#include "sidecar/base/text.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/init_files.h"
#include "sidecar/cli/output.h"

namespace headgate {
namespace fs = std::filesystem;
namespace {

struct InitOptions {
    std::string directory, redis = "redis://127.0.0.1:6379", store, listen = "127.0.0.1:8787", org = "default";
};

std::string random_hex() {
    std::array<unsigned char, 32> bytes{};
    if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1)
        throw std::runtime_error("OpenSSL has no randomness");
    return hex_encode(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

// The files written so far; unless keep() is called they are removed again.
class WrittenFiles {
 public:
    ~WrittenFiles() {
        std::error_code ignored;
        for (auto path = paths_.rbegin(); path != paths_.rend(); ++path) fs::remove(*path, ignored);
    }
    void add(std::string path) { paths_.push_back(std::move(path)); }
    void keep() { paths_.clear(); }

    Result<void> write(const std::string& path, std::string_view text) {
        int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) return failed("cannot make", path);
        add(path);
        while (!text.empty()) {
            ssize_t count = ::write(fd, text.data(), text.size());
            if (count < 0) break;
            text.remove_prefix(static_cast<std::size_t>(count));
        }
        // The keys in these files are worth more than a fast exit.
        bool is_whole = text.empty() && fsync(fd) == 0;
        is_whole = close(fd) == 0 && is_whole;
        return is_whole ? Result<void>{} : failed("cannot write", path);
    }

 private:
    static Result<void> failed(std::string_view what, const std::string& path) {
        return fail(ErrorCode::kUnavailable,
                    std::string(what) + " " + path + ": " + std::string(std::generic_category().message(errno)));
    }
    std::vector<std::string> paths_;
};

Result<void> make_directory(const std::string& directory, WrittenFiles& written) {
    if (mkdir(directory.c_str(), 0700) == 0) {
        written.add(directory);
        return {};
    }
    std::error_code ec;
    if (errno == EEXIST && fs::is_directory(directory, ec)) return {};
    return fail(ErrorCode::kUnavailable,
                "cannot make the directory " + directory + ": " + std::string(std::generic_category().message(errno)));
}

Result<InitPlan> make_plan(const InitOptions& options) {
    InitPlan plan;
    plan.directory = fs::absolute(options.directory).lexically_normal().string();
    if (plan.directory.size() > 1 && plan.directory.ends_with('/')) plan.directory.pop_back();
    if (plan.directory.find_first_of(" \t\n;{}\"'\\") != std::string::npos)
        return fail(ErrorCode::kInvalidArgument,
                    "--dir: a path with spaces, quotes, braces or semicolons cannot stand in nginx.conf");
    auto redis = parse_redis_url(options.redis);
    if (!redis) return fail(ErrorCode::kInvalidArgument, "--redis: " + redis.error().message);
    plan.redis = *redis;
    plan.has_redis_password = !redis->password.empty();
    plan.redis_url = options.redis;
    if (plan.has_redis_password) {
        auto scheme = options.redis.find("://") + 3;
        plan.redis_url = options.redis.substr(0, scheme) + options.redis.substr(options.redis.rfind('@') + 1);
    }
    plan.store_url = options.store.empty() ? "sqlite:headgate.db" : options.store;
    if (options.store.starts_with("sqlite:"))  // a path on the command line is relative to where the command runs
        plan.store_url = "sqlite:" + fs::absolute(options.store.substr(7)).lexically_normal().string();
    plan.listen = options.listen;
    if (!plan.listen.starts_with("unix:") && !parse_host_port(plan.listen))
        return fail(ErrorCode::kInvalidArgument,
                    "--listen: \"" + plan.listen + "\" is neither host:port nor unix:/path");
    plan.is_root = geteuid() == 0;
    plan.edge_password = random_hex();
    plan.sidecar_password = random_hex();
    return plan;
}

Result<void> write_files(const InitPlan& plan, WrittenFiles& written) {
    std::vector<std::pair<std::string, std::string>> files = {
        {"headgate.toml", toml_text(plan)},  {"pepper", random_hex() + "\n"}, {"token.key", random_hex() + "\n"},
        {"master.key", random_hex() + "\n"}, {"plans.conf", plans_text()},    {"nginx.conf", nginx_text(plan)},
        {"users.acl", acl_text(plan)},
    };
    if (plan.has_redis_password) files.emplace_back("redis.password", plan.redis.password + "\n");
    std::vector<std::string> present;
    for (const auto& [name, text] : files)
        if (fs::symlink_status(plan.directory + "/" + name).type() != fs::file_type::not_found) present.push_back(name);
    std::string database =
        plan.store_url == "sqlite:headgate.db" ? plan.directory + "/headgate.db" : plan.store_url.substr(7);
    if (plan.store_url.starts_with("sqlite:") && fs::exists(database)) present.push_back(database);
    if (!present.empty())
        return fail(ErrorCode::kConflict, plan.directory + " has " + join(present, ", ") +
                                              " already, and nothing is overwritten; choose another --dir");
    for (const auto& [name, text] : files) {
        auto done = written.write(plan.directory + "/" + name, text);
        if (!done) return done;
    }
    if (plan.store_url.starts_with("sqlite:"))
        for (const char* suffix : {"", "-wal", "-shm", ".lock"}) written.add(database + suffix);
    return {};
}

struct FirstAccount {
    Organization org;
    KeyInput key;
};

Result<FirstAccount> make_account(const std::string& config_file, const std::string& org_name) {
    auto config = load_config(config_file);
    if (!config) return tl::unexpected(config.error());
    auto secrets = load_secrets(*config);
    if (!secrets) return tl::unexpected(secrets.error());
    auto store = open_configured_store(*config, secrets->master_keys, StoreUse::kBeside);
    if (!store) return tl::unexpected(store.error());
    auto migrated = (*store)->migrate();
    if (!migrated) return tl::unexpected(migrated.error());
    auto org = create_named_org(**store, org_name, "enterprise", {"*"}, wall_clock_ms());
    if (!org) return tl::unexpected(org.error());
    KeyInput key =
        read_key({"first key, made by init", "admin", "enterprise", "", ""}, org->id, secrets->pepper, wall_clock_ms());
    if (!key.errors.empty()) return tl::unexpected(as_error(key.errors));
    auto created = (*store)->create_key(key.key);
    if (!created) return tl::unexpected(created.error());
    return FirstAccount{std::move(*org), std::move(key)};
}

Result<void> init(const Invocation& invocation, const InitOptions& options) {
    auto plan = make_plan(options);
    if (!plan) return tl::unexpected(plan.error());
    umask(077);  // the database, too, is its owner's alone
    WrittenFiles written;
    auto made = make_directory(plan->directory, written);
    if (!made) return made;
    auto files = write_files(*plan, written);
    if (!files) return files;
    std::string config_file = plan->directory + "/headgate.toml";
    auto account = make_account(config_file, options.org);
    if (!account) return tl::unexpected(account.error());
    written.keep();
    boost::json::object record;
    record.emplace("config", config_file);
    record.emplace("org", account->org.id);
    record.emplace("key_id", account->key.key.id);
    record.emplace("api_key", account->key.api_key);
    print_record(invocation.json, record);
    return {};
}

}  // namespace

void add_init(CLI::App& root, Invocation& invocation) {
    auto options = std::make_shared<InitOptions>();
    auto* command = root.add_subcommand("init", "write a first configuration, with new keys and an organization");
    command->add_option("--dir", options->directory, "where; made if it is not there")->required();
    command->add_option("--redis", options->redis, "redis://host:port or unix:/path")->capture_default_str();
    command->add_option("--store", options->store,
                        "sqlite:/path/file.db (default: headgate.db in --dir) or postgresql://user@host/database");
    command->add_option("--listen", options->listen, "where the management API listens: host:port or unix:/path")
        ->capture_default_str();
    command->add_option("--org", options->org, "the first organization's name")->capture_default_str();
    command->callback(
        [&invocation, options] { invocation.action = [&invocation, options] { return init(invocation, *options); }; });
}

}  // namespace headgate
