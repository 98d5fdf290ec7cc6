// The committed corpora of the fuzzers, replayed by unit tests.
#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "lua-free-tests/cmocka_cpp.h"  // last

namespace headgate::test {

// How many files there are; fails with the name of one that is not handled rightly.
inline std::size_t replay_corpus(const char* name, const std::function<bool(const std::string&)>& is_right) {
    const auto directory = std::filesystem::path(HEADGATE_CORPUS) / name;
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        std::ifstream in(entry.path(), std::ios::binary);
        const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
        if (!is_right(text)) {
            assert_string_equal(entry.path().c_str(), "handled rightly");
        }
        ++files;
    }
    return files;
}

}  // namespace headgate::test
