// links: headgate_deliver
#include <string>
#include <string_view>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/deliver/target_guard.h"

using namespace headgate;

namespace {

const std::vector<std::string> kNone;
const std::vector<std::string> kAll = {"*"};

TargetGuard guard_with(std::vector<std::string_view> ceiling,
                       std::vector<std::pair<IpAddress, std::uint16_t>> never = {}) {
    TargetGuardOptions options;
    for (const std::string_view network : ceiling) {
        options.allow_networks.push_back(parse_network(network).value());
    }
    options.never = std::move(never);
    return TargetGuard(std::move(options));
}

TargetVerdict verdict(const TargetGuard& guard, std::string_view address, const std::vector<std::string>& networks,
                      std::uint16_t port = 443, bool is_https = true) {
    return guard.check(parse_ip(address).value(), port, is_https, networks);
}

void expect(const TargetGuard& guard, std::string_view address, const std::vector<std::string>& networks,
            TargetVerdict wanted) {
    const TargetVerdict got = verdict(guard, address, networks);
    if (got != wanted) {
        print_error("%s: %s\n", address.data(), guard.explain(parse_ip(address).value(), 443, true, networks).c_str());
    }
    assert_int_equal(got, wanted);
}

constexpr std::string_view kNotPublic[] = {
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.0.1",
    "169.254.1.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    // IPv4-mapped
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:7f00:1",
    // IPv6
    "::",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "100::1",
    "2001:db8::1",
    "3fff::1",
    "4000::1",
    "::2",
    // IPv4-compatible, NAT64, local NAT64, 6to4, Teredo, ISATAP
    "::127.0.0.1",
    "::8.8.8.8",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:101",
    "64:ff9b:1::8.8.8.8",
    "2002:7f00:1::1",
    "2002:a00:1::",
    "2002:c0a8:101::1",
    "2001:0:808:808::1",
    "2001::1",
    "2001:2::1",
    "2001:10::1",
    "2a00:1450::5efe:10.0.0.1",
    "2a00:1450::200:5efe:127.0.0.1",
};

constexpr std::string_view kPublic[] = {
    "8.8.8.8",      "1.1.1.1",           "9.255.255.255",  "11.0.0.0",         "100.63.255.255",  "100.128.0.0",
    "172.15.0.1",   "172.32.0.1",        "192.0.1.1",      "198.17.255.1",     "198.20.0.1",      "223.255.255.255",
    "2606:4700::1", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1",
};

void test_check_special_addresses_refused_by_default(void**) {
    const TargetGuard guard = guard_with({});
    for (const std::string_view address : kNotPublic) {
        expect(guard, address, kAll, TargetVerdict::kBlockedAddress);
        // Never without a reason in words.
        assert_true(guard.explain(parse_ip(address).value(), 443, true, kAll).find(" is  ") == std::string::npos);
    }
    for (const std::string_view address : kPublic) {
        expect(guard, address, kNone, TargetVerdict::kAllowed);
    }
}

void test_check_metadata_addresses_never(void**) {
    const TargetGuard guard = guard_with({"0.0.0.0/0", "::/0"});
    for (const std::string_view address :
         {"169.254.169.254",
          "169.254.169.253",
          "169.254.170.2",
          "169.254.170.23",
          "100.100.100.200",
          "168.63.129.16",
          "192.0.0.192",
          "fd00:ec2::254",
          "fd00:ec2::23",
          "fd20:ce::254",
          "::ffff:169.254.169.254",
          "64:ff9b::169.254.169.254",
          "64:ff9b:1::169.254.169.254",
          "2002:a9fe:a9fe::1",
          "::169.254.169.254",
          "2001:0:1:1:1:1:5601:5601",
          "2001:0:a9fe:a9fe::1",
          "64:ff9b:1:a9fe:a9:fe00::",    // a local NAT64 with a prefix of 48 bits (RFC 6052, 2.2),
          "64:ff9b:1:a9:fe:a9fe::",      // of 56,
          "64:ff9b:1:0:a9:fea9:fe00::",  // of 64
          "2a00:1450::5efe:169.254.169.254"}) {
        expect(guard, address, kAll, TargetVerdict::kBlockedAddress);
    }
    // The rest of link-local can be allowed.
    expect(guard, "169.254.7.7", kAll, TargetVerdict::kAllowed);
}

void test_check_needs_ceiling_and_organization(void**) {
    const TargetGuard guard = guard_with({"10.0.0.0/8", "fd00::/8"});
    expect(guard, "10.1.2.3", kNone, TargetVerdict::kBlockedAddress);
    expect(guard, "10.1.2.3", kAll, TargetVerdict::kAllowed);
    expect(guard, "::ffff:10.1.2.3", kAll, TargetVerdict::kAllowed);
    expect(guard, "10.1.2.3", {"10.1.0.0/16"}, TargetVerdict::kAllowed);
    expect(guard, "10.2.2.3", {"10.1.0.0/16"}, TargetVerdict::kBlockedAddress);
    expect(guard, "192.168.0.1", {"192.168.0.0/16"}, TargetVerdict::kBlockedAddress);
    expect(guard, "10.1.2.3", {"nonsense", "10.1.2.3/33"}, TargetVerdict::kBlockedAddress);
    expect(guard, "fd01::1", kAll, TargetVerdict::kAllowed);
    // The translated form of an allowed address is another address.
    expect(guard, "64:ff9b::10.1.2.3", kAll, TargetVerdict::kBlockedAddress);
}

void test_check_https_and_ports(void**) {
    const TargetGuard guard = guard_with({"10.0.0.0/8", "8.8.4.0/24"});
    assert_int_equal(verdict(guard, "8.8.8.8", kAll, 80, false), TargetVerdict::kNotHttps);
    assert_int_equal(verdict(guard, "8.8.4.4", kAll, 80, false), TargetVerdict::kAllowed);
    assert_int_equal(verdict(guard, "8.8.4.4", kNone, 80, false), TargetVerdict::kNotHttps);
    assert_int_equal(verdict(guard, "10.0.0.1", kAll, 80, false), TargetVerdict::kAllowed);
    for (const std::uint16_t port : {0, 1, 22, 25, 53, 79, 81, 442, 444, 1023}) {
        assert_int_equal(verdict(guard, "8.8.8.8", kAll, port), TargetVerdict::kBlockedPort);
        assert_int_equal(verdict(guard, "10.0.0.1", kAll, port), TargetVerdict::kBlockedPort);
    }
    for (const std::uint16_t port : {80, 443, 1024, 65535}) {
        assert_int_equal(verdict(guard, "8.8.8.8", kAll, port), TargetVerdict::kAllowed);
    }
}

void test_check_own_services_never(void**) {
    const TargetGuard guard = guard_with({"0.0.0.0/0", "::/0"},
                                         {{parse_ip("127.0.0.1").value(), 6379}, {parse_ip("10.0.0.5").value(), 5432}});
    assert_int_equal(verdict(guard, "10.0.0.5", kAll, 5432), TargetVerdict::kBlockedAddress);
    assert_int_equal(verdict(guard, "10.0.0.5", kAll, 5433), TargetVerdict::kAllowed);
    assert_int_equal(verdict(guard, "64:ff9b::10.0.0.5", kAll, 5432), TargetVerdict::kBlockedAddress);
    // Every name of this host is this host.
    for (const std::string_view address : {"127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"}) {
        assert_int_equal(verdict(guard, address, kAll, 6379), TargetVerdict::kBlockedAddress);
    }
    assert_int_equal(verdict(guard, "127.0.0.1", kAll, 6380), TargetVerdict::kAllowed);
}

// A master that took over, a name that means another address: known from the moment that somebody connects.
void test_check_servers_that_turn_up_later_never(void**) {
    auto learned = std::make_shared<OwnServers>(
        std::vector<IpAddress>{parse_ip("127.0.0.1").value(), parse_ip("10.0.0.1").value()});
    TargetGuardOptions options;
    options.allow_networks = {parse_network("0.0.0.0/0").value(), parse_network("::/0").value()};
    options.learned = learned;
    const TargetGuard guard(options);
    const TargetGuard another(guard.options());
    assert_int_equal(verdict(guard, "10.0.0.7", kAll, 6379), TargetVerdict::kAllowed);
    learned->learn(parse_ip("10.0.0.7").value(), 6379);
    learned->learn(parse_ip("10.0.0.7").value(), 6379);
    for (const TargetGuard* each : {&guard, &another}) {
        assert_int_equal(verdict(*each, "10.0.0.7", kAll, 6379), TargetVerdict::kBlockedAddress);
        assert_int_equal(verdict(*each, "64:ff9b::10.0.0.7", kAll, 6379), TargetVerdict::kBlockedAddress);
        assert_int_equal(verdict(*each, "10.0.0.7", kAll, 6380), TargetVerdict::kAllowed);
        assert_int_equal(verdict(*each, "10.0.0.8", kAll, 6379), TargetVerdict::kAllowed);
    }
    // On this machine it may listen on every address.
    learned->learn(parse_ip("127.0.0.1").value(), 7001);
    assert_int_equal(verdict(guard, "10.0.0.1", kAll, 7001), TargetVerdict::kBlockedAddress);
    assert_int_equal(verdict(guard, "::1", kAll, 7001), TargetVerdict::kBlockedAddress);
    assert_true(guard.explain(parse_ip("10.0.0.1").value(), 7001, true, kAll).find("Headgate's own") !=
                std::string::npos);
    // Bounded: the oldest are forgotten.
    for (std::uint32_t host = 0; host < 10'000; ++host) {
        learned->learn(ip_from_v4(0x0b000000U + host), 6379);
    }
    assert_int_equal(verdict(guard, "10.0.0.7", kAll, 6379), TargetVerdict::kAllowed);
    assert_int_equal(verdict(guard, "11.0.39.15", kAll, 6379), TargetVerdict::kBlockedAddress);
}

void test_parse_target_url_good(void**) {
    struct Row {
        std::string_view url, scheme, host;
        std::uint16_t port;
        bool is_literal;
    };
    static constexpr Row kRows[] = {
        {"https://example.com", "https", "example.com", 443, false},
        {"HTTPS://Example.COM:8443/Path?q=1&x[]=%20", "https", "example.com", 8443, false},
        {"http://a_b.example?x", "http", "a_b.example", 80, false},
        {"https://xn--bcher-kva.example/", "https", "xn--bcher-kva.example", 443, false},
        {"http://127.0.0.1:8080/", "http", "127.0.0.1", 8080, true},
        {"https://[2001:DB8::1]:1024/x", "https", "2001:db8::1", 1024, true},
        {"https://[::1]", "https", "::1", 443, true},
        {"https://1.example.com/", "https", "1.example.com", 443, false},
    };
    for (const Row& row : kRows) {
        const auto target = parse_target_url(row.url);
        if (!target) {
            print_error("%s: %s\n", row.url.data(), target.error().message.c_str());
        }
        assert_true(target.has_value());
        const bool is_same = target->scheme == row.scheme && target->host == row.host && target->port == row.port &&
                             target->is_literal_address == row.is_literal;
        assert_true(is_same);
    }
}

void test_parse_target_url_mistakes_refused(void**) {
    for (const std::string_view url :
         {"", "example.com", "//example.com", "ftp://example.com", "file:///etc/passwd", "https:/example.com",
          "https://", "https:///path", "https://?q", "gopher://127.0.0.1:6379/_x", "javascript:alert(1)",
          // numeric forms of IPv4 that resolvers accept
          "https://2130706433/", "https://0x7f000001/", "https://0x7f.0.0.1/", "https://0177.0.0.1/",
          "https://017700000001/", "https://127.1/", "https://127.0.1/", "https://1.2.3.4.5/", "https://0/",
          "https://127.0.0.01/", "https://256.1.1.1/", "https://1.2.3.0x4/", "https://example.0x7f/", "https://0x/",
          "https://foo.123/",
          // trailing dots, empty labels, escapes, zones, user information
          "https://example.com./", "https://127.0.0.1./", "https://.example.com/", "https://a..b/",
          "https://exa%6dple.com/", "https://127.0.0.1%2f@x/", "https://user@example.com/",
          "https://user:pw@example.com/", "https://example.com@127.0.0.1/", "https://[fe80::1%25eth0]/",
          "https://[fe80::1%eth0]/", "https://[::1", "https://::1/", "https://[127.0.0.1]/", "https://[]/",
          "https://[::1]x/", "https://[::1]:/", "https://-a.example/", "https://a-.example/",
          // ports
          "https://example.com:/", "https://example.com:0/", "https://example.com:65536/", "https://example.com:080/",
          "https://example.com:+80/", "https://example.com:80:80/", "https://example.com:8x/",
          // what other parsers read differently
          "https://example.com\\@127.0.0.1/", "https:\\\\example.com", "https://example.com/#frag",
          "https://exa mple.com/", "https://example.com/a b", "https://example.com/\r\nHost: x", " https://x.de",
          "https://b\xc3\xbc"
          "cher.example/",
          "https://\xe2\x91\xa0.example/", "https://example.com/\x7f"}) {
        const bool is_accepted = parse_target_url(url).has_value();
        if (is_accepted) {
            print_error("%s was accepted\n", url.data());
        }
        assert_false(is_accepted);
    }
    assert_false(parse_target_url(std::string_view("https://a\0b/", 12)).has_value());
    const std::string base = "https://example.com/";
    assert_true(parse_target_url(base + std::string(2048 - base.size(), 'a')).has_value());
    assert_false(parse_target_url(base + std::string(2049 - base.size(), 'a')).has_value());
    assert_true(parse_target_url("https://" + std::string(63, 'a') + ".de/").has_value());
    assert_false(parse_target_url("https://" + std::string(64, 'a') + ".de/").has_value());
}

void test_check_url_at_write_time(void**) {
    const TargetGuard guard = guard_with({"127.0.0.0/8"});
    const auto allowed = [&](std::string_view url, const std::vector<std::string>& networks) {
        return guard.check_url(url, networks).has_value();
    };
    assert_true(allowed("https://example.com/", kNone));
    assert_false(allowed("http://example.com/", kNone));
    assert_true(allowed("http://hooks.internal:8080/", kAll));  // its address is checked when a socket is opened
    assert_true(allowed("http://hooks.internal:8080/", {"127.0.0.1"}));
    assert_false(allowed("http://hooks.internal:8080/", {"10.0.0.0/8"}));  // not within the ceiling
    assert_true(allowed("http://127.0.0.1:9000/x", kAll));
    assert_false(allowed("http://127.0.0.1:9000/x", kNone));
    assert_false(allowed("https://10.0.0.1/", kAll));
    assert_false(allowed("https://169.254.169.254/latest/", kAll));
    assert_false(allowed("https://example.com:22/", kNone));
    assert_false(allowed("https://localhost:9000/", kNone));
    assert_true(allowed("http://localhost:9000/", kAll));
    assert_false(guard_with({}).check_url("http://hooks.internal:8080/", kAll).has_value());
}

void test_explain_names_the_reason(void**) {
    const TargetGuard guard = guard_with({"192.168.0.0/16"}, {{parse_ip("192.168.0.1").value(), 6379}});
    const auto says = [&](std::string_view address, std::uint16_t port, bool is_https, std::string_view words) {
        const std::string text = guard.explain(parse_ip(address).value(), port, is_https, kNone);
        if (text.find(words) == std::string::npos) {
            print_error("%s\n", text.c_str());
        }
        assert_true(text.find(words) != std::string::npos);
    };
    says("10.0.0.1", 443, true, "10.0.0.1 is private (RFC 1918) and not in security.allow_networks");
    says("192.168.1.1", 443, true, "not allowed for this organization");
    says("169.254.169.254", 443, true, "metadata");
    says("192.168.0.1", 6379, true, "own Redis");
    says("8.8.8.8", 22, true, "port 22");
    says("8.8.8.8", 80, false, "https is required");
    says("8.8.8.8", 443, true, "8.8.8.8 is public: allowed");
    says("64:ff9b::10.0.0.1", 443, true, "translated form");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_check_special_addresses_refused_by_default),
        cmocka_unit_test(test_check_metadata_addresses_never),
        cmocka_unit_test(test_check_needs_ceiling_and_organization),
        cmocka_unit_test(test_check_https_and_ports),
        cmocka_unit_test(test_check_own_services_never),
        cmocka_unit_test(test_check_servers_that_turn_up_later_never),
        cmocka_unit_test(test_parse_target_url_good),
        cmocka_unit_test(test_parse_target_url_mistakes_refused),
        cmocka_unit_test(test_check_url_at_write_time),
        cmocka_unit_test(test_explain_names_the_reason),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
