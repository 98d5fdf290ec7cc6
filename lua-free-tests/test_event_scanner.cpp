// links: headgate_common Boost::json
// The event scanner by tables: what RFC 8259 and RFC 3629 allow and forbid, shapes, limits at N and N+1; each
// document whole, cut in two at every offset, and byte by byte. The random documents are in
// test_event_scanner_differential.cpp.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>

#include "event_scanner_cases.h"
#include "event_scanner_oracle.h"

extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
// cmocka wants those first.
#include <cmocka.h>
}

namespace {

using namespace headgate;
using headgate::test::agrees;
using headgate::test::invalid_values;
using headgate::test::oracle;
using headgate::test::Outcome;
using headgate::test::scan;
using headgate::test::valid_values;

EventScanner& scanner() {
    static EventScanner instance;
    return instance;
}

std::string repeat(std::string_view text, std::size_t times) {
    std::string out;
    for (std::size_t i = 0; i < times; ++i) {
        out += text;
    }
    return out;
}

// The outcome of `body` whole, which must be that of every way to cut it in two and of single bytes.
Outcome scan_every_way(const std::string& body) {
    const Outcome whole = scan(scanner(), body);
    for (std::size_t cut = 0; cut <= body.size(); ++cut) {
        if (!(scan(scanner(), body, {cut}) == whole)) {
            fail_msg("cut at %zu changes the outcome of: %s", cut, body.c_str());
        }
    }
    std::vector<std::size_t> bytes(body.size());
    std::iota(bytes.begin(), bytes.end(), std::size_t{0});
    if (!(scan(scanner(), body, bytes) == whole)) {
        fail_msg("byte by byte changes the outcome of: %s", body.c_str());
    }
    return whole;
}

std::string with_payload_value(std::string_view value) {
    return R"({"type":"order.created","source":"shop","payload":{"value":)" + std::string(value) + "}}";
}

void expect_status(const std::string& body, ScanStatus status) {
    const Outcome outcome = scan_every_way(body);
    if (outcome.status != status) {
        fail_msg("status %d instead of %d: %s (%s at %llu)", static_cast<int>(outcome.status), static_cast<int>(status),
                 body.c_str(), outcome.message.c_str(), static_cast<unsigned long long>(outcome.offset));
    }
}

void test_feed_values_of_the_grammar_are_valid(void**) {
    for (const std::string& value : valid_values()) {
        expect_status(with_payload_value(value), ScanStatus::kOk);
        // As an ignored member, and as the body.
        expect_status(R"({"x":)" + value + R"(,"type":"t","source":"s","payload":{}})", ScanStatus::kOk);
        if (value.find('{') != value.find_first_not_of(" \t\r\n")) {
            const Outcome outcome = scan_every_way(value);
            assert_int_equal(outcome.status, ScanStatus::kWrongShape);
            assert_int_equal(outcome.problems, kBodyNotObject);
        }
    }
}

void test_feed_values_outside_the_grammar_are_invalid(void**) {
    for (const std::string& value : invalid_values()) {
        expect_status(with_payload_value(value), ScanStatus::kInvalidJson);
        expect_status(R"({"x":)" + value + R"(,"type":"t","source":"s","payload":{}})", ScanStatus::kInvalidJson);
        expect_status(R"({"type":)" + value + R"(,"source":"s","payload":{}})", ScanStatus::kInvalidJson);
        expect_status(value, value.empty() ? ScanStatus::kEmpty : ScanStatus::kInvalidJson);
        // Where sixteen bytes at a time are looked at, at each of their places.
        for (std::size_t shift = 0; value.starts_with('"') && shift < 18; ++shift) {
            std::string padded = value;
            padded.insert(1, std::string(shift, 'x'));
            padded = with_payload_value("[" + padded + ",\"" + std::string(40, 'y') + "\"]");
            if (scan(scanner(), padded).status != ScanStatus::kInvalidJson) {
                fail_msg("accepted: %s", padded.c_str());
            }
        }
    }
}

void test_feed_nul_byte_anywhere_is_invalid(void**) {
    const std::string body = R"({"type":"t","source":"s","payload":{"a":[1,"b",true]}})";
    for (std::size_t at = 0; at <= body.size(); ++at) {
        std::string bad = body;
        bad.insert(at, 1, '\0');
        expect_status(bad, ScanStatus::kInvalidJson);
    }
}

void test_finish_truncated_anywhere_is_invalid(void**) {
    const std::string body =
        R"({"type":"t","x":-1.5e3,"source":"\ud83d\ude00","payload":{"a":[0,"\u00e9é漢😀",true,{}]}})";
    assert_int_equal(scan_every_way(body).status, ScanStatus::kOk);
    for (std::size_t length = 1; length < body.size(); ++length) {
        const Outcome outcome = scan_every_way(body.substr(0, length));
        assert_int_equal(outcome.status, ScanStatus::kInvalidJson);
        assert_int_equal(outcome.offset, length);
    }
}

void test_finish_no_byte_but_space_is_empty(void**) {
    expect_status("", ScanStatus::kEmpty);
    expect_status(" \t\r\n", ScanStatus::kEmpty);
    expect_status("\f", ScanStatus::kInvalidJson);
}

struct BadBody {
    std::string body;
    std::string message;  // a part of it
    std::uint64_t offset;
};

void test_feed_invalid_says_what_and_where(void**) {
    const std::vector<BadBody> cases{
        {"\xef\xbb\xbf{}", "byte order mark", 0},
        {" \xef\xbb\xbf{}", "expected a value", 1},
        {"{} x", "nothing after", 3},
        {"{}{}", "nothing after", 2},
        {"[1]]", "nothing after", 3},
        {"1 1", "nothing after", 2},
        {"}", "expected a value", 0},
        {R"({"a":1,"b":tru})", "expected a value", 14},
        {R"({"a" 1})", "colon", 5},
        {R"({"a":1;})", "comma", 6},
        {R"({"p":{"a":1]})", "comma", 11},
        {R"({"p":{"a" 1}})", "colon", 10},
        {R"({"p":{"a":1,}})", "member name", 12},
        {R"({"a":1,})", "member name", 7},
        {R"({"a":-x})", "digit", 6},
        {R"({"p":[1.x]})", "digit", 8},
        {R"({"a":"\q"})", "escape", 7},
        {R"({"p":["\u12G4"]})", "hexadecimal", 11},
        {R"({"p":["\ud800-"]})", "surrogate", 13},
        {R"({"p":["\udc00"]})", "surrogate", 12},
        {"{\"p\":[\"ab\x02\"]}", "control character", 9},
        {"{\"p\":[\"0123456789abcdefgh\xc3(\"]}", "UTF-8", 26},
        {R"({"a":1,"b":2,"a":3})", "twice", 13},
        {R"({"type":"a","\u0074yp\u0065":"b"})", "twice", 12},
        {R"({"caf\u00e9":1,"café":2})", "twice", 15},
        {R"({"":1, "":2})", "twice", 7},
    };
    for (const BadBody& bad : cases) {
        const Outcome outcome = scan_every_way(bad.body);
        assert_int_equal(outcome.status, ScanStatus::kInvalidJson);
        if (outcome.message.find(bad.message) == std::string::npos || outcome.offset != bad.offset) {
            fail_msg("%s: '%s' at %llu", bad.body.c_str(), outcome.message.c_str(),
                     static_cast<unsigned long long>(outcome.offset));
        }
    }
}

void test_feed_after_an_error_returns_false(void**) {
    EventScanner one;
    assert_true(one.feed("{\"a\"", 4));
    assert_true(one.feed(nullptr, 0));
    assert_false(one.feed("x", 1));
    assert_false(one.feed(":1}", 3));
    assert_int_equal(one.finish(), ScanStatus::kInvalidJson);
    assert_int_equal(one.error_offset(), 4);
    one.reset();
    assert_true(one.feed("{}", 2));
    assert_int_equal(one.finish(), ScanStatus::kWrongShape);
}

void test_finish_ok_gives_strings_and_payload(void**) {
    const std::string payload = R"({ "type" : "inner", "list":[{}, "}"] })";
    const Outcome outcome = scan_every_way(R"( {"ignored":{"payload":{}},"payload": )" + payload +
                                           R"( ,"t\u0079pe":"order\u002ecreated","ordering_key":"k\"\\\/\u00e9é",)" +
                                           R"("\u0073ource":"\ud83d\ude00\u20ac"} )");
    assert_int_equal(outcome.status, ScanStatus::kOk);
    assert_string_equal(outcome.type.c_str(), "order.created");
    assert_string_equal(outcome.source.c_str(), "😀€");
    assert_string_equal(outcome.ordering_key.c_str(), "k\"\\/éé");
    assert_int_equal(outcome.payload_begin, 38);
    assert_int_equal(outcome.payload_end, 38 + payload.size());
    // Nothing of it stays for the next body.
    const Outcome next = scan_every_way(R"({"type":"t","source":"s","payload":{}})");
    assert_string_equal(next.ordering_key.c_str(), "");
    assert_int_equal(next.payload_begin, 35);
}

