// links: headgate_common PkgConfig::SIMDJSON Boost::json
// The event scanner against Boost.JSON and simdjson on seeded random documents and mutations of them,
// and its vector code against its portable code.
#include <simdjson.h>

#include <boost/json.hpp>
#include <random>

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
using headgate::test::oracle;
using headgate::test::Outcome;
using headgate::test::scan;

constexpr int kCases = 40'000;

class Generator {
 public:
    explicit Generator(unsigned seed) : engine_(seed) {}

    std::size_t below(std::size_t n) { return engine_() % n; }
    bool one_in(std::size_t n) { return below(n) == 0; }
    template <std::size_t N>
    const char* any(const char* const (&list)[N]) {
        return list[below(N)];
    }

    std::string event() {
        std::string out = space() + "{";
        const std::size_t members = one_in(8) ? below(3) : 3 + below(3);
        for (std::size_t i = 0; i < members; ++i) {
            out += (i == 0 ? "" : ",") + space();
            const std::size_t which = i < 3 && !one_in(20) ? i : 3 + below(4);
            static constexpr const char* kNames[] = {"\"type\"",         "\"source\"",     "\"payload\"",
                                                     "\"ordering_key\"", "\"\\u0074ype\"", "\"so\\u0075rce\""};
            out += (which < 6 && !one_in(20) ? kNames[which] : string()) + space() + ":" + space();
            out += one_in(20)       ? value(3)
                   : which == 2     ? object(4)
                   : which % 4 == 0 ? type()
                   : one_in(5)      ? string()
                                    : "\"shop \\u20ac" + std::to_string(below(1000)) + " \u6f22\"";
        }
        return out + space() + "}" + space();
    }

    // One to three small accidents.
    void mutate(std::string& body) {
        static constexpr const char* kPieces[] = {"\"",       "\\",      "{",
                                                  "}",        "[",       "]",
                                                  ",",        ":",       "\\u",
                                                  "\\ud800",  "\\udc00", "0",
                                                  "-",        ".",       "e",
                                                  "\xc3",     "\xa9",    "\xed\xa0\x80",
                                                  "\xf4\x90", "\xe0",    "\xef\xbb\xbf",
                                                  "\n",       "\x01",    "\x7f",
                                                  "true",     "null",    "[[[[[[[[[[[[[[[["};
        for (std::size_t i = 1 + below(3); i > 0 && !body.empty(); --i) {
            const std::size_t at = below(body.size());
            switch (below(6)) {
                case 0:
                    body.erase(at, 1 + below(3));
                    break;
                case 1:
                    body[at] = static_cast<char>(below(256));
                    break;
                case 2:
                    body.insert(at, body.substr(at, 1 + below(20)));
                    break;
                case 3:
                    body.resize(at);
                    break;
                default:
                    body.insert(at, any(kPieces));
            }
        }
    }

 private:
    std::string space() {
        static constexpr const char* kSpaces[] = {" ", "\n  ", "\t", "\r\n", "                    "};
        return one_in(6) ? any(kSpaces) : "";
    }
    std::string type() {
        static constexpr const char* kTypes[] = {"\"order.created\"", "\"a\\u002eb\"", "\"webhook.x\"", "\"a b\"",
                                                 "\"\""};
        return one_in(3) ? any(kTypes) : kTypes[0];
    }
    std::string string() {
        static constexpr const char* kParts[] = {"word",
                                                 "a longer run of plain text ",
                                                 "\\n",
                                                 "\\\"",
                                                 "\\u0041",
                                                 "\\u00e9",
                                                 "é",
                                                 "Привет, мир ",
                                                 "漢字한국어",
                                                 "😀",
                                                 "\\ud83d\\ude00",
                                                 "\x7f",
                                                 "\\/",
                                                 "0123456789abcdef0123456789abcdef",
                                                 "\\u0000",
                                                 "\\\\"};
        std::string out = "\"";
        for (std::size_t i = below(6); i > 0; --i) {
            out += any(kParts);
        }
        return out + "\"";
    }
    std::string value(int depth) {
        static constexpr const char* kScalars[] = {
            "0", "-1", "12345678901234567890123", "1.5", "-0.25e-3", "1E+10", "true", "false", "null", "7"};
        switch (below(depth > 0 ? 6 : 3)) {
            case 0:
            case 1:
                return any(kScalars);
            case 2:
            case 3:
                return string();
            case 4:
                return object(depth);
            default:
                break;
        }
        std::string out = "[" + space();
        for (std::size_t i = 0, n = below(5); i < n; ++i) {
            out += (i == 0 ? "" : ",") + space() + value(depth - 1) + space();
        }
        return out + "]";
    }
    std::string object(int depth) {
        std::string out = "{" + space();
        for (std::size_t i = 0, n = below(5); i < n; ++i) {
            out += (i == 0 ? "" : ",") + space() + string() + space() + ":" + space() + value(depth - 1) + space();
        }
        return out + "}";
    }

