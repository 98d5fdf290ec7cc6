// links: headgate_common Boost::json
// The batch scanner: arrays and NDJSON, whole, cut in two at every offset, and byte by byte; what rejects one event and
// what ends the batch; the bounds at N and N+1; agreement with Boost.JSON on random bodies.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>

#include "batch_scanner_oracle.h"
#include "event_scanner_cases.h"

extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
// cmocka wants those first.
#include <cmocka.h>
}

namespace {

using namespace headgate;
using headgate::test::batch_oracle;
using headgate::test::batches_agree;
using headgate::test::BatchOutcome;
using headgate::test::scan_batch;

constexpr BatchFormat kArray = BatchFormat::kArray;
constexpr BatchFormat kLines = BatchFormat::kLines;

const std::string kEvent = R"({"type":"a.b","source":"s","payload":{"n":1}})";

std::string text_of(const BatchOutcome& outcome) {
    std::string text = "status " + std::to_string(static_cast<int>(outcome.status)) + " " + outcome.message + " at " +
                       std::to_string(outcome.offset);
    for (const auto& event : outcome.events) {
        text += " [" + std::to_string(event.begin) + "," + std::to_string(event.end) + ") " +
                std::to_string(static_cast<int>(event.event.status)) + (event.too_large ? "!" : "") + " " +
                event.event.message;
    }
    return text;
}

// The outcome of `body` whole, which must be that of every way to cut it in two and of single bytes, and the oracle's.
BatchOutcome scan_every_way(BatchFormat format, const std::string& body, std::size_t events_max = 1000,
                            std::size_t event_bytes_max = 1 << 20) {
    const BatchOutcome whole = scan_batch(format, body, {}, events_max, event_bytes_max);
    for (std::size_t cut = 0; cut <= body.size(); ++cut) {
        if (!(scan_batch(format, body, {cut}, events_max, event_bytes_max) == whole)) {
            fail_msg("cut at %zu changes the outcome of: %s", cut, body.c_str());
        }
    }
    std::vector<std::size_t> bytes(body.size());
    std::iota(bytes.begin(), bytes.end(), std::size_t{0});
    if (!(scan_batch(format, body, bytes, events_max, event_bytes_max) == whole)) {
        fail_msg("byte by byte changes the outcome of: %s", body.c_str());
    }
    bool decided = false;
    const BatchOutcome expected = batch_oracle(format, body, decided, events_max, event_bytes_max);
    if (decided && !batches_agree(whole, expected, body)) {
        fail_msg("%s: %s, not %s", body.c_str(), text_of(whole).c_str(), text_of(expected).c_str());
    }
    return whole;
}

void test_feed_array_gives_every_event_its_own_verdict(void**) {
    const std::string keyed =
        R"({"ordering_key":"k\u0031","payload" : { "a":[1,{"}":"]"}] } ,"type":"c.\u0064","source":"é"})";
    const std::string body = " [\r\n" + kEvent + "\t, 7,{}," + keyed + ",[" + kEvent + "],\"x\" , null,-1.5e3 ] \n";
    const BatchOutcome outcome = scan_every_way(kArray, body);
    assert_int_equal(outcome.status, BatchStatus::kOk);
    assert_int_equal(outcome.events.size(), 8);
    const auto& first = outcome.events[0];
    assert_int_equal(first.event.status, ScanStatus::kOk);
    assert_true(body.substr(first.begin, first.end - first.begin) == kEvent);
    assert_true(body.substr(first.event.payload_begin, first.event.payload_end - first.event.payload_begin) ==
                R"({"n":1})");
    const auto& fourth = outcome.events[3];
    assert_true(body.substr(fourth.event.payload_begin, fourth.event.payload_end - fourth.event.payload_begin) ==
                R"({ "a":[1,{"}":"]"}] })");
    assert_string_equal(fourth.event.type.c_str(), "c.d");
    assert_string_equal(fourth.event.source.c_str(), "é");
    assert_string_equal(fourth.event.ordering_key.c_str(), "k1");
    assert_int_equal(outcome.events[2].event.problems, kTypeMissing | kSourceMissing | kPayloadMissing);
    for (const std::size_t i : {1u, 4u, 5u, 6u, 7u}) {
        assert_int_equal(outcome.events[i].event.status, ScanStatus::kWrongShape);
        assert_int_equal(outcome.events[i].event.problems, kBodyNotObject);
    }
    assert_string_equal(first.event.ordering_key.c_str(), "");
}