void test_finish_wrong_shape_reports_every_problem_at_once(void**) {
    const std::vector<std::pair<std::string, std::uint32_t>> cases{
        {"[]", kBodyNotObject},
        {"[[{\"type\":1}],{}]", kBodyNotObject},
        {"\"type\"", kBodyNotObject},
        {"-1.5e7", kBodyNotObject},
        {" null ", kBodyNotObject},
        {"{}", kTypeMissing | kSourceMissing | kPayloadMissing},
        {R"({"Type":"t","payloads":{},"ordering_key":"k"})", kTypeMissing | kSourceMissing | kPayloadMissing},
        {R"({"type":null,"source":7,"payload":"{}","ordering_key":null})",
         kTypeNotString | kSourceNotString | kPayloadNotObject | kOrderingKeyNotString},
        {R"({"type":{"a":"b"},"source":["s"],"payload":[{}],"ordering_key":{}})",
         kTypeNotString | kSourceNotString | kPayloadNotObject | kOrderingKeyNotString},
        {R"({"type":"","source":"","payload":true,"ordering_key":""})",
         kTypeEmpty | kSourceEmpty | kPayloadNotObject | kOrderingKeyEmpty},
        {R"({"type":"a b","source":"\u0000","payload":{},"ordering_key":"a\n"})",
         kTypeInvalid | kSourceControl | kOrderingKeyControl},
        {R"({"type":"webhook.disabled","source":"\u0085","payload":{},"ordering_key":"\u007f"})",
         kTypeReserved | kSourceControl | kOrderingKeyControl},
        {R"({"type":"webhook.é","source":"s","payload":{}})", kTypeReserved | kTypeInvalid},
        {"{\"type\":\"t\",\"source\":\"\xc2\x9f\",\"payload\":{},\"ordering_key\":\"\x7f\"}",
         kSourceControl | kOrderingKeyControl},
        {R"({"type":"webhook","source":"\u00a0","payload":{}})", 0},
        {R"({"type":"Webhook.x","source":"s","payload":{},"ordering_key":"k"})", 0},
        {R"({"type":"aZ09_.:-","source":" ","payload":{}})", 0},
    };
    for (const auto& [body, problems] : cases) {
        const Outcome outcome = scan_every_way(body);
        const ScanStatus status = problems == 0 ? ScanStatus::kOk : ScanStatus::kWrongShape;
        if (outcome.status != status || outcome.problems != problems) {
            fail_msg("%s: problems %x, not %x", body.c_str(), outcome.problems, problems);
        }
    }
}

