// links: headgate_edge_pure
// A principal as one run of bytes: there and back, at the bounds, and from memory that was left half written.
#include <string>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"
#include "ngx_module/principal_pack.h"

using namespace headgate::edge;

namespace {

std::vector<unsigned char> packed(const PrincipalTexts& texts) {
    std::vector<unsigned char> out(packed_bytes(texts));
    pack_principal(texts, out.data());
    return out;
}

void round_trip(void**) {
    std::vector<std::string> held;
    for (std::size_t i = 0; i < kPrincipalFieldCount; ++i) {
        held.push_back(std::string(i * 37, static_cast<char>('a' + i)) + std::string(1, '\0'));
    }
    held[3].clear();
    PrincipalTexts texts;
    for (std::size_t i = 0; i < held.size(); ++i) {
        texts.texts[i] = held[i];
    }
    const auto bytes = packed(texts);
    PrincipalTexts back;
    assert_true(unpack_principal(bytes.data(), bytes.size(), back));
    for (std::size_t i = 0; i < held.size(); ++i) {
        assert_true(back.texts[i] == held[i]);
    }
}

void bounds(void**) {
    PrincipalTexts none;
    assert_int_equal(packed_bytes(none), kPrincipalHeadBytes);
    PrincipalTexts back;
    const auto empty = packed(none);
    assert_true(unpack_principal(empty.data(), empty.size(), back));

    const std::string most(kPrincipalBytesMax - kPrincipalHeadBytes, 'x');
    PrincipalTexts texts;
    texts[PrincipalField::kScope] = most;
    assert_int_equal(packed_bytes(texts), kPrincipalBytesMax);
    const auto bytes = packed(texts);
    assert_true(unpack_principal(bytes.data(), bytes.size(), back));
    assert_true(back[PrincipalField::kScope] == most);
    texts[PrincipalField::kOrg] = "o";
    assert_int_equal(packed_bytes(texts), 0);
    const std::string huge(100'000, 'x');
    texts[PrincipalField::kScope] = huge;
    assert_int_equal(packed_bytes(texts), 0);
}

void half_written(void**) {
    PrincipalTexts texts;
    texts[PrincipalField::kOrg] = "org";
    texts[PrincipalField::kAllowedIps] = "10.0.0.0/8";
    auto bytes = packed(texts);
    PrincipalTexts back;
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        assert_false(unpack_principal(bytes.data(), size, back));
    }
    bytes[0] = 0xff;  // a length that leads beyond
    bytes[1] = 0xff;
    assert_false(unpack_principal(bytes.data(), bytes.size(), back));
    const std::vector<unsigned char> zeros(200);
    assert_false(unpack_principal(zeros.data(), zeros.size(), back));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(bounds), cmocka_unit_test(half_written)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
