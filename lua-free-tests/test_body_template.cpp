// links: headgate_deliver
#include <boost/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "common/limits.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/deliver/body_template.h"
#include "sidecar/deliver/json_slices.h"

using namespace headgate;

namespace {

Event event_with(std::string payload) {
    Event event;
    event.id = "018f0000-0000-7000-8000-000000000001";
    event.org = "org_1";
    event.type = "order.created";
    event.source = "shop \"A\"\\";
    event.payload = std::move(payload);
    event.created_at = 1'700'000'000'123;
    return event;
}

const Event& order() {
    static const Event event = event_with(
        R"({"id": 12345678901234567890, "total":1.50, "paid" : true, "note":null, "text":"a \"b\"\\ \u00e9\n&",)"
        R"("customer":{"name":"Zo\u00eb","a b":1,"tags":["x", {"deep":[1,2]}]},"items":[{"sku":"A-1"},{"sku":"B=2"}],)"
        R"("\u006bey":"escaped","twice":{"a":1},"twice":{"b":2}})");
    return event;
}

std::string render(std::string text, BodySyntax syntax = BodySyntax::kJson, const Event& event = order()) {
    auto compiled = BodyTemplate::compile(std::move(text), syntax);
    if (!compiled) {
        return "refused: " + compiled.error().message;
    }
    auto body = compiled->render(event);
    return body ? *body : "failed: " + body.error().message;
}

struct Case {
    std::string_view text, wanted;
};

void check(std::initializer_list<Case> cases, BodySyntax syntax) {
    for (const Case& each : cases) {
        const std::string body = render(std::string(each.text), syntax);
        if (body != each.wanted) {
            print_error("%s\n  gave   %s\n  wanted %s\n", each.text.data(), body.c_str(), each.wanted.data());
        }
        assert_true(body == each.wanted);
    }
}

void test_render_json_values_as_they_came(void**) {
    check(
        {
            {R"({"a":{{payload.id}}})", R"({"a":12345678901234567890})"},
            {R"({"a":{{payload.total}},"b":{{ payload.paid }}})", R"({"a":1.50,"b":true})"},
            {R"({"a":{{payload.text}}})", R"({"a":"a \"b\"\\ \u00e9\n&"})"},
            {R"([{{payload.customer.tags}}])", R"([["x", {"deep":[1,2]}]])"},
            {R"({"a":{{payload.items.1.sku}},"b":{{payload.items.01.sku}}})", R"({"a":"B=2","b":null})"},
            {R"({"a":{{payload.key}}})", R"({"a":"escaped"})"},
            {R"({"a":{{payload.note}},"b":{{payload.absent}},"c":{{payload.id.x}},"d":{{payload.items.7}}})",
             R"({"a":null,"b":null,"c":null,"d":null})"},
            // Of members with one name the last counts, whole.
            {R"([{{payload.twice.a}},{{payload.twice.b}}])", R"([null,2])"},
            {R"([{{id}},{{created}},{{timestamp}},{{source}},{{organization_id}},{{ordering_key}}])",
             R"(["018f0000-0000-7000-8000-000000000001",1700000000,"2023-11-14T22:13:20.123Z","shop \"A\"\\","org_1",null])"},
            {R"({{payload.items}})", R"([{"sku":"A-1"},{"sku":"B=2"}])"},
            {R"({"no":"placeholders"})", R"({"no":"placeholders"})"},
        },
        BodySyntax::kJson);
    assert_true(render("{{payload}}") == order().payload);
}

void test_render_json_strings_are_escaped(void**) {
    check(
        {
            {R"({"a":"{{payload.text}}!"})", R"({"a":"a \"b\"\\ \u00e9\n&!"})"},
            {R"({"a":"{{payload.id}}/{{payload.total}}/{{payload.paid}}"})",
             R"({"a":"12345678901234567890/1.50/true"})"},
            {R"({"a":"[{{payload.note}}{{payload.absent}}{{ordering_key}}]"})", R"({"a":"[]"})"},
            {R"({"a":"{{payload.customer.tags}}"})", R"({"a":"[\"x\", {\"deep\":[1,2]}]"})"},
            {R"({"{{payload.customer.name}}":"{{source}}"})", R"({"Zo\u00eb":"shop \"A\"\\"})"},
            {R"({"a":"\"{{type}}\\","b":{{created}}})", R"({"a":"\"order.created\\","b":1700000000})"},
        },
        BodySyntax::kJson);
}

