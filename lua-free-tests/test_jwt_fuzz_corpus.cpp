// Replays the corpora of fuzz_jwt and fuzz_jwks.
#include <string>

#include "lua-free-tests/fuzz_corpus.h"  // last
#include "lua-free-tests/jwt_fuzz_target.h"

using namespace headgate;

namespace {

void test_corpus_of_fuzz_jwt(void**) {
    std::size_t accepted = 0;
    const std::size_t files = test::replay_corpus("jwt", [&accepted](const std::string& token) {
        accepted += verify_jwt(token, {&test::fuzz_source()}, {}, test::kFuzzNow).status == JwtStatus::kOk ? 1 : 0;
        return test::token_is_handled_rightly(token);
    });
    assert_true(files >= 20);
    assert_int_equal(accepted, kJwtAlgorithmCount + 1);  // one for each algorithm, and one whose header has a jwk
}

void test_corpus_of_fuzz_jwks(void**) {
    std::size_t usable = 0;
    const std::size_t files = test::replay_corpus("jwks", [&usable](const std::string& text) {
        usable += key_set_from_file(text) || key_set_from_file(text, JwtAlgorithm::kHs256) ? 1 : 0;
        return test::key_text_is_handled_rightly(text);
    });
    assert_true(files >= 12 && usable >= 8);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus_of_fuzz_jwt),
        cmocka_unit_test(test_corpus_of_fuzz_jwks),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