void test_feed_array_white_space_everywhere(void**) {
    for (const std::string space : {"", " ", "\n", "\r\n", "\t \r\n  \n                         "}) {
        const std::string body = space + "[" + space + kEvent + space + "," + space + kEvent + space + "]" + space;
        const BatchOutcome outcome = scan_every_way(kArray, body);
        assert_int_equal(outcome.status, BatchStatus::kOk);
        assert_int_equal(outcome.events.size(), 2);
        assert_int_equal(outcome.events[1].event.status, ScanStatus::kOk);
        assert_int_equal(outcome.events[1].end - outcome.events[1].begin, kEvent.size());
        const BatchOutcome none = scan_every_way(kArray, space + "[" + space + "]" + space);
        assert_int_equal(none.status, BatchStatus::kOk);
        assert_int_equal(none.events.size(), 0);
        assert_int_equal(scan_every_way(kArray, space).status, BatchStatus::kEmpty);
        assert_int_equal(scan_every_way(kLines, space).status, BatchStatus::kEmpty);
    }
}

void test_feed_array_invalid_json_ends_the_batch_and_says_where(void**) {
    const std::size_t second = 1 + kEvent.size() + 1;
    struct Case {
        std::string body;
        const char* message;
        std::size_t offset;
    };
    const std::vector<Case> cases = {
        {"[" + kEvent + ",]", "expected a value", second},
        {"[" + kEvent + ",,{}]", "expected a value", second},
        {"[,{}]", "expected a value", 1},
        {"[" + kEvent + " " + kEvent + "]", "comma", second},
        {"[" + kEvent + "}", "comma", second - 1},
        {"[" + kEvent + "]]", "nothing after the array", second},
        {"[" + kEvent + "] x", "nothing after the array", second + 1},
        {"[" + kEvent + ",{\"a\":tru}]", "expected a value", second + 8},
        {"[" + kEvent + ",{\"a\":1,\"a\":2}]", "twice", second + 7},
        {"[" + kEvent + ",01]", "comma", second + 1},
        {"[" + kEvent + ",-]", "digit", second + 1},
        {"[" + kEvent + ",\"\xff\"]", "UTF-8", second + 1},
        {"[" + kEvent + ",nul]", "expected a value", second + 3},
        {"\xef\xbb\xbf[]", "byte order mark", 0},
        {kEvent + "\n" + kEvent, "nothing after", kEvent.size() + 1},
    };
    for (const Case& bad : cases) {
        const BatchOutcome outcome = scan_every_way(kArray, bad.body);
        assert_int_equal(outcome.status, BatchStatus::kInvalidJson);
        if (outcome.message.find(bad.message) == std::string::npos || outcome.offset != bad.offset) {
            fail_msg("%s: %s", bad.body.c_str(), text_of(outcome).c_str());
        }
    }
    const std::string whole = "[" + kEvent + ", 12 ,\"x\"]";
    for (std::size_t length = 1; length < whole.size(); ++length) {
        const BatchOutcome outcome = scan_every_way(kArray, whole.substr(0, length));
        assert_int_equal(outcome.status, BatchStatus::kInvalidJson);
        assert_int_equal(outcome.offset, length);
    }
}

void test_finish_array_that_is_none(void**) {
    for (const std::string& body :
         {kEvent, std::string("null"), std::string(" \"[\""), std::string("-7.5 "), std::string("{}")}) {
        assert_int_equal(scan_every_way(kArray, body).status, BatchStatus::kNotArray);
    }
    for (const char* body : {"{", "tru", "-", "\"", "]", "{} {}", "{\"a\":1,\"a\":1}"}) {
        assert_int_equal(scan_every_way(kArray, body).status, BatchStatus::kInvalidJson);
    }
}

