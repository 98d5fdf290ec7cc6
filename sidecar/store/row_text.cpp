// See row_text.h.
#include "sidecar/store/row_text.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace headgate {

std::string to_json_list(const std::vector<std::string>& items) {
    boost::json::array array;
    for (const std::string& item : items) array.emplace_back(item);
    return boost::json::serialize(array);
}

std::vector<std::string> from_json_list(std::string_view text) {
    std::vector<std::string> items;
    boost::json::value parsed = boost::json::parse(text);
    for (const boost::json::value& item : parsed.as_array()) items.emplace_back(item.as_string());
    return items;
}

std::string to_json_numbers(const std::vector<std::int64_t>& numbers) {
    boost::json::array array(numbers.begin(), numbers.end());
    return boost::json::serialize(array);
}

std::vector<std::int64_t> from_json_numbers(std::string_view text) {
    std::vector<std::int64_t> numbers;
    boost::json::value parsed = boost::json::parse(text);
    for (const boost::json::value& item : parsed.as_array()) numbers.push_back(item.to_number<std::int64_t>());
    return numbers;
}

std::string json_of_words(std::string_view words) {
    std::vector<std::string> items;
    while (!words.empty()) {
        std::size_t end = std::min(words.find(' '), words.size());
        if (end > 0) items.emplace_back(words.substr(0, end));
        words.remove_prefix(std::min(end + 1, words.size()));
    }
    return to_json_list(items);
}

std::string words_of_json(std::string_view json) {
    std::string words;
    for (const std::string& item : from_json_list(json)) {
        if (!words.empty()) words += ' ';
        words += item;
    }
    return words;
}

std::string to_json_pairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
    boost::json::array array;
    for (const auto& [name, value] : pairs) array.push_back(boost::json::array{name, value});
    return boost::json::serialize(array);
}

std::vector<std::pair<std::string, std::string>> from_json_pairs(std::string_view text) {
    std::vector<std::pair<std::string, std::string>> pairs;
    boost::json::value parsed = boost::json::parse(text);
    for (const boost::json::value& item : parsed.as_array()) {
        const boost::json::array& pair = item.as_array();
        pairs.emplace_back(std::string(pair.at(0).as_string()), std::string(pair.at(1).as_string()));
    }
    return pairs;
}

std::string_view format_name(PayloadFormat format) noexcept {
    switch (format) {
        case PayloadFormat::kStandard:
            return "standard";
        case PayloadFormat::kRaw:
            return "raw";
        case PayloadFormat::kTemplate:
            return "template";
        case PayloadFormat::kEnvelope:
            break;
    }
    return "envelope";
}

PayloadFormat format_of(std::string_view name) noexcept {
    if (name == "standard") return PayloadFormat::kStandard;
    if (name == "raw") return PayloadFormat::kRaw;
    return name == "template" ? PayloadFormat::kTemplate : PayloadFormat::kEnvelope;
}

std::string_view policy_name(OrderingPolicy policy) noexcept {
    switch (policy) {
        case OrderingPolicy::kSkip:
            return "skip";
        case OrderingPolicy::kBlock:
            return "block";
        case OrderingPolicy::kDead:
            break;
    }
    return "dead";
}

OrderingPolicy policy_of(std::string_view name) noexcept {
    if (name == "skip") return OrderingPolicy::kSkip;
    return name == "block" ? OrderingPolicy::kBlock : OrderingPolicy::kDead;
}

std::string_view outcome_name(AttemptOutcome outcome) noexcept {
    switch (outcome) {
        case AttemptOutcome::kSuccess:
            return "success";
        case AttemptOutcome::kRetry:
            return "retry";
        case AttemptOutcome::kDead:
            return "dead";
        case AttemptOutcome::kCancelled:
            return "cancelled";
        case AttemptOutcome::kInterrupted:
            break;
    }
    return "interrupted";
}

AttemptOutcome outcome_of(std::string_view name) noexcept {
    for (auto outcome :
         {AttemptOutcome::kSuccess, AttemptOutcome::kRetry, AttemptOutcome::kDead, AttemptOutcome::kCancelled}) {
        if (outcome_name(outcome) == name) return outcome;
    }
    return AttemptOutcome::kInterrupted;
}

}  // namespace headgate
