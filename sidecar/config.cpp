// The configuration: headgate.toml and the environment in, one checked Config out. Everything is
// driven by the table below; the next file is settings.cpp, which opens what the values name.
#include "sidecar/config.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <toml.hpp>
#include <variant>

#include "common/api_key.h"
#include "common/event_record.h"
#include "common/limits.h"
#include "sidecar/base/text.h"

extern char** environ;

namespace headgate {
namespace {

using StringMember = std::string Config::*;
using IntMember = int Config::*;
using MsMember = std::int64_t Config::*;
using NetworksMember = std::vector<IpNetwork> Config::*;
using BoolMember = bool Config::*;
using TextsMember = std::vector<std::string> Config::*;

struct TableRow {
    ConfigKey key;
    std::variant<StringMember, IntMember, MsMember, NetworksMember, BoolMember, TextsMember> member;
    std::int64_t min = 0;  // integers, and durations in ms
    std::int64_t max = std::numeric_limits<std::int64_t>::max();
    std::string_view choices = {};  // strings: the only values, separated by spaces
};

constexpr std::int64_t kDayMs = 24LL * 3600 * 1000;
constexpr std::int64_t kYearMs = 366 * kDayMs;

const std::vector<TableRow>& table() {
    static const std::vector<TableRow> rows = {
        {{"redis.url", "string", "redis://127.0.0.1:6379",
          "the Redis that holds the event streams: redis://[user:password@]host:port[,host:port...][/db], rediss:// "
          "for "
          "TLS, or unix:/path[?db=n]"},
         &Config::redis_url},
        {{"redis.keys_url", "string", "", "another Redis for API keys and revocations; redis.url when empty"},
         &Config::redis_keys_url},
        {{"redis.username", "string", "", "the Redis user, with password_file, instead of one in the URL"},
         &Config::redis_username},
        {{"redis.password_file", "file", "", "a file with the password, instead of one in the URL"},
         &Config::redis_password_file},
        {{"redis.prefix", "string", "headgate:", "what every key in Redis begins with; the edge must use the same"},
         &Config::redis_prefix},
        {{"redis.shards", "integer", "8",
          "event streams; the edge's headgate_shards must be the same (64 with redis.cluster, unless said)"},
         &Config::redis_shards,
         1,
         limits::kShardsMax},
        {{"redis.cluster", "boolean", "false", "redis.url names nodes of a Redis Cluster"}, &Config::redis_cluster},
        {{"redis.sentinels", "list", "[]",
          "Sentinels, as host:port, that say where the master is, instead of redis.url"},
         &Config::redis_sentinels},
        {{"redis.sentinel_master", "string", "", "the name under which the Sentinels know the master"},
         &Config::redis_sentinel_master},
        {{"redis.sentinel_username", "string", "", "the user at the Sentinels themselves, with their password"},
         &Config::redis_sentinel_username},
        {{"redis.sentinel_password_file", "file", "", "a file with the password of the Sentinels themselves"},
         &Config::redis_sentinel_password_file},
        {{"redis.tls_ca_file", "file", "",
          "rediss://: who signed Redis's certificate; the system's authorities when empty"},
         &Config::redis_tls_ca_file},
        {{"redis.tls_cert_file", "file", "", "rediss://: the certificate that we show, when Redis wants one"},
         &Config::redis_tls_cert_file},
        {{"redis.tls_key_file", "file", "", "rediss://: and its private key"}, &Config::redis_tls_key_file},
        {{"redis.tls_server_name", "string", "", "rediss://: the name in Redis's certificate, when it is not its host"},
         &Config::redis_tls_server_name},
        {{"store.url", "string", "",
          "where events and deliveries are kept: sqlite:/path/file.db or postgresql://user@host/database"},
         &Config::store_url},
        {{"store.password_file", "file", "", "a file with PostgreSQL's password, instead of one in the URL"},
         &Config::store_password_file},
        {{"http.listen", "string", "127.0.0.1:8787", "where the management API listens: host:port or unix:/path"},
         &Config::http_listen},
        {{"http.public_url", "string", "", "the URL under which clients reach nginx"}, &Config::http_public_url},
        {{"http.trusted_proxies", "list", "[]", "networks whose X-Forwarded-For is believed (nginx's own addresses)"},
         &Config::http_trusted_proxies},
        {{"tokens.key_file", "file", "", "the secret that tokens are signed with; the edge verifies with the same"},
         &Config::tokens_key_file},
        {{"tokens.signing", "string", "HS256", "the signature algorithm of tokens"},
         &Config::tokens_signing,
         0,
         0,
         "HS256"},
        {{"tokens.lifetime", "duration", "24h", "how long a token is good, unless its key expires first"},
         &Config::tokens_lifetime_ms,
         1000,
         30 * kDayMs},
        {{"delivery.max_in_flight", "integer", "256", "requests in flight at once, of the whole process"},
         &Config::delivery_max_in_flight,
         1,
         65536},
        {{"delivery.proxy", "string", "", "send through this proxy: http://host:port or https://host:port"},
         &Config::delivery_proxy},
        {{"delivery.proxy_credentials_file", "file", "", "a file with the user:password that the proxy asks for"},
         &Config::delivery_proxy_credentials_file},
        {{"security.pepper_file", "file", "", "the key of the hashes of API keys; the edge must use the same"},
         &Config::security_pepper_file},
        {{"security.master_key_file", "file", "", "encrypts webhook secrets in the store; lose it and they are lost"},
         &Config::security_master_key_file},
        {{"security.previous_master_key_files", "files", "[]",
          "older master keys, that still open what they encrypted, until `headgate migrate reseal` is done"},
         &Config::security_previous_master_key_files},
        {{"security.allow_networks", "list", "[]",
          "networks that are not public and that webhooks may reach all the same, organization by organization"},
         &Config::security_allow_networks},
        {{"retention.events", "duration", "90d", "how long events are kept"},
         &Config::retention_events_ms,
         3600 * 1000,
         100 * kYearMs},
        {{"retention.attempts", "duration", "30d", "how long delivery attempts are kept"},
         &Config::retention_attempts_ms,
         3600 * 1000,
         100 * kYearMs},
        {{"retention.quarantine", "duration", "90d", "how long entries are kept that could not be read or stored"},
         &Config::retention_quarantine_ms,
         3600 * 1000,
         100 * kYearMs},
        {{"retention.audit", "duration", "365d", "how long the audit log is kept"},
         &Config::retention_audit_ms,
         24 * 3600 * 1000,
         100 * kYearMs},
        {{"log.level", "string", "info", "what is logged, on standard error"},
         &Config::log_level,
         0,
         0,
         "trace debug info warn error"},
        {{"log.format", "string", "logfmt", "how a line is written: key=value pairs, or a JSON object"},
         &Config::log_format,
         0,
         0,
         "logfmt json"},
        {{"metrics.listen", "string", "",
          "an address of its own for GET /metrics, for scrapers, without credentials: host:port or unix:/path"},
         &Config::metrics_listen},
    };
    return rows;
}

const TableRow* find_row(std::string_view key) {
    for (const auto& row : table())
        if (row.key.key == key) return &row;
    return nullptr;
}

std::string environment_name(std::string_view key) {
    std::string name = "HEADGATE_";
    for (char c : key) name += c == '.' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
    return name;
}

// A value as it was written, whichever source it came from.
struct Written {
    std::string where;       // "/etc/headgate/headgate.toml:12" or "HEADGATE_REDIS_URL"
    bool from_text = false;  // the environment has no types
    enum class Kind : std::uint8_t { kString, kInteger, kBoolean, kList, kOther } kind = Kind::kOther;
    std::string text;
    std::int64_t integer = 0;  // a boolean is 0 or 1
    std::vector<std::string> list;
};

class Reader {
 public:
    Reader(Config& config, std::vector<std::string>& problems) : config_(config), problems_(problems) {
        directory_ = std::filesystem::absolute(config.file).parent_path();
    }

