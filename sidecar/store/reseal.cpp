// One value sealed anew; see reseal.h.
#include "sidecar/store/reseal.h"

#include <charconv>

#include "sidecar/store/row_text.h"

namespace headgate {
namespace {

Result<std::optional<std::string>> resealed_text(const SecretBox& box, const std::string& place,
                                                 std::string_view value) {
    const std::string_view kid = SecretBox::kid_of(value);
    if (kid.empty() || kid == box.kid()) return std::nullopt;
    auto plain = box.open(value, place);
    if (!plain) return fail(plain.error().code, place + ": " + plain.error().message);
    auto sealed = box.seal(*plain, place);
    if (!sealed) return tl::unexpected<Error>(sealed.error());
    return std::optional<std::string>(std::move(*sealed));
}

}  // namespace

ResealCursor ResealCursor::of(std::string_view text) {
    ResealCursor cursor;
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) return cursor;
    std::size_t column = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + space, column);
    if (ec != std::errc() || end != text.data() + space || column > kSealedColumns.size()) return cursor;
    return {column, std::string(text.substr(space + 1))};
}

Result<std::optional<std::string>> resealed(const SecretBox& box, const SealedColumn& column, std::string_view id,
                                            std::string_view value) {
    const std::string place = std::string(column.table) + "|" + column.column + "|" + std::string(id);
    if (!column.is_headers) return resealed_text(box, place, value);
    auto headers = from_json_pairs(value);
    bool has_changed = false;
    for (auto& [name, sealed] : headers) {
        auto anew = resealed_text(box, place, sealed);
        if (!anew) return anew;
        if (!*anew) continue;
        sealed = std::move(**anew);
        has_changed = true;
    }
    if (!has_changed) return std::nullopt;
    return std::optional<std::string>(to_json_pairs(headers));
}

void count_sealed(const SealedColumn& column, std::string_view value, SealedCounts& counts) {
    auto add = [&counts](std::string_view sealed) {
        const std::string_view kid = SecretBox::kid_of(sealed);
        if (!kid.empty()) counts[std::string(kid)]++;
    };
    if (!column.is_headers) return add(value);
    for (const auto& [name, sealed] : from_json_pairs(value)) add(sealed);
}

std::vector<Store::SealedUnder> sealed_rows(const SealedCounts& counts, const SecretBox& box) {
    std::vector<Store::SealedUnder> rows;
    for (const auto& [kid, values] : counts) rows.push_back({kid, values, box.has_key(kid), kid == box.kid()});
    return rows;
}

bool is_current_alone(const SealedCounts& counts, const SecretBox& box) {
    return counts.empty() || (counts.size() == 1 && counts.begin()->first == box.kid());
}

Error master_key_missing(std::string_view kid, const SecretBox& box) {
    return {ErrorCode::kInvalidArgument,
            "the master key is not the one that this store's secrets are encrypted with: it needs key " +
                std::string(kid) + ", and security.master_key_file has key " + box.kid() +
                " (an older key goes into security.previous_master_key_files until `headgate migrate reseal` is done)"};
}

}  // namespace headgate