std::uint32_t problems_with(const std::string& member, const std::string& text) {
    std::string body = R"({"payload":{})";
    for (const char* name : {"type", "source", "ordering_key"}) {
        body += std::string(",\"") + name + "\":\"" + (member == name ? text : "x") + "\"";
    }
    return scan_every_way(body + "}").problems;
}

void test_finish_lengths_at_the_limit_and_one_over(void**) {
    assert_int_equal(problems_with("type", std::string(128, 'a')), 0);
    assert_int_equal(problems_with("type", std::string(129, 'a')), kTypeInvalid);
    assert_int_equal(problems_with("type", std::string(1000, 'a')), kTypeInvalid);
    assert_int_equal(problems_with("type", repeat("\\u0061", 128)), 0);
    assert_int_equal(problems_with("source", std::string(256, 'a')), 0);
    assert_int_equal(problems_with("source", std::string(257, 'a')), kSourceTooLong);
    assert_int_equal(problems_with("source", repeat("é", 128)), 0);
    assert_int_equal(problems_with("source", repeat("\\u00e9", 128) + "a"), kSourceTooLong);
    assert_int_equal(problems_with("ordering_key", repeat("\\ud83d\\ude00", 64)), 0);
    assert_int_equal(problems_with("ordering_key", repeat("\\ud83d\\ude00", 64) + "a"), kOrderingKeyTooLong);
    // A control character behind the part that is kept counts as well.
    assert_int_equal(problems_with("ordering_key", std::string(300, 'a') + "\\u0001"),
                     kOrderingKeyTooLong | kOrderingKeyControl);
}

