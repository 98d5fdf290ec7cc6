// The pass of json_slices.h.
#include "sidecar/deliver/json_slices.h"

#include <algorithm>
#include <charconv>

#include "common/json_bytes.h"
#include "common/limits.h"

namespace headgate {

namespace {

using Node = JsonPaths::Node;

using json_bytes::is_digit;
using json_bytes::is_hex;

// Only as it would be counted: "0", "10", not "01".
std::optional<std::size_t> index_of(std::string_view name) noexcept {
    std::size_t index = 0;
    const char* const end = name.data() + name.size();
    const auto [at, error] = std::from_chars(name.data(), end, index);
    if (error != std::errc() || at != end || (name.size() > 1 && name[0] == '0')) {
        return std::nullopt;
    }
    return index;
}

void forget(const Node* node, std::vector<std::string_view>& slices) {
    if (node == nullptr) {
        return;
    }
    if (node->number) {
        slices[*node->number] = {};
    }
    for (const Node& child : node->children) {
        forget(&child, slices);
    }
}

// Reads one value after the other; a node that is not null names what is wanted of it.
class Pass {
 public:
    Pass(std::string_view text, std::vector<std::string_view>& slices) : text_(text), slices_(slices) {}

    bool run(const Node& root) {
        if (!value(&root, 0)) {
            return false;
        }
        skip_space();
        return at_ == text_.size();
    }

 private:
    [[nodiscard]] char peek() const noexcept { return at_ < text_.size() ? text_[at_] : '\0'; }

    bool take(char c) noexcept {
        const bool is_there = at_ < text_.size() && text_[at_] == c;
        at_ += is_there ? 1 : 0;
        return is_there;
    }