void test_feed_lines_each_is_judged_alone(void**) {
    const std::string body =
        kEvent + "\n\n \t\r\n{\"a\":1,\"a\":2}\r\n" + kEvent + " \r\n{\"type\":\n[]\nnull\r\n\xff\n" + kEvent;
    const BatchOutcome outcome = scan_every_way(kLines, body);
    assert_int_equal(outcome.status, BatchStatus::kOk);
    std::vector<int> statuses;
    for (const auto& event : outcome.events) {
        statuses.push_back(static_cast<int>(event.event.status));
    }
    const std::vector<int> expected = {0, 2, 0, 2, 3, 3, 2, 0};
    assert_true(statuses == expected);
    assert_string_equal(outcome.events[1].event.message.c_str(), "a member appears twice");
    assert_int_equal(outcome.events[1].event.offset, 7);
    assert_int_equal(outcome.events[2].end - outcome.events[2].begin, kEvent.size());
    assert_int_equal(outcome.events[7].end, body.size());
    for (const auto& event : {outcome.events[0], outcome.events[2], outcome.events[7]}) {
        assert_true(body.substr(event.event.payload_begin, event.event.payload_end - event.event.payload_begin) ==
                    R"({"n":1})");
    }
}

void test_feed_lines_every_way_to_end_a_line(void**) {
    for (const std::string end : {"\n", "\r\n", "\n\n\n", "\r\n\r\n", " \t\n"}) {
        for (const std::string& last : {std::string(), end}) {
            const BatchOutcome outcome = scan_every_way(kLines, kEvent + end + kEvent + last);
            assert_int_equal(outcome.status, BatchStatus::kOk);
            assert_int_equal(outcome.events.size(), 2);
            for (const auto& event : outcome.events) {
                assert_int_equal(event.event.status, ScanStatus::kOk);
                assert_int_equal(event.end - event.begin, kEvent.size());
            }
        }
    }
    // A CR alone ends nothing; nor do two events on a line become two.
    for (const std::string between : {"\r", " ", ","}) {
        const BatchOutcome outcome = scan_every_way(kLines, kEvent + between + kEvent + "\n");
        assert_int_equal(outcome.events.size(), 1);
        assert_int_equal(outcome.events[0].event.status, ScanStatus::kInvalidJson);
    }
}

void test_feed_events_at_the_limit_and_one_over(void**) {
    for (std::size_t count = 3; count <= 4; ++count) {
        std::string array = "[", lines;
        for (std::size_t i = 0; i < count; ++i) {
            array += (i == 0 ? "" : ",") + (i == 1 ? "{}" : kEvent);
            lines += (i == 1 ? "x" : kEvent) + "\n\n";
        }
        const BatchStatus expected = count == 3 ? BatchStatus::kOk : BatchStatus::kTooMany;
        assert_int_equal(scan_every_way(kArray, array + "]", 3).status, expected);
        assert_int_equal(scan_every_way(kLines, lines, 3).status, expected);
    }
    // What stands behind one too many is not looked at.
    assert_int_equal(scan_batch(kArray, "[1,2,3 #", {}, 2).status, BatchStatus::kTooMany);
    assert_int_equal(scan_batch(kArray, "[1,2,", {}, 2).status, BatchStatus::kInvalidJson);
}

void test_feed_event_bytes_at_the_limit_and_one_over(void**) {
    const std::string larger = R"({"type":"a.b","source":"s","payload":{"n":10}})";
    const std::string array = "[ " + kEvent + " , " + larger + " ,\n" + kEvent + "]";
    const std::string lines = kEvent + "  \r\n  " + larger + "\r\n" + kEvent;
    for (const auto& outcome :
         {scan_every_way(kArray, array, 1000, kEvent.size()), scan_every_way(kLines, lines, 1000, kEvent.size())}) {
        assert_int_equal(outcome.status, BatchStatus::kOk);
        assert_int_equal(outcome.events.size(), 3);
        assert_false(outcome.events[0].too_large);
        assert_true(outcome.events[1].too_large);
        assert_false(outcome.events[2].too_large);
    }
}

void test_feed_depth_counts_in_each_event_alone(void**) {
    const auto deep = [](int levels) {
        std::string event = R"({"type":"a","source":"s","payload":)";
        for (int i = 1; i < levels; ++i) {
            event += "{\"a\":";
        }
        return event + "1" + std::string(static_cast<std::size_t>(levels), '}');
    };
    assert_int_equal(scan_every_way(kArray, "[" + deep(64) + "]").events[0].event.status, ScanStatus::kOk);
    assert_int_equal(scan_every_way(kArray, "[" + deep(65) + "]").status, BatchStatus::kInvalidJson);
    assert_int_equal(scan_every_way(kLines, deep(65) + "\n" + deep(64)).events[1].event.status, ScanStatus::kOk);
}