void test_feed_depth_at_the_limit_and_one_over(void**) {
    for (const auto& [open, close] : {std::pair<std::string, std::string>{"[", "]"}, {"{\"a\":", "}"}}) {
        const std::string leaf = open == "[" ? "" : "1";
        // The body is the first level, the payload the second.
        const auto event = [&](std::size_t levels) {
            return R"({"type":"t","source":"s","payload":{"a":)" + repeat(open, levels - 2) + leaf +
                   repeat(close, levels - 2) + "}}";
        };
        assert_int_equal(scan_every_way(event(64)).status, ScanStatus::kOk);
        const Outcome outcome = scan_every_way(event(65));
        assert_int_equal(outcome.status, ScanStatus::kInvalidJson);
        assert_non_null(strstr(outcome.message.c_str(), "64 levels"));
        assert_int_equal(scan(scanner(), event(100000)).status, ScanStatus::kInvalidJson);
    }
    assert_int_equal(scan_every_way(repeat("[", 64) + repeat("]", 64)).status, ScanStatus::kWrongShape);
    assert_int_equal(scan_every_way(repeat("[", 65) + repeat("]", 65)).status, ScanStatus::kInvalidJson);
}

std::string with_members(std::size_t count) {
    std::string body = R"({"type":"t","source":"s","payload":{})";
    for (std::size_t i = 3; i < count; ++i) {
        body += ",\"" + std::to_string(i) + "\":" + std::to_string(i);
    }
    return body + "}";
}

void test_feed_members_at_the_limit_and_one_over(void**) {
    assert_int_equal(scan(scanner(), with_members(1024)).status, ScanStatus::kOk);
    const Outcome outcome = scan(scanner(), with_members(1025));
    assert_int_equal(outcome.status, ScanStatus::kInvalidJson);
    assert_string_equal(outcome.message.c_str(), "more than 1024 members at the top level");
    // Only the top level is bounded, and only there a name may not come twice.
    const std::string many = with_members(5000);
    assert_int_equal(scan(scanner(), R"({"type":"t","source":"s","payload":{"a":)" + many + R"(,"a":1}})").status,
                     ScanStatus::kOk);
}

void test_feed_unknown_member_twice_is_found_among_any_number(void**) {
    for (const std::size_t count : {4u, 5u, 18u, 19u, 20u, 21u, 40u, 500u, 1023u}) {
        std::string body = with_members(count);
        for (const std::size_t twice : {std::size_t{3}, count / 2 + 1, count - 1}) {
            std::string bad = body;
            bad.replace(bad.size() - 1, 1,
                        ",\"\\u003" + std::to_string(twice).substr(0, 1) + std::to_string(twice).substr(1) + "\":0}");
            const Outcome outcome = scan(scanner(), bad);
            assert_int_equal(outcome.status, ScanStatus::kInvalidJson);
            assert_string_equal(outcome.message.c_str(), "a member appears twice");
            assert_int_equal(outcome.offset, body.size());
        }
    }
    // Names of every length around the words and the window of the hash.
    std::string body = R"({"type":"t","source":"s","payload":{})";
    for (std::size_t length = 0; length < 200; ++length) {
        body += ",\"" + std::string(length, 'n') + "\":1";
    }
    assert_int_equal(scan(scanner(), body + "}").status, ScanStatus::kOk);
    for (std::size_t length = 0; length < 200; ++length) {
        const std::string bad = body + ",\"" + repeat("\\u006e", length) + "\":1}";
        assert_int_equal(scan(scanner(), bad).offset, body.size() + 1);
    }
}

