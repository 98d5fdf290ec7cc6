// links: headgate_cli
// `headgate init` as it is run: its files, their modes and texts, and that it never overwrites.
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "sidecar/cli/cli.h"
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

namespace fs = std::filesystem;

struct Directory {
    Directory() {
        char name[] = "/tmp/headgate-init-XXXXXX";
        path = mkdtemp(name);
    }
    ~Directory() { fs::remove_all(path); }
    std::string path;
};

int run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "headgate");
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    return headgate::run_command_line(static_cast<int>(argv.size()), argv.data());
}

std::string text_of(const std::string& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
}

int count(const std::string& text, const std::string& part) {
    int found = 0;
    for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
    return found;
}

void test_init_writes_every_file_for_its_owner_only(void**) {
    std::map<std::string, mode_t> modes;
    mode_t directory_mode = 0;
    std::string toml, token_key, nginx;
    int code = -1;
    {
        Directory directory;
        std::string dir = directory.path + "/hg";
        code = run({"init", "--dir", dir, "--redis", "redis://127.0.0.1:7777/2", "--org", "acme"});
        struct stat status {};
        if (stat(dir.c_str(), &status) == 0) directory_mode = status.st_mode & 0777;
        for (const auto& entry : fs::directory_iterator(dir))
            if (stat(entry.path().c_str(), &status) == 0) modes[entry.path().filename()] = status.st_mode & 0777;
        toml = text_of(dir + "/headgate.toml");
        token_key = text_of(dir + "/token.key");
        nginx = text_of(dir + "/nginx.conf");
        if (count(nginx, dir + "/pepper;") != 1) nginx.clear();
    }
    assert_int_equal(code, 0);
    assert_int_equal(directory_mode, 0700);
    for (const char* name :
         {"headgate.toml", "pepper", "token.key", "master.key", "plans.conf", "nginx.conf", "users.acl", "headgate.db"})
        assert_int_equal(modes[name], 0600);
    assert_int_equal(token_key.size(), 65);
    assert_int_equal(count(toml, "\nallow_networks = []\n"), 1);
    assert_int_equal(count(nginx, "127.0.0.1:7777 db=2;"), 1);
    assert_int_equal(count(nginx, "proxy_pass"), 3);
}

void test_init_makes_an_account_that_the_store_knows(void**) {
    bool ok = false;
    {
        Directory directory;
        std::string dir = directory.path + "/hg";
        if (run({"--json", "init", "--dir", dir, "--org", "acme"}) == 0) {
            auto config = headgate::load_config(dir + "/headgate.toml");
            auto master_keys = headgate::load_master_keys(*config);
            auto store = headgate::open_configured_store(*config, *master_keys, headgate::StoreUse::kBeside);
            auto orgs = (*store)->list_orgs();
            auto keys = (*store)->list_keys(orgs->front().id);
            ok = orgs->size() == 1 && orgs->front().name == "acme" && orgs->front().allow_networks.size() == 1 &&
                 orgs->front().allow_networks.front() == "*" && keys->size() == 1 && keys->front().scopes == "admin" &&
                 keys->front().plan == "enterprise";
        }
    }
    assert_true(ok);
}

void test_init_overwrites_nothing(void**) {
    int code = -1;
    std::string kept;
    bool wrote_more = true;
    {
        Directory directory;
        std::ofstream(directory.path + "/pepper") << "mine";
        code = run({"init", "--dir", directory.path});
        kept = text_of(directory.path + "/pepper");
        wrote_more = fs::exists(directory.path + "/token.key");
    }
    assert_int_equal(code, 1);
    assert_string_equal(kept.c_str(), "mine");
    assert_false(wrote_more);
}

// There are no default credentials: whatever is secret is another one in each installation.
void test_init_makes_other_secrets_each_time(void**) {
    int same = 0, read = 0;
    bool has_open_user = true;
    {
        Directory first, second;
        for (const auto& directory : {first.path, second.path}) {
            if (run({"--json", "init", "--dir", directory + "/hg", "--org", "acme"}) != 0) same++;
        }
        for (const char* name : {"pepper", "token.key", "master.key", "users.acl"}) {
            const std::string text = text_of(first.path + "/hg/" + name);
            read += text.size() > 40 ? 1 : 0;
            same += text == text_of(second.path + "/hg/" + name) ? 1 : 0;
        }
        has_open_user = count(text_of(first.path + "/hg/users.acl"), "nopass") > 0;
    }
    assert_int_equal(read, 4);
    assert_int_equal(same, 0);
    assert_false(has_open_user);
}

void test_init_that_fails_leaves_nothing(void**) {
    int code = -1;
    bool is_left = true;
    {
        Directory directory;
        code = run({"init", "--dir", directory.path + "/hg", "--store", "postgresql://nowhere/db"});
        is_left = fs::exists(directory.path + "/hg");
    }
    assert_int_equal(code, 1);
    assert_false(is_left);
}

void test_command_line_exit_codes_and_option_places(void**) {
    assert_int_equal(run({"nonsense"}), 2);
    assert_int_equal(run({"key", "create"}), 2);
    assert_int_equal(run({"--help"}), 0);
    assert_int_equal(run({"--json", "--config", "x", "version"}), 0);
    assert_int_equal(run({"version", "--json", "--config", "x"}), 0);
    assert_int_equal(run({"org", "list", "--config", "/nonexistent/headgate.toml"}), 1);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_init_writes_every_file_for_its_owner_only),
        cmocka_unit_test(test_init_makes_an_account_that_the_store_knows),
        cmocka_unit_test(test_init_overwrites_nothing),
        cmocka_unit_test(test_init_makes_other_secrets_each_time),
        cmocka_unit_test(test_init_that_fails_leaves_nothing),
        cmocka_unit_test(test_command_line_exit_codes_and_option_places),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