    void skip_space() noexcept {
        while (at_ < text_.size() &&
               (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) {
            ++at_;
        }
    }

    bool value(const Node* node, int depth) {
        if (depth > limits::kJsonDepthMax) {
            return false;
        }
        skip_space();
        const std::size_t begin = at_;
        bool is_good = false;
        std::string_view inside;
        switch (peek()) {
            case '{':
                is_good = object(node, depth);
                break;
            case '[':
                is_good = array(node, depth);
                break;
            case '"':
                is_good = string(inside);
                break;
            case 't':
                is_good = word("true");
                break;
            case 'f':
                is_good = word("false");
                break;
            case 'n':
                is_good = word("null");
                break;
            default:
                is_good = number();
        }
        if (is_good && node != nullptr && node->number) {
            slices_[*node->number] = text_.substr(begin, at_ - begin);
        }
        return is_good;
    }

    bool object(const Node* node, int depth) {
        ++at_;
        skip_space();
        if (take('}')) {
            return true;
        }
        do {
            skip_space();
            std::string_view name;
            if (!string(name)) {
                return false;
            }
            skip_space();
            if (!take(':')) {
                return false;
            }
            const Node* const child = member(node, name);
            forget(child, slices_);
            if (!value(child, depth + 1)) {
                return false;
            }
            skip_space();
        } while (take(','));
        return take('}');
    }

    bool array(const Node* node, int depth) {
        ++at_;
        skip_space();
        if (take(']')) {
            return true;
        }
        std::size_t index = 0;
        do {
            const Node* child = nullptr;
            if (node != nullptr) {
                const auto found = std::find_if(node->children.begin(), node->children.end(),
                                                [&](const Node& wanted) { return wanted.index == index; });
                child = found == node->children.end() ? nullptr : &*found;
            }
            if (!value(child, depth + 1)) {
                return false;
            }
            ++index;
            skip_space();
        } while (take(','));
        return take(']');
    }

    [[nodiscard]] static const Node* member(const Node* node, std::string_view name) {
        if (node == nullptr || node->children.empty()) {
            return nullptr;
        }
        std::string decoded;
        if (name.find('\\') != std::string_view::npos) {
            decoded = decode_json_string(name);
            name = decoded;
        }
        const auto found = std::find_if(node->children.begin(), node->children.end(),
                                        [&](const Node& wanted) { return wanted.name == name; });
        return found == node->children.end() ? nullptr : &*found;
    }

    bool string(std::string_view& inside) {
        if (!take('"')) {
            return false;
        }
        const std::size_t begin = at_;
        for (; at_ < text_.size(); ++at_) {
            const char c = text_[at_];
            if (c == '"') {
                inside = text_.substr(begin, at_ - begin);
                ++at_;
                return true;
            }
            if (static_cast<unsigned char>(c) < 0x20 || (c == '\\' && !escape())) {
                return false;
            }
        }
        return false;
    }

    // At a backslash; left at the escape's last byte.
    bool escape() {
        ++at_;
        if (peek() != 'u') {
            return at_ < text_.size() && std::string_view("\"\\/bfnrt").find(text_[at_]) != std::string_view::npos;
        }
        const std::string_view digits = text_.substr(at_ + 1, 4);
        at_ += digits.size();
        return digits.size() == 4 && std::all_of(digits.begin(), digits.end(), is_hex);
    }

    bool word(std::string_view wanted) {
        const bool is_there = text_.substr(at_).starts_with(wanted);
        at_ += is_there ? wanted.size() : 0;
        return is_there;
    }

    bool digits() {
        const std::size_t begin = at_;
        while (is_digit(peek())) {
            ++at_;
        }
        return at_ > begin;
    }

    bool number() {
        take('-');
        if (!take('0') && !digits()) {
            return false;
        }
        if (take('.') && !digits()) {
            return false;
        }
        if (take('e') || take('E')) {
            if (!take('+')) {
                take('-');
            }
            return digits();
        }
        return true;
    }

    const std::string_view text_;
    std::vector<std::string_view>& slices_;
    std::size_t at_ = 0;
};

void append_utf8(std::string& out, unsigned code) {
    if (code < 0x80) {
        out += static_cast<char>(code);
    } else if (code < 0x800) {
        out += static_cast<char>(0xc0 | (code >> 6));
        out += static_cast<char>(0x80 | (code & 0x3f));
    } else {
        if (code < 0x10000) {
            out += static_cast<char>(0xe0 | (code >> 12));
        } else {
            out += static_cast<char>(0xf0 | (code >> 18));
            out += static_cast<char>(0x80 | ((code >> 12) & 0x3f));
        }
        out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
        out += static_cast<char>(0x80 | (code & 0x3f));
    }
}

// The four digits at `at`; beyond every code when they are not there.
unsigned hex4(std::string_view text, std::size_t at) noexcept {
    unsigned code = 0;
    const std::string_view digits = text.substr(std::min(at, text.size()), 4);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    return error == std::errc() && digits.size() == 4 && end == digits.data() + 4 ? code : 0xffffffff;
}

}  // namespace

std::size_t JsonPaths::add(std::span<const std::string_view> segments) {
    Node* node = &root_;
    for (const std::string_view segment : segments) {
        auto found = std::find_if(node->children.begin(), node->children.end(),
                                  [&](const Node& child) { return child.name == segment; });
        if (found == node->children.end()) {
            node->children.push_back({std::string(segment), index_of(segment), std::nullopt, {}});
            found = node->children.end() - 1;
        }
        node = &*found;
    }
    if (!node->number) {
        node->number = count_++;
    }
    return *node->number;
}

bool JsonPaths::find(std::string_view text, std::vector<std::string_view>& slices) const {
    slices.assign(count_, {});
    return Pass(text, slices).run(root_);
}

std::string decode_json_string(std::string_view inside) {
    std::string out;
    out.reserve(inside.size());
    for (std::size_t i = 0; i < inside.size(); ++i) {
        if (inside[i] != '\\' || i + 1 >= inside.size()) {
            out += inside[i];
            continue;
        }
        const char c = inside[++i];
        if (c != 'u') {
            static constexpr std::string_view kNames = "bfnrt", kBytes = "\b\f\n\r\t";
            const std::size_t at = kNames.find(c);
            out += at == std::string_view::npos ? c : kBytes[at];
            continue;
        }
        unsigned code = hex4(inside, i + 1);
        i += std::min<std::size_t>(4, inside.size() - 1 - i);
        if (code >= 0xd800 && code <= 0xdbff && inside.substr(i + 1).starts_with("\\u")) {
            const unsigned low = hex4(inside, i + 3);
            if (low >= 0xdc00 && low <= 0xdfff) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                i += 6;
            }
        }
        const bool is_character = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        append_utf8(out, is_character ? code : 0xfffd);
    }
    return out;
}

}  // namespace headgate