void test_feed_long_names_that_differ_in_one_byte_are_two(void**) {
    const std::string name(150, 'n');
    for (std::size_t at = 0; at < name.size(); ++at) {
        std::string other = name;
        other[at] = 'm';
        const std::string body = "{\"" + name + "\":1,\"" + other + "\":2}";
        assert_int_equal(scan(scanner(), body).status, ScanStatus::kWrongShape);
    }
}

// The vector of the paper's appendix A: key 00..0f, message 00..0e.
void test_siphash_published_vector(void**) {
    MemberName name;
    name.begin();
    const MemberHashKey key{0x0706050403020100, 0x0f0e0d0c0b0a0908};
    std::string message(15, '\0');
    std::iota(message.begin(), message.end(), '\0');
    name.append(message, key);
    assert_true(name.hash(key) == 0xa129ca6149be45e5);
}

void test_member_name_appended_in_parts_has_the_same_hash(void**) {
    const MemberHashKey key{1, 2};
    for (std::size_t length = 0; length < 200; ++length) {
        const std::string text = repeat("abcdefghijk", 20).substr(0, length);
        MemberName whole;
        whole.begin();
        whole.append(text, key);
        const std::uint64_t expected = whole.hash(key);
        for (std::size_t cut = 0; cut <= length; ++cut) {
            MemberName parts;
            parts.begin();
            parts.append(text.substr(0, cut), key);
            parts.append(text.substr(cut), key);
            assert_true(parts.hash(key) == expected);
        }
    }
}

void test_corpus_of_the_fuzzer_agrees_with_the_oracle(void**) {
    const auto directory = std::filesystem::path(HEADGATE_CORPUS) / "event_scanner";
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        std::ifstream in(entry.path(), std::ios::binary);
        const std::string body((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
        bool decided = false;
        const Outcome expected = oracle(body, decided);
        if (decided && !agrees(scan_every_way(body), expected)) {
            fail_msg("disagrees: %s", entry.path().c_str());
        }
        ++files;
    }
    assert_true(files >= 31);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_feed_values_of_the_grammar_are_valid),
        cmocka_unit_test(test_feed_values_outside_the_grammar_are_invalid),
        cmocka_unit_test(test_feed_nul_byte_anywhere_is_invalid),
        cmocka_unit_test(test_finish_truncated_anywhere_is_invalid),
        cmocka_unit_test(test_finish_no_byte_but_space_is_empty),
        cmocka_unit_test(test_feed_invalid_says_what_and_where),
        cmocka_unit_test(test_feed_after_an_error_returns_false),
        cmocka_unit_test(test_finish_ok_gives_strings_and_payload),
        cmocka_unit_test(test_finish_wrong_shape_reports_every_problem_at_once),
        cmocka_unit_test(test_finish_lengths_at_the_limit_and_one_over),
        cmocka_unit_test(test_feed_depth_at_the_limit_and_one_over),
        cmocka_unit_test(test_feed_members_at_the_limit_and_one_over),
        cmocka_unit_test(test_feed_unknown_member_twice_is_found_among_any_number),
        cmocka_unit_test(test_feed_long_names_that_differ_in_one_byte_are_two),
        cmocka_unit_test(test_siphash_published_vector),
        cmocka_unit_test(test_member_name_appended_in_parts_has_the_same_hash),
        cmocka_unit_test(test_corpus_of_the_fuzzer_agrees_with_the_oracle),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