    std::mt19937 engine_;
};

std::vector<std::size_t> random_cuts(Generator& random, std::size_t bytes) {
    std::vector<std::size_t> cuts(random.below(5));
    for (std::size_t& cut : cuts) {
        cut = random.below(bytes + 1);
    }
    std::sort(cuts.begin(), cuts.end());
    return cuts;
}

// simdjson reads numbers into 64 bits and refuses those that do not fit: then it has no verdict.
bool simdjson_contradicts(simdjson::dom::parser& parser, const std::string& body, const Outcome& ours) {
    const simdjson::error_code error = parser.parse(simdjson::padded_string(body)).error();
    if (error == simdjson::NUMBER_ERROR) {
        return false;
    }
    const bool valid = ours.status == ScanStatus::kOk || ours.status == ScanStatus::kWrongShape;
    if (error != simdjson::SUCCESS) {
        return valid;
    }
    // What only we refuse.
    const bool stricter = ours.message.starts_with("a member appears twice") ||
                          ours.message.starts_with("nested too deeply") ||
                          ours.message.starts_with("a surrogate escape");
    return !valid && !stricter;
}

// The bytes of the payload, read alone, are the payload of the whole.
bool payload_is_exact(const std::string& body, const Outcome& ours) {
    boost::json::parse_options options;
    options.max_depth = 64;
    const std::string slice = body.substr(ours.payload_begin, ours.payload_end - ours.payload_begin);
    return boost::json::parse(body, {}, options).at("payload") == boost::json::parse(slice, {}, options) &&
           slice.front() == '{' && slice.back() == '}';
}

struct Tally {
    std::array<int, 4> by_status{};
    int undecided = 0;
    std::string failure;  // of the first case that fails
};

// Apart from the assertions: a failed one leaves its function without running destructors.
Tally compare_random_documents() {
    Generator random(20250315);
    EventScanner scanner;
    simdjson::dom::parser parser;
    Tally tally;
    for (int i = 0; i < kCases && tally.failure.empty(); ++i) {
        std::string body = random.event();
        if (i % 2 == 1) {
            random.mutate(body);
        }
        const Outcome ours = scan(scanner, body);
        const Outcome cut = scan(scanner, body, random_cuts(random, body.size()));
        bool decided = false;
        const Outcome expected = oracle(body, decided);
        tally.undecided += decided ? 0 : 1;
        ++tally.by_status[static_cast<std::size_t>(ours.status)];
        if (!(cut == ours)) {
            tally.failure = "cut: ";
        } else if (decided && !agrees(ours, expected)) {
            tally.failure = "Boost.JSON: ";
        } else if (simdjson_contradicts(parser, body, ours)) {
            tally.failure = "simdjson: ";
        } else if (decided && ours.status == ScanStatus::kOk && !payload_is_exact(body, ours)) {
            tally.failure = "payload: ";
        }
        if (!tally.failure.empty()) {
            tally.failure += ours.message + " at " + std::to_string(ours.offset) + " of " + body;
        }
    }
    return tally;
}

void test_feed_random_documents_agree_with_boost_json_and_simdjson(void**) {
    const Tally tally = compare_random_documents();
    assert_string_equal(tally.failure.c_str(), "");
    // The cases are of all kinds, or the test says nothing.
    for (const ScanStatus status : {ScanStatus::kOk, ScanStatus::kInvalidJson, ScanStatus::kWrongShape}) {
        assert_in_range(tally.by_status[static_cast<std::size_t>(status)], kCases / 10, kCases);
    }
    assert_in_range(tally.undecided, 0, kCases / 1000);
}

