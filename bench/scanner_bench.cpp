// How fast bodies are checked: GB/s on one core of our scanner, simdjson (DOM; On-Demand reading the
// same members) and Boost.JSON, over bodies that our ingest sees or that an attacker may choose.
//
// Each kind of body is a set of different documents scanned in turn, so that the branch predictor cannot
// learn one by heart. The figure is the best of several rounds. Build the target `scanner_bench` in a
// Release build and run it on an idle machine.
#include <simdjson.h>

#include <algorithm>
#include <boost/json.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "common/event_scanner.h"

namespace {

using headgate::EventScanner;
using headgate::ScanStatus;

constexpr std::size_t kSetBytes = 512 * 1024;  // of documents of one kind: fits the second-level cache
constexpr int kRounds = 15;

class Random {
 public:
    explicit Random(unsigned seed) : engine_(seed) {}
    std::size_t below(std::size_t n) { return engine_() % n; }
    std::string word() {
        std::string out(3 + below(9), 'a');
        for (char& c : out) {
            c = static_cast<char>('a' + below(26));
        }
        return out;
    }
    std::string digits(std::size_t n) { return std::to_string(100000 + below(900000)).substr(0, n); }

 private:
    std::mt19937 engine_;
};

std::string line_item(Random& random, std::string_view gap) {
    const std::string g(gap);
    std::string out = "{" + g + "\"sku\":\"" + random.word() + "-" + random.digits(4) + "\"," + g + "\"name\":\"";
    for (std::size_t i = 0, n = 2 + random.below(5); i < n; ++i) {
        out += random.word() + " ";
    }
    out += random.below(8) == 0 ? "\\\"XL\\\" caf\xc3\xa9\"," : "\",";
    out += g + "\"quantity\":" + random.digits(1) + "," + g + "\"unit_price\":" + random.digits(4) + "." +
           random.digits(2) + "," + g + "\"taxable\":" + (random.below(2) != 0 ? "true" : "false") + "," + g +
           "\"discount\":" + (random.below(3) != 0 ? "null" : random.digits(2)) + "," + g + "\"tags\":[\"" +
           random.word() + "\",\"" + random.word() + "\"]" + g + "}";
    return out;
}

// An order of about `bytes` bytes, as a shop would send it.
std::string order_event(Random& random, std::size_t bytes, std::string_view gap = "") {
    const std::string g(gap);
    std::string out = "{" + g + "\"type\":\"order.created\"," + g + "\"source\":\"shop-" + random.digits(3) + "\"," +
                      g + "\"ordering_key\":\"customer-" + random.digits(6) + "\"," + g + "\"payload\":{" + g +
                      "\"order_id\":\"ord_" + random.word() + random.word() + "\"," + g + "\"created_at\":\"2025-03-1" +
                      random.digits(1) + "T12:34:56.789Z\"," + g + "\"customer\":{\"id\":" + random.digits(6) +
                      ",\"email\":\"" + random.word() + "@example.com\",\"name\":\"" + random.word() + " " +
                      random.word() + "\",\"vip\":false}," + g + "\"items\":[";
    do {
        out += line_item(random, gap) + ",";
    } while (out.size() + 140 < bytes);
    out.back() = ']';
    return out + "," + g + "\"total\":" + random.digits(5) + ".25," + g + "\"currency\":\"EUR\"}" + g + "}";
}

std::string text_event(Random& random, std::size_t bytes, const std::vector<std::string>& alphabet) {
    std::string out = R"({"type":"note.added","source":"desk","payload":{"notes":[)";
    while (out.size() < bytes) {
        out += "\"";
        for (std::size_t i = 0, n = 20 + random.below(180); i < n; ++i) {
            out += alphabet[random.below(alphabet.size())];
        }
        out += "\",";
    }
    out.back() = ']';
    return out + "}}";
}

std::string list_event(Random& random, std::size_t bytes, std::size_t kinds) {
    const std::string values[] = {"1,", "23,", "456,", "7,", "-8.5,", "[],", "{},", "\"\",", "true,", "null,", "1e3,"};
    std::string out = R"({"type":"t","source":"s","payload":{"list":[)";
    while (out.size() < bytes) {
        out += values[random.below(kinds)];
    }
    out.back() = ']';
    return out + "}}";
}

std::string members_event(Random& random) {
    std::string out = R"({"type":"t","source":"s","payload":{})";
    for (int i = 0; i < 1000; ++i) {
        out += ",\"" + random.word() + std::to_string(i) + "\":1";
    }
    return out + "}";
}

struct Corpus {
    std::vector<std::string> documents;
    std::size_t bytes = 0;
};

template <class Make>
Corpus corpus_of(Make make) {
    Corpus corpus;
    Random random(7);
    while (corpus.bytes < kSetBytes) {
        corpus.documents.push_back(make(random));
        corpus.bytes += corpus.documents.back().size();
    }
    return corpus;
}

template <class Scan>
double gb_per_s(const Corpus& corpus, Scan scan) {
    double best = 0;
    for (int round = 0; round < kRounds; ++round) {
        const auto begin = std::chrono::steady_clock::now();
        for (const std::string& document : corpus.documents) {
            if (!scan(document)) {
                std::fprintf(stderr, "a document was refused: %.200s\n", document.c_str());
                std::exit(1);
            }
        }
        const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - begin;
        best = std::max(best, static_cast<double>(corpus.bytes) / taken.count());
    }
    return best;
}

bool scan_in_pieces(EventScanner& scanner, std::string_view body, std::size_t piece_bytes) {
    scanner.reset();
    for (std::size_t at = 0; at < body.size(); at += piece_bytes) {
        const std::string_view piece = body.substr(at, piece_bytes);
        scanner.feed(piece.data(), piece.size());
    }
    return scanner.finish() == ScanStatus::kOk;
}

void measure(const char* name, const Corpus& corpus) {
    EventScanner scanner;
    const auto pieces_of = [&](std::size_t piece_bytes) {
        return gb_per_s(corpus, [&](const std::string& body) { return scan_in_pieces(scanner, body, piece_bytes); });
    };
    simdjson::dom::parser dom;
    simdjson::ondemand::parser on_demand;
    std::vector<simdjson::padded_string> padded(corpus.documents.begin(), corpus.documents.end());
    std::size_t next = 0;
    const double whole = pieces_of(SIZE_MAX / 2);
    const double pieces_4k = pieces_of(4096);
    const double pieces_1 = pieces_of(1);
    const double simdjson_dom = gb_per_s(corpus, [&](const std::string&) {
        return dom.parse(padded[next++ % padded.size()]).error() == simdjson::SUCCESS;
    });
    const double simdjson_on_demand = gb_per_s(corpus, [&](const std::string&) {
        auto document = on_demand.iterate(padded[next++ % padded.size()]);
        std::string_view type;
        std::string_view source;
        std::string_view payload;
        return document["type"].get(type) == simdjson::SUCCESS && document["source"].get(source) == simdjson::SUCCESS &&
               simdjson::to_json_string(document["payload"]).get(payload) == simdjson::SUCCESS && !payload.empty();
    });
    const double boost_json = gb_per_s(corpus, [&](const std::string& body) {
        boost::json::monotonic_resource memory;
        boost::system::error_code error;
        boost::json::parse_options options;
        options.max_depth = 64;
        boost::json::parse(body, error, &memory, options);
        return !error;
    });
    std::printf("%-34s %7zu %8.2f %8.2f %8.3f %9.2f %9.2f %8.2f\n", name, corpus.documents[0].size(), whole, pieces_4k,
                pieces_1, simdjson_dom, simdjson_on_demand, boost_json);
}

}  // namespace

