// Stage 3: a request's body where nginx has put it, in buffers, in a temporary file, or both. Ranges of it are read,
// or lent to a command, without a copy. Asked for in ascending order, all ranges together cost one walk over the
// buffers.
#pragma once

#include <algorithm>

#include "common/event_scanner.h"
#include "common/limits.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

class BodyView {
 public:
    // After nginx has read the whole body. The view borrows the request.
    explicit BodyView(ngx_http_request_t* r) noexcept;

    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

    // Calls visit(data, bytes) for each piece of the range, in order, until it returns false. Pieces of a file are read
    // through the worker's one scan buffer. False: a file could not be read.
    template <typename Visit>
    [[nodiscard]] bool read(ByteRange range, Visit&& visit);

    // Appends shadow buffers over the range: send_chain() advances what it is given, and the request's own
    // buffers stay whole, so that a command can be built again. Returns where to append next; nullptr: no memory.
    [[nodiscard]] ngx_chain_t** append_shadows(ngx_chain_t** tail, ByteRange range) noexcept;

    // How many bytes of the chain lie where nginx read that range to. Looks at the finished chain and not at how it was
    // made, so that a copy slipped in anywhere shows. Without `files` what lies in a file will be copied, and does not
    // count.
    [[nodiscard]] std::uint64_t lent_bytes(const ngx_chain_t* chain, ByteRange range, bool files) noexcept;

 private:
    static std::uint64_t size_of(const ngx_buf_t* buf) noexcept {
        return static_cast<std::uint64_t>(ngx_buf_size(buf));
    }
    void seek(std::uint64_t begin) noexcept;
    // What of [range) lies in a buffer at `offset`, as offsets within it; empty when nothing does.
    static ByteRange within(ByteRange range, std::uint64_t offset, const ngx_buf_t* buf) noexcept;

    ngx_http_request_t* r_;
    std::uint64_t bytes_ = 0;
    ngx_chain_t* link_ = nullptr;  // where the last range began
    std::uint64_t offset_ = 0;     // of that link in the body
};

template <typename Visit>
bool BodyView::read(ByteRange range, Visit&& visit) {
    seek(range.begin);
    std::uint64_t offset = offset_;
    for (ngx_chain_t* link = link_; link != nullptr && offset < range.end; link = link->next) {
        ngx_buf_t* buf = link->buf;
        const ByteRange part = within(range, offset, buf);
        offset += size_of(buf);
        if (part.size() == 0) {
            continue;
        }
        if (ngx_buf_in_memory(buf)) {
            if (!visit(reinterpret_cast<const char*>(buf->pos + part.begin), part.size())) {
                return true;
            }
            continue;
        }
        char* window = current_worker(r_).scan_buffer();
        for (std::uint64_t at = part.begin; at < part.end;) {
            const std::size_t want = std::min<std::uint64_t>(part.end - at, limits::kScanBufferBytes);
            const ssize_t n = ngx_read_file(buf->file, reinterpret_cast<u_char*>(window), want,
                                            buf->file_pos + static_cast<off_t>(at));
            if (n <= 0) {
                return false;
            }
            if (!visit(static_cast<const char*>(window), static_cast<std::size_t>(n))) {
                return true;
            }
            at += static_cast<std::uint64_t>(n);
        }
    }
    return true;
}

}  // namespace headgate::edge
