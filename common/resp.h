// Writing RESP2 commands (https://redis.io/docs/reference/protocol-spec/). Replies are read with
// hiredis's redisReader on both sides.
#pragma once

#include <charconv>
#include <cstddef>
#include <string>
#include <string_view>

namespace headgate {

inline constexpr std::size_t kRespHeadBytesMax = 24;  // '*' or '$', 20 digits, CR LF

// Writes "<mark><count>\r\n" and returns the new end. `out` has kRespHeadBytesMax bytes.
inline char* resp_write_head(char* out, char mark, std::size_t count) noexcept {
    *out++ = mark;
    out = std::to_chars(out, out + 20, count).ptr;
    *out++ = '\r';
    *out++ = '\n';
    return out;
}

// Appends commands to a string.
class RespWriter {
 public:
    explicit RespWriter(std::string& out) : out_(out) {}
    RespWriter& array(std::size_t count) { return head('*', count); }
    RespWriter& bulk(std::string_view bytes) {
        head('$', bytes.size());
        out_.append(bytes).append("\r\n");
        return *this;
    }
    RespWriter& bulk(long long number) {
        char digits[24];
        auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
        return bulk(std::string_view(digits, static_cast<std::size_t>(end - digits)));
    }
    // What has been written before, as RESP.
    RespWriter& raw(std::string_view bytes) {
        out_.append(bytes);
        return *this;
    }
    template <typename... Args>
    RespWriter& command(const Args&... args) {
        array(sizeof...(args));
        (bulk(args), ...);
        return *this;
    }

 private:
    RespWriter& head(char mark, std::size_t count) {
        char text[kRespHeadBytesMax];
        out_.append(text, resp_write_head(text, mark, count));
        return *this;
    }
    std::string& out_;
};

}  // namespace headgate
