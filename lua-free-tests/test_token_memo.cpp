// links: headgate_edge_pure
// The memo of digests against the hash itself: tokens that share a slot, near misses, and sizes at the bound.
#include <random>
#include <string>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"
#include "ngx_module/token_memo.h"

using namespace headgate;
using namespace headgate::edge;

namespace {

Sha256Digest plain(std::string_view token, const Sha256Digest& digest) {
    return sha256({reinterpret_cast<const char*>(digest.data()), digest.size()}, token);
}

void agrees_with_the_hash(void**) {
    TokenMemo memo;
    const Sha256Digest one = sha256("one"), two = sha256("two");
    std::vector<std::string> tokens = {"", "a", std::string(7, 'x'), std::string(8, 'x'), std::string(9, 'x')};
    for (const std::size_t bytes :
         {TokenMemo::kTextBytesMax - 1, TokenMemo::kTextBytesMax, TokenMemo::kTextBytesMax + 1}) {
        tokens.emplace_back(bytes, 'y');
        tokens.emplace_back(bytes, 'y').back() = 'z';
    }
    for (int i = 0; i < 2000; ++i) {  // many to a slot
        tokens.push_back("token-" + std::to_string(i));
    }
    std::mt19937 random(3);  // NOLINT(cert-msc51-cpp): the same run every time
    for (int i = 0; i < 50'000; ++i) {
        const std::string& token = tokens[random() % tokens.size()];
        const Sha256Digest& digest = random() % 2 == 0 ? one : two;
        assert_true(memo.key_of(token, digest) == plain(token, digest));
        assert_true(memo.key_of(token, digest) == plain(token, digest));  // now from the slot
    }
}

// Every byte counts, the slot's older and longer tenant does not.
void near_misses(void**) {
    TokenMemo memo;
    const Sha256Digest digest = sha256("d");
    std::string token(461, 't');
    for (std::size_t i = 0; i < token.size(); ++i) {
        (void)memo.key_of(token, digest);
        token[i] ^= 1;
        assert_true(memo.key_of(token, digest) == plain(token, digest));
        token[i] ^= 1;
    }
    for (std::size_t bytes = token.size(); bytes > 0; --bytes) {
        assert_true(memo.key_of(token.substr(0, bytes), digest) == plain(token.substr(0, bytes), digest));
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(agrees_with_the_hash), cmocka_unit_test(near_misses)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
