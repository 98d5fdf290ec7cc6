// See body_view.h.
#include "ngx_module/body_view.h"

namespace headgate::edge {

BodyView::BodyView(ngx_http_request_t* r) noexcept : r_(r), link_(r->request_body->bufs) {
    for (const ngx_chain_t* link = link_; link != nullptr; link = link->next) {
        bytes_ += size_of(link->buf);
    }
}

void BodyView::seek(std::uint64_t begin) noexcept {
    if (begin < offset_) {
        link_ = r_->request_body->bufs;
        offset_ = 0;
    }
    while (link_ != nullptr && offset_ + size_of(link_->buf) <= begin) {
        offset_ += size_of(link_->buf);
        link_ = link_->next;
    }
}

ByteRange BodyView::within(ByteRange range, std::uint64_t offset, const ngx_buf_t* buf) noexcept {
    const std::uint64_t first = std::max(range.begin, offset);
    const std::uint64_t last = std::min(range.end, offset + size_of(buf));
    return first < last ? ByteRange{first - offset, last - offset} : ByteRange{};
}

ngx_chain_t** BodyView::append_shadows(ngx_chain_t** tail, ByteRange range) noexcept {
    seek(range.begin);
    std::uint64_t offset = offset_;
    for (ngx_chain_t* link = link_; link != nullptr && offset < range.end; link = link->next) {
        const ngx_buf_t* from = link->buf;
        const ByteRange part = within(range, offset, from);
        offset += size_of(from);
        if (part.size() == 0) {
            continue;
        }
        ngx_chain_t* shadow_link = ngx_alloc_chain_link(r_->pool);
        auto* shadow = static_cast<ngx_buf_t*>(ngx_pcalloc(r_->pool, sizeof(ngx_buf_t)));  // ngx_calloc_buf() is C
        if (shadow_link == nullptr || shadow == nullptr) {
            return nullptr;
        }
        if (ngx_buf_in_memory(from)) {
            shadow->pos = shadow->start = from->pos + part.begin;
            shadow->last = shadow->end = from->pos + part.end;
            shadow->memory = 1;
        } else {
            shadow->in_file = 1;
            shadow->file = from->file;
            shadow->file_pos = from->file_pos + static_cast<off_t>(part.begin);
            shadow->file_last = from->file_pos + static_cast<off_t>(part.end);
        }
        shadow_link->buf = shadow;
        shadow_link->next = nullptr;
        *tail = shadow_link;
        tail = &shadow_link->next;
    }
    return tail;
}

std::uint64_t BodyView::lent_bytes(const ngx_chain_t* chain, ByteRange range, bool files) noexcept {
    seek(range.begin);
    std::uint64_t bytes = 0;
    // Both chains are in the body's order: what follows a buffer lent from one link lies in that one or behind it.
    // Behind the range nothing is lent: a body may lie in very many buffers, and a batch asks for each of its events.
    const ngx_chain_t* first = link_;
    std::uint64_t first_offset = offset_;
    for (; chain != nullptr; chain = chain->next) {
        const ngx_buf_t* buf = chain->buf;
        std::uint64_t offset = first_offset;
        for (const ngx_chain_t* link = first; link != nullptr && offset < range.end; link = link->next) {
            const ngx_buf_t* own = link->buf;
            const bool in_memory = ngx_buf_in_memory(own) && buf->pos >= own->pos && buf->last <= own->last;
            const bool in_file = files && buf->in_file && buf->file == own->file;
            if (in_memory || in_file) {
                bytes += size_of(buf);
                first = link;
                first_offset = offset;
                break;
            }
            offset += size_of(own);
        }
    }
    return bytes;
}

}  // namespace headgate::edge