void test_render_form_is_percent_encoded(void**) {
    check(
        {
            {"a={{payload.text}}&b={{payload.items.1.sku}}", "a=a%20%22b%22%5C%20%C3%A9%0A%26&b=B%3D2"},
            {"a={{payload.note}}&b={{payload.absent}}&c=%20x", "a=&b=&c=%20x"},
            {"{{type}}={{payload.customer.tags}}", "order.created=%5B%22x%22%2C%20%7B%22deep%22%3A%5B1%2C2%5D%7D%5D"},
            {"t={{created}}&s={{source}}", "t=1700000000&s=shop%20%22A%22%5C"},
        },
        BodySyntax::kForm);
}

void test_compile_refuses_with_the_position(void**) {
    check(
        {
            {"", "refused: empty"},
            {R"({"a":{{#payload}}1{{/payload}}})",
             "refused: line 1, column 6: only {{name}} is known: no sections, partials, comments or unescaped values"},
            {R"({"a":{{{payload}}}})",
             "refused: line 1, column 6: only {{name}} is known: no sections, partials, comments or unescaped values"},
            {"{\n \"a\": \"{{payloda.x}}\"}",
             "refused: line 2, column 8: there is no \"payloda\"; the nearest known name is payload"},
            {R"({"a":"{{type.x}}"})", "refused: line 1, column 7: type has no members"},
            {R"({"a":"{{payload..x}}"})",
             "refused: line 1, column 7: a placeholder is {{name}} or {{payload.path.to.field}}"},
            {R"({"a":"{{}}"})", "refused: line 1, column 7: a placeholder is {{name}} or {{payload.path.to.field}}"},
            {R"({"a":"{{a b}}"})", "refused: line 1, column 7: a placeholder is {{name}} or {{payload.path.to.field}}"},
            {R"({"a":"{{payload"})", "refused: line 1, column 7: {{ without }}"},
        },
        BodySyntax::kJson);
    check(
        {
            {"a=b c", "refused: line 1, column 4: a form has this character percent-encoded only"},
            {"a=%{{created}}", "refused: line 1, column 3: a form has this character percent-encoded only"},
            {"a=%4{{created}}", "refused: line 1, column 3: a form has this character percent-encoded only"},
            {"a={{type}}\r\nX: y", "refused: line 1, column 11: a form has this character percent-encoded only"},
        },
        BodySyntax::kForm);
}

void test_compile_refuses_what_could_become_no_json(void**) {
    for (const std::string_view text :
         {"hello {{type}}", R"({"a":{{type}}{{type}}})", R"({"a":1{{created}}})", R"({"a":-{{created}}})",
          R"({"a":{{created}}0})", R"({"a":{{created}}.5})", R"({{{created}}:1})", R"({ {{type}}:1})",
          R"({"a":"\{{type}}"})", R"({"a":"\u00{{created}}"})", R"({"a":"{{type}})", R"({"a":"\ud83d{{type}}"})",
          "{\"a\":\"\xc3{{type}}\xa4\"}", "[{{type}}]x", R"({"a":tru{{type}}})", "{\"a\":\"\n{{type}}\"}"}) {
        const std::string body = render(std::string(text));
        if (!body.starts_with("refused: ")) {
            print_error("%s\n  gave %s\n", text.data(), body.c_str());
        }
        assert_true(body.starts_with("refused: line 1, column ") || body.find("line 2") != std::string::npos);
    }
    // The position is the template's, not the sample's.
    const std::string refused = render(R"({"a":"{{payload.customer.name}}", "b":oops})");
    assert_string_equal(refused.substr(0, refused.find(": not")).c_str(), "refused: line 1, column 39");
}

void test_bounds(void**) {
    const auto with_placeholders = [](std::size_t count) {
        std::string text = "[0";
        for (std::size_t i = 0; i < count; ++i) {
            text += ",{{payload.f" + std::to_string(i) + "}}";
        }
        return text + "]";
    };
    assert_true(render(with_placeholders(limits::kBodyTemplatePlaceholdersMax)).starts_with("[0,null,"));
    assert_true(render(with_placeholders(limits::kBodyTemplatePlaceholdersMax + 1)).find("200 placeholders") !=
                std::string::npos);
    std::string text = "\"" + std::string(limits::kBodyTemplateBytesMax - 2, 'x') + "\"";
    assert_true(render(text) == text);
    assert_true(render(text + " ") == "refused: longer than 16384 bytes");
    assert_true(render(R"({"a":"{{payload.)" + std::string(300, 'x') + R"(}}"})").find("path") != std::string::npos);
    // 200 times 10 KB is too much; 100 times is not.
    const Event large = event_with(R"({"f":")" + std::string(10'000, 'x') + R"("})");
    const auto times = [](int count) {
        std::string repeated = "[0";
        for (int i = 0; i < count; ++i) {
            repeated += ",{{payload.f}}";
        }
        return repeated + "]";
    };
    assert_int_equal(render(times(100), BodySyntax::kJson, large).size(), 3 + 100 * 10'003);
    assert_true(render(times(200), BodySyntax::kJson, large) ==
                "failed: the template's body is longer than 1048576 bytes");
}

void test_render_payload_that_is_no_json_fails(void**) {
    for (const std::string_view payload :
         {"", "{", "{\"a\":1", "{\"a\":1}x", "{\"a\":01}", "{\"a\":\"\n\"}", "{\"a\":\"\\x\"}", "{\"a\":\"\\u12g4\"}",
          "{a:1}", "{\"a\":nul}", "[1,]", "{\"a\":1,}", "{\"a\":.5}", "{\"a\":1.}", "{\"a\":1e}", "\"abc", "\"\\",
          "\"\\u1"}) {
        const std::string body = render(R"({"a":{{payload.a}}})", BodySyntax::kJson, event_with(std::string(payload)));
        if (!body.starts_with("failed: ")) {
            print_error("%s\n", payload.data());
        }
        assert_true(body.starts_with("failed: "));
    }
    const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
    assert_true(render("{{payload.a}}", BodySyntax::kJson, event_with(deep)).starts_with("failed: "));
}

void test_decode_json_string(void**) {
    assert_true(decode_json_string(R"(a\"\\\/\b\f\n\r\t)") == "a\"\\/\b\f\n\r\t");
    assert_true(decode_json_string(R"(\u0041\u00e9\u20ac\ud83d\ude00)") == "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    assert_true(decode_json_string(R"(\ud83dx\ude00\ud83d\u0041)") ==
                "\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd"
                "A");
    for (const std::string_view cut : {"\\", "\\u", "\\u12", "\\ud83d\\u", "\\ud83d\\ude"}) {
        (void)decode_json_string(cut);  // whatever it gives, nothing outside of it is read
    }
}

// ---- whatever comes -------------------------------------------------------------------------

class Dice {
 public:
    explicit Dice(unsigned seed) : random_(seed) {}
    std::size_t below(std::size_t count) { return random_() % count; }
    std::string_view one_of(std::initializer_list<std::string_view> choices) {
        return choices.begin()[below(choices.size())];
    }

 private:
    std::minstd_rand random_;
};

std::string random_string(Dice& dice) {
    std::string text = "\"";
    for (std::size_t i = dice.below(6); i > 0; --i) {
        text +=
            dice.one_of({"a", "\\\"", "\\\\", "\\u0000", "\\ud83d\\ude00", "{{", "}}", "&", "%", "\xc3\xa9", "\\n"});
    }
    return text + "\"";
}

std::string random_json(Dice& dice, int depth) {
    if (depth == 0 || dice.below(3) == 0) {
        return dice.below(2) == 0 ? random_string(dice)
                                  : std::string(dice.one_of({"null", "true", "0", "-1.5e+3", "12345678901234567890"}));
    }
    const bool is_object = dice.below(2) == 0;
    std::string text = is_object ? "{" : "[";
    for (std::size_t i = dice.below(4); i > 0; --i) {
        if (text.size() > 1) {
            text += dice.one_of({",", " , "});
        }
        if (is_object) {
            text += dice.one_of({"\"a\"", "\"b\"", "\"\\u0061\"", "\"c\""});
            text += dice.one_of({":", " : "});
        }
        text += random_json(dice, depth - 1);
    }
    return text + (is_object ? "}" : "]");
}

// Random pieces: what compiles gives JSON for every payload, and what is in a form is that form's text again.
void test_random_templates_give_json_or_are_refused(void**) {
    Dice dice(1);
    std::size_t compiled_count = 0;
    for (int round = 0; round < 20'000; ++round) {
        std::string text;
        for (std::size_t i = 1 + dice.below(9); i > 0; --i) {
            text += dice.one_of({"{\"k\":",
                                 "}",
                                 "[",
                                 "]",
                                 ",",
                                 "\"",
                                 "\"",
                                 "{{payload}}",
                                 "{{payload.a}}",
                                 "{{payload.a.0.b}}",
                                 "{{source}}",
                                 "{{created}}",
                                 "{{ordering_key}}",
                                 "\\",
                                 "\\u",
                                 "1",
                                 "x",
                                 " ",
                                 "{{",
                                 "}}",
                                 "\xc3",
                                 "\xa9",
                                 "null",
                                 ":",
                                 "\n"});
        }
        auto compiled = BodyTemplate::compile(text, BodySyntax::kJson);
        if (!compiled) {
            continue;
        }
        ++compiled_count;
        for (int each = 0; each < 5; ++each) {
            const Event event = event_with(random_json(dice, 4));
            auto body = compiled->render(event);
            assert_true(body.has_value());
            boost::system::error_code error;
            boost::json::parse_options options;
            options.max_depth = 128;
            boost::json::parse(*body, error, {}, options);
            if (error) {
                print_error("%s\nwith %s\ngave %s\n", text.c_str(), event.payload.c_str(), body->c_str());
            }
            assert_false(error.failed());
        }
    }
    assert_true(compiled_count > 500);
}

// The slices against a parser that builds the whole tree.
void test_random_payloads_slices_agree_with_a_parser(void**) {
    Dice dice(2);
    JsonPaths paths;
    const std::vector<std::vector<std::string_view>> wanted = {{},         {"a"},           {"a", "b"},
                                                               {"a", "0"}, {"b", "1", "a"}, {"0"}};
    for (const auto& path : wanted) {
        paths.add(path);
    }
    assert_int_equal(paths.add(wanted[2]), 2);
    assert_int_equal(paths.size(), wanted.size());
    std::size_t found_count = 0;
    for (int round = 0; round < 20'000; ++round) {
        const std::string text = random_json(dice, 4);
        std::vector<std::string_view> slices;
        assert_true(paths.find(text, slices));
        const boost::json::value whole = boost::json::parse(text);
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            const boost::json::value* at = &whole;
            for (const std::string_view segment : wanted[i]) {
                if (at != nullptr && at->is_object()) {
                    at = at->get_object().if_contains(segment);
                } else if (at != nullptr && at->is_array() && segment[0] >= '0' && segment[0] <= '9') {
                    at = at->get_array().if_contains(static_cast<std::size_t>(segment[0] - '0'));
                } else {
                    at = nullptr;
                }
            }
            assert_true((at == nullptr) == slices[i].empty());
            if (at != nullptr) {
                ++found_count;
                assert_true(boost::json::parse(slices[i]) == *at);
            }
        }
        // Broken anywhere: told, never read beyond.
        std::string broken = text.substr(0, dice.below(text.size() + 1));
        broken += dice.one_of({"", "\\", "\"", "}", "\x01"});
        boost::system::error_code error;
        boost::json::parse(broken, error);
        std::vector<char> exact(broken.begin(), broken.end());  // so that a sanitizer sees its end
        const bool is_found = paths.find({exact.data(), exact.size()}, slices);
        // The parser also refuses halves of characters and of surrogate pairs, which a cut may leave.
        const bool may_differ = broken.find('\xc3') != std::string::npos || broken.find("\\ud8") != std::string::npos;
        assert_true(is_found == !error.failed() || (is_found && may_differ));
    }
    assert_true(found_count > 20'000);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_render_json_values_as_they_came),
        cmocka_unit_test(test_render_json_strings_are_escaped),
        cmocka_unit_test(test_render_form_is_percent_encoded),
        cmocka_unit_test(test_compile_refuses_with_the_position),
        cmocka_unit_test(test_compile_refuses_what_could_become_no_json),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_render_payload_that_is_no_json_fails),
        cmocka_unit_test(test_decode_json_string),
        cmocka_unit_test(test_random_templates_give_json_or_are_refused),
        cmocka_unit_test(test_random_payloads_slices_agree_with_a_parser),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