    void apply(const TableRow& row, const Written& written) {
        has_shards_ = has_shards_ || row.key.key == "redis.shards";
        std::visit([&](auto member) { set(row, member, written); }, row.member);
    }

    void problem(const std::string& where, const std::string& what) { problems_.push_back(where + ": " + what); }

    [[nodiscard]] bool has_shards() const { return has_shards_; }

    [[nodiscard]] std::string resolve(std::string_view path) const {
        if (path.empty() || path.front() == '/') return std::string(path);
        return (directory_ / path).lexically_normal().string();
    }

 private:
    void wrong(const TableRow& row, const Written& written, std::string_view expected) {
        problem(written.where, std::string(row.key.key) + " must be " + std::string(expected));
    }

    void set(const TableRow& row, StringMember member, const Written& written) {
        if (written.kind != Written::Kind::kString) return wrong(row, written, "a string in quotes");
        if (!row.choices.empty() && !list_has(row.choices, written.text))
            return wrong(row, written, "one of: " + std::string(row.choices));
        config_.*member = row.key.type == "file" ? resolve(written.text) : written.text;
    }

    void set(const TableRow& row, IntMember member, const Written& written) {
        std::int64_t value = written.integer;
        bool is_integer = written.kind == Written::Kind::kInteger;
        if (written.from_text) {
            const auto& text = written.text;
            auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
            is_integer = ec == std::errc() && end == text.data() + text.size();
        }
        if (!is_integer || value < row.min || value > row.max)
            return wrong(row, written,
                         "a whole number from " + std::to_string(row.min) + " to " + std::to_string(row.max));
        config_.*member = static_cast<int>(value);
    }

