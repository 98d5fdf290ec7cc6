#include <string>

#include "common/sha256.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

// FIPS 180-4 examples, and one in any pieces.
void test_finish_published_vectors_in_any_pieces(void**) {
    const std::string text = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    Sha256 digest;
    assert_string_equal(hex_encode(digest.finish()).c_str(),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        digest.update(std::string_view(text).substr(0, cut));
        digest.update({});
        digest.update(std::string_view(text).substr(cut));
        assert_string_equal(hex_encode(digest.finish()).c_str(),
                            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(test_finish_published_vectors_in_any_pieces)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
