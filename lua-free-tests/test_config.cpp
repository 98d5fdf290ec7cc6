// links: headgate_app
// The configuration: every key of the table, unknown keys, units, environment, secret files.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "sidecar/base/text.h"
#include "sidecar/config.h"
#include "sidecar/settings.h"

// cmocka needs these before it; its macro `fail` must come after everything of ours.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}
// clang-format on

namespace {

using headgate::Config;

constexpr const char* kMinimal =
    "[store]\nurl = \"sqlite:h.db\"\n[tokens]\nkey_file = \"token.key\"\n"
    "[security]\npepper_file = \"pepper\"\nmaster_key_file = \"/abs/master.key\"\n";

// A directory of its own for each test, removed at its end.
struct Directory {
    Directory() {
        char name[] = "/tmp/headgate-config-XXXXXX";
        path = mkdtemp(name);
    }
    ~Directory() { std::filesystem::remove_all(path); }
    std::string write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
        std::string file = path + "/" + name;
        std::ofstream(file) << text;
        chmod(file.c_str(), mode);
        return file;
    }
    std::string path;
};

// The message of a configuration that must be refused; empty when it was taken.
std::string refusal(const std::string& text) {
    Directory directory;
    auto config = headgate::load_config(directory.write("headgate.toml", text));
    return config ? std::string() : config.error().message;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void test_load_config_minimal_keeps_defaults_and_resolves_paths(void**) {
    bool ok = false;
    {
        Directory directory;
        auto config = headgate::load_config(directory.write("headgate.toml", kMinimal));
        ok = config && config->store_url == "sqlite:" + directory.path + "/h.db" &&
             config->tokens_key_file == directory.path + "/token.key" &&
             config->security_master_key_file == "/abs/master.key" &&
             config->security_previous_master_key_files.empty() && config->redis_shards == 8 &&
             config->redis_keys_url == config->redis_url && config->tokens_lifetime_ms == 86400000;
    }
    assert_true(ok);
}

void test_load_config_lists_of_files_are_resolved(void**) {
    std::vector<std::string> files, expected;
    {
        Directory directory;
        auto config = headgate::load_config(
            directory.write("headgate.toml",
                            std::string(kMinimal) + "previous_master_key_files = [\"old.key\", \"/abs/older.key\"]\n"));
        if (config) files = config->security_previous_master_key_files;
        expected = {directory.path + "/old.key", "/abs/older.key"};
    }
    assert_true(files == expected);
    assert_true(has(refusal(std::string(kMinimal) + "previous_master_key_files = \"old.key\"\n"),
                    "security.previous_master_key_files must be a list"));
}

void test_config_keys_defaults_are_those_of_the_structure(void**) {
    bool ok = true;
    Config defaults;
    for (const auto& key : headgate::config_keys()) {
        if (key.key == "redis.url") ok = ok && key.def == defaults.redis_url;
        if (key.key == "redis.shards") ok = ok && key.def == std::to_string(defaults.redis_shards);
        if (key.key == "tokens.lifetime")
            ok = ok && headgate::parse_duration_ms(key.def) == defaults.tokens_lifetime_ms;
        if (key.key == "retention.events")
            ok = ok && headgate::parse_duration_ms(key.def) == defaults.retention_events_ms;
        if (key.key == "retention.quarantine")
            ok = ok && headgate::parse_duration_ms(key.def) == defaults.retention_quarantine_ms;
        if (key.key == "retention.audit")
            ok = ok && headgate::parse_duration_ms(key.def) == defaults.retention_audit_ms;
        if (key.key == "http.listen") ok = ok && key.def == defaults.http_listen;
        ok = ok && !key.help.empty() && !key.type.empty();
    }
    assert_true(ok);
    assert_int_equal(headgate::config_keys().size(), 37);
}

void test_load_config_unknown_key_names_line_and_nearest(void**) {
    std::string message = refusal(std::string(kMinimal) + "[redis]\nshard = 4\n");
    assert_true(has(message, "headgate.toml:9: unknown key redis.shard; the nearest known one is redis.shards"));
    assert_true(has(refusal(std::string("urll = 1\n") + kMinimal), "headgate.toml:1: unknown key urll"));
    assert_true(has(refusal(std::string(kMinimal) + "[redsi]\nurl = \"x\"\n"), "redis.url"));
}

void test_load_config_cluster_and_sentinels_are_read(void**) {
    const std::string minimal = kMinimal;
    assert_string_equal(refusal(minimal + "[redis]\ncluster = true\n").c_str(), "");
    assert_string_equal(refusal(minimal + "[redis]\nsentinels = [\"a:1\", \"b\"]\nsentinel_master = \"m\"\n").c_str(),
                        "");
    assert_true(has(refusal(minimal + "[redis]\ncluster = 1\n"), "redis.cluster must be true or false"));
    assert_true(has(refusal(minimal + "[redis]\nsentinels = \"a\"\n"), "redis.sentinels must be a list"));
    assert_true(has(refusal(minimal + "[redis]\nsentinels = [\"a\"]\n"), "go together"));
    assert_true(has(refusal(minimal + "[redis]\ncluster = true\nsentinels = [\"a\"]\nsentinel_master = \"m\"\n"),
                    "exclude each other"));
}

void test_load_config_reports_every_problem(void**) {
    std::string message = refusal(std::string(kMinimal) +
                                  "[redis]\nshards = 1025\nurl = 5\n[tokens2]\na = 1\n[log]\nlevel = \"loud\"\n"
                                  "[retention]\nevents = \"90\"\n[http]\ntrusted_proxies = [\"10.0.0.1/8\"]\n");
    assert_true(has(message, "redis.shards must be a whole number from 1 to 1024"));
    assert_true(has(message, "redis.url must be a string"));
    assert_true(has(message, "tokens2.a"));
    assert_true(has(message, "log.level must be one of"));
    assert_true(has(message, "retention.events must be a duration"));
    assert_true(has(message, "\"10.0.0.1/8\" is no network"));
}

void test_load_config_shards_at_the_bound_are_taken(void**) {
    assert_string_equal(refusal(std::string(kMinimal) + "[redis]\nshards = 1024\n").c_str(), "");
}

void test_load_config_missing_required_keys_are_named(void**) {
    std::string message = refusal("[redis]\n");
    for (const char* key : {"store.url", "tokens.key_file", "security.pepper_file", "security.master_key_file"})
        assert_true(has(message, std::string(key) + " is missing"));
}

void test_load_config_bad_toml_and_no_file_are_errors(void**) {
    assert_true(has(refusal("[redis\n"), "is not valid TOML"));
    bool missing = false;
    {
        auto config = headgate::load_config("/nonexistent/headgate.toml");
        missing = !config && has(config.error().message, "headgate init");
    }
    assert_true(missing);
}

void test_load_config_environment_wins_and_typos_are_errors(void**) {
    std::string shards_error, typo_error;
    bool ok = false;
    {
        Directory directory;
        std::string file = directory.write("headgate.toml", std::string(kMinimal) + "[redis]\nshards = 4\n");
        setenv("HEADGATE_REDIS_SHARDS", "16", 1);
        setenv("HEADGATE_SECURITY_ALLOW_NETWORKS", "127.0.0.0/8, 10.0.0.0/8", 1);
        auto config = headgate::load_config(file);
        ok = config && config->redis_shards == 16 && config->security_allow_networks.size() == 2;
        setenv("HEADGATE_REDIS_SHARDS", "16x", 1);
        auto wrong = headgate::load_config(file);
        if (!wrong) shards_error = wrong.error().message;
        unsetenv("HEADGATE_REDIS_SHARDS");
        unsetenv("HEADGATE_SECURITY_ALLOW_NETWORKS");
        setenv("HEADGATE_REDIS_SHRADS", "16", 1);
        auto typo = headgate::load_config(file);
        if (!typo) typo_error = typo.error().message;
        unsetenv("HEADGATE_REDIS_SHRADS");
    }
    assert_true(ok);
    assert_true(has(shards_error, "HEADGATE_REDIS_SHARDS: redis.shards must be"));
    assert_true(has(typo_error, "nearest known one is HEADGATE_REDIS_SHARDS"));
}

void test_read_secret_file_open_to_others_is_refused(void**) {
    std::string open_error, value, empty_error;
    {
        Directory directory;
        auto open = headgate::read_secret_file(directory.write("open", "secret\n", 0640));
        if (!open) open_error = open.error().message;
        auto good = headgate::read_secret_file(directory.write("good", "secret\n", 0600));
        if (good) value = *good;
        auto empty = headgate::read_secret_file(directory.write("empty", "\n", 0600));
        if (!empty) empty_error = empty.error().message;
    }
    assert_true(has(open_error, "chmod 600"));
    assert_string_equal(value.c_str(), "secret");
    assert_true(has(empty_error, "is empty"));
}

void test_parse_duration_units_and_overflow(void**) {
    assert_true(headgate::parse_duration_ms("90d") == 90LL * 86400000);
    assert_true(headgate::parse_duration_ms("250ms") == 250);
    assert_false(headgate::parse_duration_ms("90").has_value());
    assert_false(headgate::parse_duration_ms("-1s").has_value());
    assert_false(headgate::parse_duration_ms("9223372036854775807w").has_value());
}

void test_parse_host_port_forms(void**) {
    assert_true(headgate::parse_host_port("[::1]:80").has_value());
    assert_false(headgate::parse_host_port("::1:80").has_value());
    assert_false(headgate::parse_host_port("host").has_value());
    assert_false(headgate::parse_host_port("host:65536").has_value());
}

// An interface's address led to the API that listens on every one, and to the Redis of this machine.
void test_guard_options_block_own_ports_on_every_interface(void**) {
    Config config;
    config.http_listen = "0.0.0.0:8480";
    config.redis_url = config.redis_keys_url = "redis://127.0.0.1:6399";
    config.store_url = "postgresql://headgate@127.0.0.1:6432/headgate";
    config.security_allow_networks = {*headgate::parse_network("0.0.0.0/0"), *headgate::parse_network("::/0")};
    headgate::TargetGuard guard(headgate::guard_options(config));
    ifaddrs* interfaces = nullptr;
    assert_int_equal(getifaddrs(&interfaces), 0);
    int checked = 0;
    for (const ifaddrs* each = interfaces; each != nullptr; each = each->ifa_next) {
        if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET) continue;
        char text[INET_ADDRSTRLEN];
        inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(each->ifa_addr)->sin_addr, text, sizeof text);
        auto address = *headgate::parse_ip(text);
        for (std::uint16_t port : {std::uint16_t{8480}, std::uint16_t{6399}, std::uint16_t{6432}})
            assert_true(guard.check(address, port, false, {"*"}) == headgate::TargetVerdict::kBlockedAddress);
        assert_true(guard.check(address, 9000, false, {"*"}) == headgate::TargetVerdict::kAllowed);
        ++checked;
    }
    freeifaddrs(interfaces);
    assert_true(checked > 0);
}