    void set(const TableRow& row, BoolMember member, const Written& written) {
        bool is_true = written.from_text ? written.text == "true" : written.integer == 1;
        bool is_known =
            written.from_text ? is_true || written.text == "false" : written.kind == Written::Kind::kBoolean;
        if (!is_known) return wrong(row, written, "true or false");
        config_.*member = is_true;
    }

    void set(const TableRow& row, TextsMember member, const Written& written) {
        if (written.kind != Written::Kind::kList && !written.from_text)
            return wrong(row, written, "a list such as [\"10.0.0.1:26379\"]");
        config_.*member = written.list;
        if (written.from_text)
            for (const auto& text : split_list(written.text)) (config_.*member).emplace_back(text);
        if (row.key.type != "files") return;
        for (std::string& path : config_.*member) path = resolve(path);
    }

    void set(const TableRow& row, MsMember member, const Written& written) {
        auto ms = written.kind == Written::Kind::kString ? parse_duration_ms(written.text) : std::nullopt;
        if (!ms || *ms < row.min || *ms > row.max)
            return wrong(row, written,
                         "a duration such as \"90s\", \"24h\" or \"90d\", from " + format_duration(row.min) + " to " +
                             format_duration(row.max));
        config_.*member = *ms;
    }

    void set(const TableRow& row, NetworksMember member, const Written& written) {
        if (written.kind != Written::Kind::kList && !written.from_text)
            return wrong(row, written, "a list such as [\"127.0.0.0/8\"]");
        std::vector<IpNetwork> networks;
        for (const auto& text : written.from_text ? split_list(written.text) : written.list) {
            auto network = parse_network(text);
            if (!network) {
                problem(written.where, std::string(row.key.key) + ": \"" + text +
                                           "\" is no network: write an address or address/prefix with no bits set "
                                           "beyond the prefix");
                continue;
            }
            networks.push_back(*network);
        }
        config_.*member = std::move(networks);
    }

