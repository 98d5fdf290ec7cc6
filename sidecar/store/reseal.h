// Rotation of the master key: which columns hold what is sealed, and one value of them sealed anew with the current
// key. Both engines walk through the columns in this order; next files: sqlite_reseal.cpp, postgres_reseal.cpp.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sidecar/store/secret_box.h"
#include "sidecar/store/store.h"

namespace headgate {

// Every table has its key in `id`, and the place of a value (its associated data) is table|column|id.
struct SealedColumn {
    const char *table, *column;
    bool is_headers = false;  // a JSON array of [name, sealed value], all of one place
};
inline constexpr std::array<SealedColumn, 8> kSealedColumns = {{
    {"webhook_secrets", "secret"},
    {"webhooks", "ed25519_seed"},
    {"webhooks", "headers", true},
    {"integrations", "access_token"},
    {"integrations", "refresh_token"},
    {"integrations", "api_key"},
    {"integrations", "client_id"},
    {"integrations", "client_secret"},
}};

// Where a pass goes on: behind this row of this column.
struct ResealCursor {
    std::size_t column = 0;
    std::string id;

    [[nodiscard]] static ResealCursor of(std::string_view text);  // empty, or unreadable: the beginning
    [[nodiscard]] std::string text() const { return std::to_string(column) + " " + id; }
};

// The value as it is to be written; nothing where nothing in it is of another key, or it is not sealed at all. The
// error names the place: kNotFound, of a key that was not given; kCorrupt.
[[nodiscard]] Result<std::optional<std::string>> resealed(const SecretBox& box, const SealedColumn& column,
                                                          std::string_view id, std::string_view value);

// Adds what a value holds to the counts by kid.
using SealedCounts = std::map<std::string, std::int64_t, std::less<>>;
void count_sealed(const SealedColumn& column, std::string_view value, SealedCounts& counts);
[[nodiscard]] std::vector<Store::SealedUnder> sealed_rows(const SealedCounts& counts, const SecretBox& box);
[[nodiscard]] bool is_current_alone(const SealedCounts& counts, const SecretBox& box);

// The refusal to open a store that needs `kid`.
[[nodiscard]] Error master_key_missing(std::string_view kid, const SecretBox& box);

}  // namespace headgate
