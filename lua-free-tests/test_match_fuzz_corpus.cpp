// links: headgate_match
// Replays the corpus of fuzz_match.
#include <spdlog/spdlog.h>

#include <boost/json.hpp>

#include "lua-free-tests/fuzz_corpus.h"  // last
#include "lua-free-tests/match_fuzz_target.h"

using namespace headgate;

namespace {

void test_corpus_of_fuzz_match(void**) {
    std::size_t wanted = 0;
    std::size_t filtered = 0;
    const std::size_t files = test::replay_corpus("match", [&](const std::string& text) {
        const test::MatchInput input = test::match_input(text);
        const std::string answer = test::match_answer(input.filter, input);
        wanted += answer.starts_with("fuzzed=wanted") ? 1 : 0;
        filtered += answer.starts_with("fuzzed=filtered") ? 1 : 0;
        return test::match_is_right(text);
    });
    assert_true(files >= 20 && wanted >= 8 && filtered >= 6);
}

}  // namespace

int main() {
    spdlog::set_level(spdlog::level::off);
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus_of_fuzz_match),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