    Config& config_;
    std::vector<std::string>& problems_;
    std::filesystem::path directory_;
    bool has_shards_ = false;
};

std::string unknown_key_message(std::string_view key, std::string_view (*name)(const ConfigKey&)) {
    std::vector<std::string_view> names;
    for (const auto& row : table()) names.push_back(name(row.key));
    return "unknown key " + std::string(key) + "; the nearest known one is " + std::string(nearest(key, names));
}

Written from_toml(const std::string& file, const toml::value& value) {
    Written written;
    written.where = file + ":" + std::to_string(value.location().line());
    if (value.is_string()) {
        written.kind = Written::Kind::kString;
        written.text = value.as_string().str;
    } else if (value.is_integer()) {
        written.kind = Written::Kind::kInteger;
        written.integer = value.as_integer();
    } else if (value.is_boolean()) {
        written.kind = Written::Kind::kBoolean;
        written.integer = value.as_boolean() ? 1 : 0;
    } else if (value.is_array()) {
        written.kind = Written::Kind::kList;
        for (const auto& item : value.as_array()) {
            if (!item.is_string()) {
                written.kind = Written::Kind::kOther;
                break;
            }
            written.list.push_back(item.as_string().str);
        }
    }
    return written;
}

void read_file(Reader& reader, const std::string& file) {
    toml::value root;
    try {
        root = toml::parse(file);
    } catch (const toml::syntax_error& error) {
        // toml11 draws the line with a marker below it; the first line of its text names itself only.
        reader.problem(file, std::string("is not valid TOML: ") + error.what());
        return;
    } catch (const std::exception& error) {
        reader.problem(file, error.what());
        return;
    }
    for (const auto& [section, content] : root.as_table()) {
        if (!content.is_table()) {
            reader.problem(from_toml(file, content).where,
                           unknown_key_message(section, [](const ConfigKey& k) { return k.key; }));
            continue;
        }
        for (const auto& [name, value] : content.as_table()) {
            std::string key = section + "." + name;
            Written written = from_toml(file, value);
            const TableRow* row = find_row(key);
            if (row == nullptr)
                reader.problem(written.where, unknown_key_message(key, [](const ConfigKey& k) { return k.key; }));
            else
                reader.apply(*row, written);
        }
    }
}

// A variable that names one of our sections but no key in it is a mistake as much as an unknown key in the file;
// other HEADGATE_ variables are not ours to judge.
void read_environment(Reader& reader) {
    for (char** entry = environ; *entry != nullptr; ++entry) {
        std::string_view text = *entry;
        auto equals = text.find('=');
        if (!text.starts_with("HEADGATE_") || equals == std::string_view::npos) continue;
        std::string_view name = text.substr(0, equals);
        const TableRow* found = nullptr;
        bool names_section = false;
        for (const auto& row : table()) {
            if (environment_name(row.key.key) == name) found = &row;
            names_section |= name.starts_with(environment_name(row.key.key.substr(0, row.key.key.find('.') + 1)));
        }
        if (found != nullptr) {
            Written written;
            written.where = std::string(name);
            written.from_text = true;
            written.kind = Written::Kind::kString;
            written.text = text.substr(equals + 1);
            reader.apply(*found, written);
        } else if (names_section) {
            std::vector<std::string> names;
            for (const auto& row : table()) names.push_back(environment_name(row.key.key));
            std::vector<std::string_view> views(names.begin(), names.end());
            reader.problem(std::string(name),
                           "no such variable; the nearest known one is " + std::string(nearest(name, views)));
        }
    }
}

void check_whole(Reader& reader, Config& config) {
    constexpr std::array<std::pair<std::string_view, StringMember>, 4> required = {{
        {"store.url", &Config::store_url},
        {"tokens.key_file", &Config::tokens_key_file},
        {"security.pepper_file", &Config::security_pepper_file},
        {"security.master_key_file", &Config::security_master_key_file},
    }};
    for (const auto& [key, member] : required)
        if ((config.*member).empty())
            reader.problem(config.file, std::string(key) + " is missing: " + std::string(find_row(key)->key.help));
    // Paths inside URLs are relative to the file as well.
    for (auto [member, scheme] : {std::pair<StringMember, std::string_view>{&Config::store_url, "sqlite:"},
                                  {&Config::http_listen, "unix:"},
                                  {&Config::metrics_listen, "unix:"}}) {
        auto& url = config.*member;
        if (url.starts_with(scheme)) url = std::string(scheme) + reader.resolve(url.substr(scheme.size()));
    }
    if (config.redis_keys_url.empty()) config.redis_keys_url = config.redis_url;
    if (config.redis_cluster && !reader.has_shards()) config.redis_shards = limits::kShardsClusterDefault;
    if (config.redis_sentinels.empty() != config.redis_sentinel_master.empty())
        reader.problem(config.file, "redis.sentinels and redis.sentinel_master go together");
    if (config.redis_cluster && !config.redis_sentinels.empty())
        reader.problem(config.file, "redis.cluster and redis.sentinels exclude each other");
    if (config.redis_prefix.find_first_of("{}") != std::string::npos || has_control_characters(config.redis_prefix))
        reader.problem(config.file,
                       "redis.prefix must have no braces and no control characters: they would move keys "
                       "to other slots than the edge expects");
}

}  // namespace

const std::vector<ConfigKey>& config_keys() {
    static const std::vector<ConfigKey> keys = [] {
        std::vector<ConfigKey> all;
        for (const auto& row : table()) all.push_back(row.key);
        return all;
    }();
    return keys;
}

Result<Config> load_config(const std::string& path) {
    Config config;
    config.file = path;
    std::vector<std::string> problems;
    std::error_code ec;
    if (!std::filesystem::exists(path, ec))
        return fail(ErrorCode::kNotFound, path +
                                              ": there is no such file; make one with `headgate init --dir DIR`, or "
                                              "name yours with --config or HEADGATE_CONFIG");
    Reader reader(config, problems);
    read_file(reader, path);
    read_environment(reader);
    if (problems.empty()) check_whole(reader, config);
    if (problems.empty()) return config;
    return fail(ErrorCode::kInvalidArgument, join(problems, "\n"));
}

std::string config_path(std::string_view option) {
    if (!option.empty()) return std::string(option);
    const char* variable = std::getenv("HEADGATE_CONFIG");  // NOLINT(concurrency-mt-unsafe): no thread sets one
    return variable != nullptr && *variable != '\0' ? variable : "/etc/headgate/headgate.toml";
}

Result<std::string> read_secret_file(const std::string& path) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0)
        return fail(ErrorCode::kNotFound, path + ": " + std::string(std::generic_category().message(errno)));
    if (!S_ISREG(status.st_mode)) return fail(ErrorCode::kInvalidArgument, path + ": is not a regular file");
    if ((status.st_mode & 077) != 0)
        return fail(ErrorCode::kForbidden, path + ": others than its owner may use it; run: chmod 600 " + path);
    if (static_cast<std::size_t>(status.st_size) > limits::kSecretFileBytesMax)
        return fail(ErrorCode::kTooLarge,
                    path + ": is larger than " + std::to_string(limits::kSecretFileBytesMax) + " bytes");
    std::ifstream file(path, std::ios::binary);
    std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (!file) return fail(ErrorCode::kForbidden, path + ": cannot be read by this user");
    std::string value(secret_file_value(text));
    if (value.empty()) return fail(ErrorCode::kInvalidArgument, path + ": is empty");
    return value;
}

}  // namespace headgate
