// How values of rows.h are written as text in the tables, the same in every engine: lists as JSON arrays, enumerations
// by name, secrets with the place that they are sealed for. Next file: row_readers.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/store/store.h"

namespace headgate {

// JSON arrays of strings. from_json_list throws on what is none: a corrupt row.
[[nodiscard]] std::string to_json_list(const std::vector<std::string>& items);
[[nodiscard]] std::vector<std::string> from_json_list(std::string_view text);
[[nodiscard]] std::string to_json_numbers(const std::vector<std::int64_t>& numbers);
[[nodiscard]] std::vector<std::int64_t> from_json_numbers(std::string_view text);
// Lists that are one string separated by spaces in the program and in Redis.
[[nodiscard]] std::string json_of_words(std::string_view words);
[[nodiscard]] std::string words_of_json(std::string_view json);
// JSON array of [name, value].
[[nodiscard]] std::string to_json_pairs(const std::vector<std::pair<std::string, std::string>>& pairs);
[[nodiscard]] std::vector<std::pair<std::string, std::string>> from_json_pairs(std::string_view text);

[[nodiscard]] std::string_view format_name(PayloadFormat format) noexcept;
[[nodiscard]] PayloadFormat format_of(std::string_view name) noexcept;
[[nodiscard]] std::string_view policy_name(OrderingPolicy policy) noexcept;
[[nodiscard]] OrderingPolicy policy_of(std::string_view name) noexcept;
[[nodiscard]] std::string_view outcome_name(AttemptOutcome outcome) noexcept;
[[nodiscard]] AttemptOutcome outcome_of(std::string_view name) noexcept;

// Where a secret stands: the associated data that it is sealed with (secret_box.h).
[[nodiscard]] inline std::string webhook_place(std::string_view column, std::string_view webhook_id) {
    return "webhooks|" + std::string(column) + "|" + std::string(webhook_id);
}
[[nodiscard]] inline std::string secret_place(std::string_view secret_id) {
    return "webhook_secrets|secret|" + std::string(secret_id);
}
// A text sealed under each master key that something in the store is sealed under, so that a store is not opened
// without one that it needs: `master_key_check`, and `master_key_check:<kid>` for more of them.
inline constexpr std::string_view kMasterKeyCheck = "master_key_check";
inline constexpr std::string_view kMasterKeyText = "headgate";
[[nodiscard]] inline std::string setting_place(std::string_view name) { return "settings|value|" + std::string(name); }

}  // namespace headgate