void test_feed_values_of_the_grammar_agree_with_the_oracle(void**) {
    for (const auto* values : {&test::valid_values(), &test::invalid_values()}) {
        for (const std::string& value : *values) {
            scan_every_way(kArray, "[" + value + "," + kEvent + "," + value + "]");
            scan_every_way(kLines, value + "\n" + kEvent + "\n" + value);
        }
    }
}

void test_feed_random_bodies_agree_with_the_oracle(void**) {
    std::mt19937 random(20260214);
    const auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    const std::vector<std::string> events = {
        kEvent,
        R"({"payload":{"a":[]},"type":"t","source":"\u00e9\"","ordering_key":"k"})",
        "{}",
        "[]",
        "12",
        "\"a\\\"]\"",
        R"({"type":"webhook.x","source":"","payload":[{"a":"}"}]})",
        R"({"x":{"y":[{"z":null}]},"type":1})",
        "-0.5e+7"};
    const std::string noise = "[]{},:\"\\ \n\r\t1atrue\xff\xc3-";
    for (int round = 0; round < 20000; ++round) {
        const BatchFormat format = round % 2 == 0 ? kArray : kLines;
        std::string body = format == kArray ? "[" : "";
        for (std::size_t i = 0, n = below(6); i < n; ++i) {
            body += (i == 0             ? ""
                     : format == kArray ? ","
                                        : "\n") +
                    std::string(below(3), " \n\t"[format == kArray ? below(3) : 0]);
            body += events[below(events.size())];
        }
        body += format == kArray ? "]" : below(2) != 0 ? "\r\n" : "";
        for (std::size_t i = below(3); i > 0 && !body.empty(); --i) {
            const std::size_t at = below(body.size());
            if (below(2) != 0) {
                body[at] = noise[below(noise.size())];
            } else if (below(2) != 0) {
                body.erase(at, 1 + below(4));
            } else {
                body.insert(at, 1, noise[below(noise.size())]);
            }
        }
        const std::size_t events_max = 1 + below(6), bytes_max = 10 + below(80);
        const BatchOutcome whole = scan_batch(format, body, {}, events_max, bytes_max);
        std::vector<std::size_t> cuts = {below(body.size() + 1), below(body.size() + 1), below(body.size() + 1)};
        std::sort(cuts.begin(), cuts.end());
        if (!(scan_batch(format, body, cuts, events_max, bytes_max) == whole)) {
            fail_msg("cuts change the outcome of: %s", body.c_str());
        }
        bool decided = false;
        const BatchOutcome expected = batch_oracle(format, body, decided, events_max, bytes_max);
        if (decided && !batches_agree(whole, expected, body)) {
            fail_msg("%s: %s, not %s", body.c_str(), text_of(whole).c_str(), text_of(expected).c_str());
        }
    }
}

void test_corpus_of_the_fuzzer_agrees_with_the_oracle(void**) {
    const auto directory = std::filesystem::path(HEADGATE_CORPUS) / "batch_scanner";
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        std::ifstream in(entry.path(), std::ios::binary);
        const std::string body((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
        scan_every_way(kArray, body, 8, 200);
        scan_every_way(kLines, body, 8, 200);
        ++files;
    }
    assert_true(files >= 15);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_feed_array_gives_every_event_its_own_verdict),
        cmocka_unit_test(test_feed_array_white_space_everywhere),
        cmocka_unit_test(test_feed_array_invalid_json_ends_the_batch_and_says_where),
        cmocka_unit_test(test_finish_array_that_is_none),
        cmocka_unit_test(test_feed_lines_each_is_judged_alone),
        cmocka_unit_test(test_feed_lines_every_way_to_end_a_line),
        cmocka_unit_test(test_feed_events_at_the_limit_and_one_over),
        cmocka_unit_test(test_feed_event_bytes_at_the_limit_and_one_over),
        cmocka_unit_test(test_feed_depth_counts_in_each_event_alone),
        cmocka_unit_test(test_feed_values_of_the_grammar_agree_with_the_oracle),
        cmocka_unit_test(test_feed_random_bodies_agree_with_the_oracle),
        cmocka_unit_test(test_corpus_of_the_fuzzer_agrees_with_the_oracle),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
