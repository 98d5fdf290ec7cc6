#include <string>
#include <string_view>

#include "common/ip_network.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

std::string canonical(std::string_view text) {
    const auto address = parse_ip(text);
    return address ? address->to_string() : "refused";
}

void test_parse_ip_canonical_forms(void**) {
    assert_true(canonical("127.0.0.1") == "127.0.0.1");
    assert_true(canonical("255.255.255.255") == "255.255.255.255");
    assert_true(canonical("::ffff:10.1.2.3") == "10.1.2.3");
    assert_true(canonical("::FFFF:0A01:0203") == "10.1.2.3");
    assert_true(canonical("2001:DB8:0:0:0:0:0:1") == "2001:db8::1");
    assert_true(canonical("::") == "::");
    assert_true(parse_ip("::ffff:10.1.2.3") == parse_ip("10.1.2.3"));
    assert_true(parse_ip("10.1.2.3") == ip_from_v4(0x0A010203));
    assert_true(parse_ip("10.1.2.3")->is_v4());
    assert_false(parse_ip("::10.1.2.3")->is_v4());  // the deprecated compatible form is no IPv4
    assert_false(parse_ip("2001:db8::1")->is_v4());
}

void test_parse_ip_anything_else_refused(void**) {
    for (const std::string_view text : {"",
                                        " 127.0.0.1",
                                        "127.0.0.1 ",
                                        "127.0.0.1\n",
                                        "127.1",
                                        "2130706433",
                                        "0x7f.0.0.1",
                                        "0177.0.0.1",
                                        "127.0.0.01",
                                        "127.0.0.256",
                                        "127.0.0.",
                                        "127..0.1",
                                        "127.0.0.1.1",
                                        "fe80::1%eth0",
                                        "[::1]",
                                        "::1::",
                                        "1::2::3",
                                        "12345::",
                                        "::ffff:10.1.2.03",
                                        "::ffff:10.1.2",
                                        ":",
                                        "localhost",
                                        "127.0.0.1/32",
                                        "1:2:3:4:5:6:7:8:9",
                                        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc"}) {
        assert_true(canonical(text) == "refused");
    }
    assert_true(canonical(std::string_view("127.0.0.1\0", 10)) == "refused");
    assert_true(canonical(std::string_view("::1\0junk", 8)) == "refused");
}

void test_parse_network_prefix_counts_in_128_bits(void**) {
    assert_int_equal(parse_network("10.0.0.0/8")->prefix_bits, 104);
    assert_int_equal(parse_network("10.0.0.1")->prefix_bits, 128);
    assert_int_equal(parse_network("0.0.0.0/0")->prefix_bits, 96);
    assert_int_equal(parse_network("::ffff:10.0.0.0/104")->prefix_bits, 104);
    assert_int_equal(parse_network("::/0")->prefix_bits, 0);
    assert_int_equal(parse_network("2001:db8::/32")->prefix_bits, 32);
}

void test_parse_network_anything_else_refused(void**) {
    for (const std::string_view text :
         {"10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0/8 ",
          "10.0.0.0/8/8", "10.0.0.0/0x8", "/8", "", "2001:db8::1/32", "::/129", "::/1000", "2001:db8::/33x", "10/8",
          "128.0.0.0/0"}) {
        assert_false(parse_network(text).has_value());
    }
}

void test_network_contains_edges(void**) {
    const auto within = [](std::string_view network, std::string_view address) {
        return parse_network(network)->contains(*parse_ip(address));
    };
    assert_true(within("10.0.0.0/8", "10.255.255.255"));
    assert_false(within("10.0.0.0/8", "11.0.0.0"));
    assert_true(within("10.0.0.0/8", "::ffff:10.1.1.1"));
    assert_false(within("10.0.0.0/8", "::10.1.1.1"));
    assert_true(within("192.168.1.128/25", "192.168.1.128"));
    assert_false(within("192.168.1.128/25", "192.168.1.127"));
    assert_true(within("192.168.1.1", "192.168.1.1"));
    assert_false(within("192.168.1.1", "192.168.1.0"));
    assert_true(within("0.0.0.0/0", "8.8.8.8"));
    assert_false(within("0.0.0.0/0", "2001:db8::1"));
    assert_true(within("::/0", "8.8.8.8"));
    assert_true(within("2001:db8::/33", "2001:db8:7fff:ffff::"));
    assert_false(within("2001:db8::/33", "2001:db8:8000::"));
}

void test_ip_in_list_bad_entries_match_nothing(void**) {
    const IpAddress address = *parse_ip("10.1.2.3");
    assert_true(ip_in_list(address, "192.168.0.0/16 10.0.0.0/8"));
    assert_true(ip_in_list(address, "rubbish  10.1.2.3"));
    assert_false(ip_in_list(address, "192.168.0.0/16 10.0.0.1/8"));
    assert_false(ip_in_list(address, "rubbish"));
    assert_false(ip_in_list(address, "10.0.0.0/8,192.168.0.0/16"));
    assert_false(ip_in_list(address, ""));
    assert_false(ip_in_list(address, " "));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_ip_canonical_forms),
        cmocka_unit_test(test_parse_ip_anything_else_refused),
        cmocka_unit_test(test_parse_network_prefix_counts_in_128_bits),
        cmocka_unit_test(test_parse_network_anything_else_refused),
        cmocka_unit_test(test_network_contains_edges),
        cmocka_unit_test(test_ip_in_list_bad_entries_match_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