// Bytes that are mostly text, now and then broken.
std::string random_text(Generator& random) {
    static constexpr const char* kParts[] = {"a", "bc", "é", "漢", "😀", "퟿", "\xee\x80\x80", "\xf4\x8f\xbf\xbf"};
    static constexpr const char* kBreaks[] = {"\"",
                                              "\\",
                                              "\x1f",
                                              "\x80",
                                              "\xc0\x80",
                                              "\xed\xa0\x80",
                                              "\xe0\x9f\xbf",
                                              "\xf0\x8f\xbf\xbf",
                                              "\xf4\x90\x80\x80",
                                              "\xf5",
                                              "\xe2\x82",
                                              "\xc1\xbf"};
    std::string text;
    for (std::size_t i = random.below(40); i > 0; --i) {
        text += random.one_in(20) ? random.any(kBreaks) : random.any(kParts);
    }
    return text;
}

void test_skip_vector_and_portable_code_stop_at_the_same_byte(void**) {
    using namespace json_bytes;
    Generator random(7);
    for (int i = 0; i < kCases; ++i) {
        const std::string text = random_text(random);
        const std::vector<char> exact(text.begin(), text.end());
        const char* begin = exact.data();
        const char* end = begin + exact.size();
        assert_ptr_equal(native::skip_plain(begin, end), portable::skip_plain(begin, end));
        assert_ptr_equal(native::skip_text(begin, end), portable::skip_text(begin, end));
        std::string spaces(random.below(50), ' ');
        for (char& c : spaces) {
            c = random.one_in(30) ? 'x' : " \t\r\n"[random.below(4)];
        }
        assert_ptr_equal(native::skip_space(spaces.data(), spaces.data() + spaces.size()),
                         portable::skip_space(spaces.data(), spaces.data() + spaces.size()));
    }
}

// Every sequence of up to three bytes, and the edges of four, against the decoder's definition by ranges.
void test_skip_text_every_short_sequence_as_defined(void**) {
    using namespace json_bytes;
    const auto decode = [](const std::array<unsigned char, 4>& b) -> std::size_t {  // length of a valid character, or 0
        const auto next = [&](std::size_t i) { return b[i] >= 0x80 && b[i] <= 0xbf; };
        if (b[0] >= 0xc2 && b[0] <= 0xdf && next(1)) {
            return 2;
        }
        if (b[0] >= 0xe0 && b[0] <= 0xef && next(1) && next(2)) {
            const unsigned point = (b[0] & 0xfu) << 12 | (b[1] & 0x3fu) << 6 | (b[2] & 0x3fu);
            return point >= 0x800 && (point < 0xd800 || point > 0xdfff) ? 3 : 0;
        }
        if (b[0] >= 0xf0 && b[0] <= 0xf7 && next(1) && next(2) && next(3)) {
            const unsigned point = (b[0] & 7u) << 18 | (b[1] & 0x3fu) << 12 | (b[2] & 0x3fu) << 6 | (b[3] & 0x3fu);
            return point >= 0x10000 && point <= 0x10ffff ? 4 : 0;
        }
        return 0;
    };
    static constexpr unsigned char kBytes[] = {0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0};
    for (unsigned first = 0x80; first < 0x100; ++first) {
        for (unsigned second = 0x70; second < 0xd0; ++second) {
            for (const unsigned char third : kBytes) {
                for (const unsigned char fourth : kBytes) {
                    const std::array<unsigned char, 4> b{static_cast<unsigned char>(first),
                                                         static_cast<unsigned char>(second), third, fourth};
                    const std::size_t length = decode(b);
                    std::string text = "0123" + std::string(reinterpret_cast<const char*>(b.data()), 4);
                    text = text.substr(0, length == 0 ? 8 : 4 + length) + "0123456789abcdef\"";
                    const char* stop = native::skip_text(text.data(), text.data() + text.size());
                    const bool passed = stop > text.data() + 4;
                    if (passed != (length != 0)) {
                        fail_msg("%02x %02x %02x %02x: %s", b[0], b[1], b[2], b[3], passed ? "accepted" : "refused");
                    }
                }
            }
        }
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_feed_random_documents_agree_with_boost_json_and_simdjson),
        cmocka_unit_test(test_skip_vector_and_portable_code_stop_at_the_same_byte),
        cmocka_unit_test(test_skip_text_every_short_sequence_as_defined),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
