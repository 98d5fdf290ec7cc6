// links: headgate_deliver
// Replays the corpus of fuzz_template.
#include <boost/json.hpp>

#include "lua-free-tests/fuzz_corpus.h"  // last
#include "lua-free-tests/template_fuzz_target.h"

using namespace headgate;

namespace {

void test_corpus_of_fuzz_template(void**) {
    std::size_t rendered = 0;
    const std::size_t files = test::replay_corpus("template", [&](const std::string& text) {
        bool is_rendered = false;
        const bool is_right = test::template_is_right(text, &is_rendered);
        rendered += is_rendered ? 1 : 0;
        return is_right;
    });
    assert_true(files >= 16 && rendered >= 10);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus_of_fuzz_template),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