int main() {
    std::printf("GB/s, one core; simdjson (%s) On-Demand does not check what it skips\n",
                simdjson::get_active_implementation()->name().c_str());
    std::printf("%-34s %7s %8s %8s %8s %9s %9s %8s\n", "body", "bytes", "ours", "4 KiB", "1 byte", "simd DOM",
                "simd O-D", "Boost");
    const std::vector<std::string> ascii{"a", "e", "t", "n", " ", "o", "r", "."};
    const std::vector<std::string> cyrillic{"\xd0\xb0", "\xd0\xb5", "\xd1\x82", "\xd0\xbd",
                                            "\xd0\xbe", "\xd1\x80", " "};
    const std::vector<std::string> cjk{"\xe6\xbc\xa2", "\xe5\xad\x97", "\xe4\xb8\xad", "\xe6\x96\x87", "\xed\x95\x9c"};
    const std::vector<std::string> mixed{"a", "e", " ", "\xc3\xa9", "n", "o", "\xe2\x82\xac", "t", "s"};
    const std::vector<std::string> emoji{"\xf0\x9f\x98\x80", "\xf0\x9f\x9a\x80", "\xf0\x9f\x8d\xba"};
    const std::vector<std::string> escapes{"\\n", "\\\"", "\\u00e9", "\\\\", "\\ud83d\\ude00"};
    const std::vector<std::string> some_escapes{"word ", "longer word ", "and ", "\\n", "\\\"", "sentence. "};
    measure("order event, 1 KiB", corpus_of([](Random& r) { return order_event(r, 1024); }));
    measure("order event, 64 KiB", corpus_of([](Random& r) { return order_event(r, 65536); }));
    measure("order event, 1 KiB, indented", corpus_of([](Random& r) { return order_event(r, 1024, "\n        "); }));
    measure("order event, 64 KiB, indented", corpus_of([](Random& r) { return order_event(r, 65536, "\n        "); }));
    measure("ASCII text, 64 KiB", corpus_of([&](Random& r) { return text_event(r, 65536, ascii); }));
    measure("Cyrillic text, 64 KiB", corpus_of([&](Random& r) { return text_event(r, 65536, cyrillic); }));
    measure("Chinese and Korean text, 64 KiB", corpus_of([&](Random& r) { return text_event(r, 65536, cjk); }));
    measure("accented text, 64 KiB", corpus_of([&](Random& r) { return text_event(r, 65536, mixed); }));
    measure("emoji, 64 KiB", corpus_of([&](Random& r) { return text_event(r, 65536, emoji); }));
    measure("text with some escapes, 64 KiB", corpus_of([&](Random& r) { return text_event(r, 65536, some_escapes); }));
    measure("nothing but escapes, 64 KiB", corpus_of([&](Random& r) { return text_event(r, 65536, escapes); }));
    measure("[1,1,1,...], 64 KiB", corpus_of([](Random& r) { return list_event(r, 65536, 1); }));
    measure("small integers, 64 KiB", corpus_of([](Random& r) { return list_event(r, 65536, 4); }));
    measure("tiny values of all kinds, 64 KiB", corpus_of([](Random& r) { return list_event(r, 65536, 11); }));
    measure("1003 top-level members", corpus_of(members_event));
    return 0;
}
