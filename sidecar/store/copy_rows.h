// What a copy does with one row, whichever engine's cursor it comes from (both have the same members, as in
// row_readers.h): its key, its size, its digest. Next files: copy_source.h and copy_target.h, the two ends.
#pragma once

#include <bit>
#include <string>
#include <string_view>

#include "common/hmac.h"
#include "sidecar/store/copy_tables.h"
#include "sidecar/store/postgres_text.h"

namespace headgate {

template <typename Row>
CopyKey row_key(const CopyTable& table, const Row& row) {
    CopyKey key;
    for (std::size_t i = 0; i < table.key_columns; i++) {
        const int column = static_cast<int>(i);
        if (table.columns[i].type == CopyType::kInteger) {
            key.emplace_back(row.number(column));
        } else {
            key.emplace_back(row.text(column));
        }
    }
    return key;
}

// Of its values, roughly: for the bound of a batch.
template <typename Row>
std::size_t row_bytes(const CopyTable& table, const Row& row) {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < table.columns.size(); i++) {
        const CopyType type = table.columns[i].type;
        const bool is_number = type == CopyType::kInteger || type == CopyType::kReal;
        bytes += 12 + (is_number ? 0 : row.view(static_cast<int>(i)).size());
    }
    return bytes;
}

// SHA-256 over the canonical form: for each column one letter for its type, or `n` for NULL, and eight bytes, high one
// first: the number, the bits of the real, or the length of the bytes that follow. Text is taken as PostgreSQL can keep
// it (postgres_text.h), so that a row has the same digest on both sides, and two different rows have not.
template <typename Row>
Sha256Digest row_digest(Sha256& hash, const CopyTable& table, const Row& row) {
    auto add = [&](char type, std::int64_t number) {
        char bytes[9] = {type};
        for (int i = 0; i < 8; i++)
            bytes[1 + i] = static_cast<char>(static_cast<std::uint64_t>(number) >> (56 - 8 * i));
        hash.update({bytes, sizeof bytes});
    };
    for (std::size_t i = 0; i < table.columns.size(); i++) {
        const int column = static_cast<int>(i);
        if (row.is_null(column)) {
            add('n', 0);
            continue;
        }
        switch (table.columns[i].type) {
            case CopyType::kInteger:
                add('i', row.number(column));
                break;
            case CopyType::kReal:
                add('r', std::bit_cast<std::int64_t>(row.real(column)));
                break;
            case CopyType::kBytes: {
                const std::string_view bytes = row.view(column);
                add('b', static_cast<std::int64_t>(bytes.size()));
                hash.update(bytes);
                break;
            }
            case CopyType::kText: {
                std::string_view text = row.view(column);
                std::string replaced;
                if (!is_storable_text(text)) text = replaced = storable_text(text);
                add('t', static_cast<std::int64_t>(text.size()));
                hash.update(text);
                break;
            }
        }
    }
    return hash.finish();
}

}  // namespace headgate
