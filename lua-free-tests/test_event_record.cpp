#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/event_record.h"
#include "common/hmac.h"
#include "common/limits.h"
#include "common/percent_encode.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

using Fields = std::vector<std::pair<std::string_view, std::string_view>>;

Fields valid_fields() {
    return {{"v", "1"},
            {"id", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"},
            {"org", "org_1"},
            {"key", "key_1"},
            {"type", "order.created"},
            {"source", "shop"},
            {"payload", R"({"a":1})"},
            {"ord", ""},
            {"tp", ""},
            {"via", "api"},
            {"at", "1700000000123"}};
}

// The message of the refusal after one field was changed; empty when it decodes.
std::string refusal(std::string_view name, std::string_view value) {
    Fields fields = valid_fields();
    for (auto& field : fields) {
        if (field.first == name) {
            field.second = value;
        }
    }
    const auto event = decode_event(fields);
    return event ? "" : event.error().message;
}

void test_decode_event_valid_entry(void**) {
    Fields fields = valid_fields();
    for (int order = 0; order < 2; ++order) {
        const auto event = decode_event(fields);
        assert_true(event.has_value());
        assert_true(event->id == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f" && event->org == "org_1");
        assert_true(event->key_id == "key_1" && event->type == "order.created" && event->source == "shop");
        assert_true(event->payload == R"({"a":1})" && event->ordering_key.empty() && event->traceparent.empty());
        assert_true(event->via == "api");
        assert_int_equal(event->at_ms, 1'700'000'000'123);
        std::reverse(fields.begin(), fields.end());
    }
    fields.emplace_back("later", "a field that a newer edge adds");
    assert_true(decode_event(fields).has_value());
}

void test_decode_event_names_match_the_fields_order(void**) {
    const Fields fields = valid_fields();
    for (std::size_t i = 0; i < fields.size(); ++i) {
        assert_true(kEventFieldNames[i] == fields[i].first);
    }
}

void test_decode_event_missing_and_doubled_named(void**) {
    for (const auto& [name, value] : valid_fields()) {
        Fields missing, doubled = valid_fields();
        for (const auto& field : doubled) {
            if (field.first != name) {
                missing.push_back(field);
            }
        }
        doubled.emplace_back(name, value);
        const auto without = decode_event(missing), twice = decode_event(doubled);
        assert_false(without.has_value() || twice.has_value());
        assert_true(without.error().code == ErrorCode::kCorrupt);
        assert_true(without.error().message.find('"' + std::string(name) + "\" is missing") != std::string::npos);
        assert_true(twice.error().message.find('"' + std::string(name) + "\" is doubled") != std::string::npos);
    }
    assert_false(decode_event({}).has_value());
}

void test_decode_event_bad_values_named(void**) {
    const std::string org_max(limits::kOrgIdBytesMax, 'o'), source_max(limits::kEventSourceBytesMax, 's');
    const std::string type_max(limits::kEventTypeBytesMax, 't'), ord_max(limits::kOrderingKeyBytesMax, 'k');
    for (const auto& [name, value] : Fields{{"org", org_max},
                                            {"source", source_max},
                                            {"type", type_max},
                                            {"ord", ord_max},
                                            {"key", ""},
                                            {"at", "0"},
                                            {"type", "webhook.disabled"},
                                            {"ord", "\xc3\xbc {}"}}) {
        assert_true(refusal(name, value).empty());
    }
    const std::string org_over = org_max + "o", source_over = source_max + "s", type_over = type_max + "t",
                      ord_over = ord_max + "k", key_over(limits::kKeyIdBytesMax + 1, 'k');
    for (const auto& [name, value] : Fields{{"v", "2"},
                                            {"v", ""},
                                            {"v", "01"},
                                            {"id", ""},
                                            {"id", "x"},
                                            {"org", ""},
                                            {"org", org_over},
                                            {"org", "a\nb"},
                                            {"key", key_over},
                                            {"type", ""},
                                            {"type", type_over},
                                            {"type", "a b"},
                                            {"source", ""},
                                            {"source", source_over},
                                            {"source", "\x7f"},
                                            {"payload", ""},
                                            {"ord", ord_over},
                                            {"ord", "\x01"},
                                            {"via", ""},
                                            {"at", ""},
                                            {"at", "-1"},
                                            {"at", "+1"},
                                            {"at", "1.5"},
                                            {"at", "1700000000123 "},
                                            {"at", "253402300800000"},
                                            {"at", "99999999999999999999"}}) {
        assert_true(refusal(name, value).find('"' + std::string(name) + '"') != std::string::npos);
    }
}

void test_redis_slot_known_vectors(void**) {
    assert_int_equal(redis_slot("123456789"), 0x31C3);
    assert_int_equal(redis_slot(""), 0);
    assert_int_equal(redis_slot("foo"), 12182);
    assert_int_equal(redis_slot("{user1000}.following"), redis_slot("user1000"));
    assert_int_equal(redis_slot("foo{bar}{zap}"), redis_slot("bar"));
    assert_int_equal(redis_slot("foo{{bar}}zap"), redis_slot("{bar"));
    // An empty tag or an open one is none.
    assert_true(redis_slot("foo{}{bar}") != redis_slot("bar"));
    assert_true(redis_slot("foo{bar") != redis_slot("bar"));
    assert_true(redis_slot("foo}{bar}") == redis_slot("bar"));
}

void test_shard_tag_every_prefix_is_even(void**) {
    for (int shards = 1; shards <= limits::kShardsMax; shards *= 2) {
        std::set<int> parts;
        for (int shard = 0; shard < shards; ++shard) {
            parts.insert(redis_slot(stream_key(kDefaultKeyPrefix, shard)) / (16'384 / shards));
        }
        assert_int_equal(parts.size(), shards);
    }
    std::set<std::string_view> tags;
    for (int shard = 0; shard < limits::kShardsMax; ++shard) {
        tags.insert(shard_tag(shard));
    }
    assert_int_equal(tags.size(), limits::kShardsMax);
}

// The table is part of the contract with what lies in Redis: it must never change.
void test_shard_tag_table_is_the_one_of_contract_1(void**) {
    std::string table;
    for (int shard = 0; shard < limits::kShardsMax; ++shard) {
        table.append(shard_tag(shard)).append(" ");
    }
    assert_string_equal(hex_encode(sha256(table)).c_str(),
                        "c52b2d5b8f1819f9d9ba56a4bc2485946be318098a274818647a6d6983f83823");
}

void test_key_names(void**) {
    assert_true(stream_key("headgate:", 0) == "headgate:{" + std::string(shard_tag(0)) + "}:events");
    assert_true(api_key_key("headgate:", "ab12") == "headgate:key:ab12");
    assert_true(kLimitKeyHead == std::string(kDefaultKeyPrefix) + "limit:{");
    assert_true(kUsageKeyHead == std::string(kDefaultKeyPrefix) + "usage:{");
}

void test_percent_encode(void**) {
    std::string all;
    for (int byte = 0; byte < 256; ++byte) {
        all.push_back(static_cast<char>(byte));
    }
    std::string out(percent_encoded_bytes_max(all.size()), '#');
    out.resize(static_cast<std::size_t>(percent_encode(out.data(), all) - out.data()));
    assert_int_equal(out.size(), 66 + 3 * (256 - 66));
    assert_true(out.starts_with("%00%01%02%03%04%05%06%07%08%09%0A%0B%0C%0D"));
    assert_true(out.find("xyz%7B%7C%7D~%7F%80") != std::string::npos);
    assert_true(out.ends_with("%FD%FE%FF"));
    assert_true(out.find_first_of("{}: \r\n") == std::string::npos);
}

void test_more_key_names(void**) {
    assert_true(meta_key("headgate:") == "headgate:meta");
    assert_true(revoked_key("headgate:") == "headgate:revoked");
    assert_true(control_key("headgate:") == "headgate:control");
}

void test_idempotency_key_has_the_slot_of_its_stream_whatever_org_holds(void**) {
    const std::string digest = hex_encode(sha256(std::string_view("o\0k", 3)));
    assert_true(idempotency_key("headgate:", 0, "org", "o", "k") ==
                "headgate:{" + std::string(shard_tag(0)) + "}:idem:org:" + digest);
    std::set<std::string> keys;
    std::size_t made = 0;
    for (const std::string_view org :
         {"org", "{", "}", "{}", "{0}", "}{", "a:b", "a", "a:", ":", "o{1}:idem:x", "\xff "}) {
        for (const int shard : {0, 1, 7, 1023}) {
            for (const auto& [ordering_key, key] :
                 {std::pair("", "k"), {"k", ""}, {"a", "b"}, {"ab", ""}, {"", "ab"}, {"{", "}"}}) {
                const std::string name = idempotency_key("headgate:", shard, org, ordering_key, key);
                assert_int_equal(redis_slot(name), redis_slot(stream_key("headgate:", shard)));
                keys.insert(name);
                ++made;
            }
        }
    }
    assert_int_equal(keys.size(), made);
}

void test_shard_of_hashes_org_nul_key(void**) {
    assert_int_equal(shard_of("org", "key", 8), crc32c(std::string_view("org\0key", 7)) % 8);
    assert_int_equal(shard_of("", "", 1024), crc32c(std::string_view("\0", 1)) % 1024);
    assert_true(shard_of("org", "key", 1024) != shard_of("orgk", "ey", 1024));
    assert_int_equal(shard_of("org", "key", 1), 0);
    int counts[8] = {};
    for (int i = 0; i < 8'000; ++i) {
        ++counts[shard_of("org_1", "key" + std::to_string(i), 8)];
    }
    for (const int count : counts) {
        assert_in_range(count, 850, 1'150);
    }
}

void test_event_type_is_valid_table(void**) {
    for (const std::string_view type : {"a", "order.created", "A_b-c:d.9", "webhook", "webhooks.x", "my.webhook.x"}) {
        assert_true(event_type_is_valid(type));
    }
    for (const std::string_view type : {"", "webhook.", "webhook.disabled", "a b", "a/b", "a*", "\xc3\xbc", "a\n"}) {
        assert_false(event_type_is_valid(type));
    }
    assert_true(event_type_is_valid(std::string(128, 'a')));
    assert_false(event_type_is_valid(std::string(129, 'a')));
    assert_false(event_type_is_valid(std::string_view("a\0", 2)));
}

void test_has_control_characters_edges(void**) {
    assert_false(has_control_characters(""));
    assert_false(has_control_characters(" ~\x80\xff"));
    assert_true(has_control_characters("a\x1f"));
    assert_true(has_control_characters("\x7f"));
    assert_true(has_control_characters(std::string_view("\0", 1)));
}

// What only somebody else than the edge can have written: it would be signed and sent as JSON, and break the inbox.
void test_decode_event_payload_is_one_json_value(void**) {
    using namespace std::string_view_literals;
    std::string deep_object, too_deep;
    for (int i = 0; i < 63; ++i) deep_object += R"({"a":)";
    deep_object += "1" + std::string(63, '}');
    too_deep = R"({"a":)" + deep_object + "}";
    std::string many = "{";
    for (int i = 0; i < 2000; ++i) many += (i > 0 ? ",\"m" : "\"m") + std::to_string(i) + "\":1";
    many += "}";
    for (std::string_view good : {"{}"sv, " {\"a\": 1}\r\n"sv, "[1, 2]"sv, "\"text\""sv, "12"sv, "-0.5e3 "sv, "null"sv,
                                  "true"sv, R"({"a":1,"a":2,"payload":3,"type":4})"sv, "{\"a\":\"\\u0000 \xc3\xbc\"}"sv,
                                  std::string_view(deep_object), std::string_view(many)}) {
        assert_string_equal(refusal("payload", good).c_str(), "");
    }
    for (std::string_view bad : {"not json"sv,
                                 "{"sv,
                                 "{}{}"sv,
                                 "{} x"sv,
                                 R"({"a":1},"payload":{"b":2})"sv,
                                 R"({},"source":"x")"sv,
                                 "[1],[2]"sv,
                                 "1,2"sv,
                                 "12 13"sv,
                                 "{'a':1}"sv,
                                 "{\"a\":\"\xff\"}"sv,
                                 "{\"a\":\"\xc3\"}"sv,
                                 "{\"a\":\"\0\"}"sv,
                                 "{}\0"sv,
                                 "\xef\xbb\xbf{}"sv,
                                 "  "sv,
                                 R"({"a":"\ud800"})"sv,
                                 "nul"sv,
                                 "[1"sv,
                                 "\""sv,
                                 "}"sv,
                                 "01"sv,
                                 std::string_view(too_deep)}) {
        assert_string_equal(refusal("payload", bad).c_str(), "stream entry: field \"payload\" is not JSON");
    }
}

void test_decode_event_text_is_utf8(void**) {
    for (const char* name : {"org", "key", "source", "ord", "tp", "via"}) {
        for (const char* bad : {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80"}) {
            const std::string expected = "stream entry: field \"" + std::string(name) + "\" is not UTF-8";
            assert_string_equal(refusal(name, bad).c_str(), expected.c_str());
        }
        assert_string_equal(refusal(name, "\xc3\xbc").c_str(), "");
        assert_true(refusal(name, std::string_view("a\0b", 3)).ends_with("holds control characters"));
    }
    for (const char* name : {"source", "ord"}) {
        assert_true(refusal(name, "a\xc2\x9f").ends_with("holds control characters"));
        assert_string_equal(refusal(name, "a\xc2\xa0").c_str(), "");
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_event_valid_entry),
        cmocka_unit_test(test_decode_event_names_match_the_fields_order),
        cmocka_unit_test(test_decode_event_missing_and_doubled_named),
        cmocka_unit_test(test_decode_event_bad_values_named),
        cmocka_unit_test(test_decode_event_payload_is_one_json_value),
        cmocka_unit_test(test_decode_event_text_is_utf8),
        cmocka_unit_test(test_redis_slot_known_vectors),
        cmocka_unit_test(test_shard_tag_every_prefix_is_even),
        cmocka_unit_test(test_shard_tag_table_is_the_one_of_contract_1),
        cmocka_unit_test(test_key_names),
        cmocka_unit_test(test_percent_encode),
        cmocka_unit_test(test_more_key_names),
        cmocka_unit_test(test_idempotency_key_has_the_slot_of_its_stream_whatever_org_holds),
        cmocka_unit_test(test_shard_of_hashes_org_nul_key),
        cmocka_unit_test(test_event_type_is_valid_table),
        cmocka_unit_test(test_has_control_characters_edges),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