void test_store_servers_are_known_to_the_guard(void**) {
    Config config;
    config.store_url = "postgresql://u:p@10.9.8.7:5433/h";
    config.delivery_proxy = "http://10.9.8.6:3128";
    config.security_allow_networks = {*headgate::parse_network("10.0.0.0/8")};
    headgate::TargetGuard guard(headgate::guard_options(config));
    const auto allows = [&](const char* address, std::uint16_t port) {
        return guard.check(*headgate::parse_ip(address), port, true, {"*"}) == headgate::TargetVerdict::kAllowed;
    };
    assert_false(allows("10.9.8.7", 5433));
    assert_true(allows("10.9.8.7", 5434));
    assert_false(allows("10.9.8.6", 3128));
    assert_true(allows("10.9.8.6", 8080));
}

void test_proxy_of_the_configuration(void**) {
    std::string plain, v6, username, password;
    int refused = 0;
    {
        Directory directory;
        const std::string file = directory.path + "/proxy";
        const auto write = [&](const char* text) {
            std::ofstream(file) << text;
            chmod(file.c_str(), 0600);
        };
        Config config;
        refused += headgate::http_client_options(config)->proxy.url.empty() ? 0 : 1;
        config.delivery_proxy_credentials_file = file;
        refused += headgate::http_client_options(config) ? 0 : 1;  // credentials of no proxy
        config.delivery_proxy = "http://[2001:DB8::1]:3128";
        write("user:p:ss word\n");
        if (auto options = headgate::http_client_options(config)) {
            v6 = options->proxy.url;
            username = options->proxy.username;
            password = options->proxy.password;
        }
        write("nocolon\n");
        refused += headgate::http_client_options(config) ? 0 : 1;
        config.delivery_proxy_credentials_file.clear();
        for (const char* url : {"socks5://proxy:1080", "http://user:pw@proxy:3128", "proxy:3128", "http://proxy:0"}) {
            config.delivery_proxy = url;
            refused += headgate::http_client_options(config) ? 0 : 1;
        }
        config.delivery_proxy = "https://proxy.example";
        if (auto options = headgate::http_client_options(config)) plain = options->proxy.url;
    }
    assert_int_equal(refused, 6);
    assert_string_equal(plain.c_str(), "https://proxy.example:443");
    assert_string_equal(v6.c_str(), "http://[2001:db8::1]:3128");
    assert_string_equal(username.c_str(), "user");
    assert_string_equal(password.c_str(), "p:ss word");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_load_config_minimal_keeps_defaults_and_resolves_paths),
        cmocka_unit_test(test_load_config_lists_of_files_are_resolved),
        cmocka_unit_test(test_config_keys_defaults_are_those_of_the_structure),
        cmocka_unit_test(test_load_config_unknown_key_names_line_and_nearest),
        cmocka_unit_test(test_load_config_cluster_and_sentinels_are_read),
        cmocka_unit_test(test_load_config_reports_every_problem),
        cmocka_unit_test(test_load_config_shards_at_the_bound_are_taken),
        cmocka_unit_test(test_load_config_missing_required_keys_are_named),
        cmocka_unit_test(test_load_config_bad_toml_and_no_file_are_errors),
        cmocka_unit_test(test_load_config_environment_wins_and_typos_are_errors),
        cmocka_unit_test(test_read_secret_file_open_to_others_is_refused),
        cmocka_unit_test(test_parse_duration_units_and_overflow),
        cmocka_unit_test(test_parse_host_port_forms),
        cmocka_unit_test(test_guard_options_block_own_ports_on_every_interface),
        cmocka_unit_test(test_store_servers_are_known_to_the_guard),
        cmocka_unit_test(test_proxy_of_the_configuration),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
