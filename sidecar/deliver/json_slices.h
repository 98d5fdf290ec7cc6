// Values inside a JSON text, found by their paths and left as the bytes that stand there: nothing is parsed into
// numbers, nothing is written anew. Pure. Next file: body_template.h.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace headgate {

// A set of paths, looked up together in one pass over a text.
class JsonPaths {
 public:
    // The path's number, counted from 0; the same for the same path. A segment of digits is also an index of an array.
    std::size_t add(std::span<const std::string_view> segments);
    [[nodiscard]] std::size_t size() const noexcept { return count_; }

    // slices[number] = the value's text, a string's quotes included; empty: there is none. Of members with one name the
    // last counts. False when the text is not JSON (RFC 8259; its UTF-8 is not looked at) or deeper than
    // limits::kJsonDepthMax. The slices point into `text`.
    [[nodiscard]] bool find(std::string_view text, std::vector<std::string_view>& slices) const;

    struct Node {
        std::string name;
        std::optional<std::size_t> index;   // the name as an array's index
        std::optional<std::size_t> number;  // of the path that ends here
        std::vector<Node> children;
    };

 private:
    Node root_;
    std::size_t count_ = 0;
};

// What stands between a JSON string's quotes, its escapes undone. `inside` is valid, as find() gives it; half of a
// surrogate pair becomes U+FFFD.
[[nodiscard]] std::string decode_json_string(std::string_view inside);

}  // namespace headgate
