// links: headgate_store headgate_common
#include <string>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/store/secret_box.h"

using namespace headgate;

namespace {

const std::string kKeyA(32, 'a');
const std::string kKeyB(32, 'b');

SecretBox box(const std::string& current, const std::vector<std::string>& previous = {}) {
    return std::move(*SecretBox::make(current, previous));
}

int error_of(const Result<std::string>& result) { return result ? -1 : static_cast<int>(result.error().code); }

void test_seal_open_gives_the_bytes_back(void**) {
    SecretBox keys = box(kKeyA);
    for (std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{15}, std::size_t{16}, std::size_t{5000}}) {
        std::string plain(length, '\0');
        for (std::size_t i = 0; i < length; i++) plain[i] = static_cast<char>(i * 7);
        auto sealed = keys.seal(plain, "t|c|1");
        assert_true(sealed.has_value());
        assert_true(sealed->starts_with("v1:" + keys.kid() + ":"));
        auto opened = keys.open(*sealed, "t|c|1");
        assert_true(opened.has_value() && *opened == plain);
    }
}

void test_seal_twice_differs(void**) {
    SecretBox keys = box(kKeyA);
    assert_true(*keys.seal("same", "t|c|1") != *keys.seal("same", "t|c|1"));
}

void test_open_elsewhere_is_corrupt(void**) {
    SecretBox keys = box(kKeyA);
    std::string sealed = *keys.seal("secret", "t|c|1");
    assert_int_equal(error_of(keys.open(sealed, "t|c|2")), static_cast<int>(ErrorCode::kCorrupt));
}

void test_open_any_altered_byte_is_refused(void**) {
    SecretBox keys = box(kKeyA);
    std::string sealed = *keys.seal("secret", "t|c|1");
    for (std::size_t i = 0; i < sealed.size(); i++) {
        std::string altered = sealed;
        altered[i] = altered[i] == 'A' ? 'B' : 'A';
        assert_false(keys.open(altered, "t|c|1").has_value());
        assert_false(keys.open(sealed.substr(0, i), "t|c|1").has_value());
    }
}

void test_open_with_another_key_is_not_found(void**) {
    std::string sealed = *box(kKeyA).seal("secret", "t|c|1");
    assert_int_equal(error_of(box(kKeyB).open(sealed, "t|c|1")), static_cast<int>(ErrorCode::kNotFound));
}

void test_rotation_opens_old_and_seals_new(void**) {
    std::string sealed = *box(kKeyA).seal("secret", "t|c|1");
    SecretBox rotated = box(kKeyB, {kKeyA});
    auto opened = rotated.open(sealed, "t|c|1");
    assert_true(opened.has_value() && *opened == "secret");
    assert_true(rotated.seal("secret", "t|c|1")->starts_with("v1:" + box(kKeyB).kid()));
    assert_true(box(kKeyA).kid() != box(kKeyB).kid());
}

void test_make_key_of_wrong_length_is_refused(void**) {
    for (std::size_t length : {std::size_t{0}, std::size_t{31}, std::size_t{33}}) {
        assert_false(SecretBox::make(std::string(length, 'k'), {}).has_value());
        assert_false(SecretBox::make(kKeyA, {std::string(length, 'k')}).has_value());
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_seal_open_gives_the_bytes_back),
        cmocka_unit_test(test_seal_twice_differs),
        cmocka_unit_test(test_open_elsewhere_is_corrupt),
        cmocka_unit_test(test_open_any_altered_byte_is_refused),
        cmocka_unit_test(test_open_with_another_key_is_not_found),
        cmocka_unit_test(test_rotation_opens_old_and_seals_new),
        cmocka_unit_test(test_make_key_of_wrong_length_is_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
