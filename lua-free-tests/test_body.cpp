// links: headgate_deliver
#include <string>
#include <string_view>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/sample_order.h"
#include "sidecar/deliver/body.h"

using namespace headgate;

namespace {

constexpr std::string_view kForm = "application/x-www-form-urlencoded";
constexpr TimeMs kNow = kOrderTime;

BodyForm form_of(PayloadFormat format, bool is_form = false, std::string body_template = {}) {
    Webhook webhook;
    webhook.payload_format = format;
    webhook.body_template = std::move(body_template);
    if (is_form) {
        webhook.content_type = kForm;
    }
    return make_body_form(webhook);
}

void test_build_body_payload_bytes_untouched(void**) {
    const Event event = order();
    const std::string envelope = *build_body(event, form_of(PayloadFormat::kEnvelope));
    const std::string wanted_envelope =
        R"({"id":"018f0000-0000-7000-8000-000000000001","type":"order.created","created":1700000000,"data":{"object":)" +
        event.payload + R"(},"organization_id":"org_1","source":"shop \"A\""})";
    assert_string_equal(envelope.c_str(), wanted_envelope.c_str());
    const std::string standard = *build_body(event, form_of(PayloadFormat::kStandard));
    const std::string wanted_standard =
        R"({"type":"order.created","timestamp":"2023-11-14T22:13:20.123Z","data":)" + event.payload + "}";
    assert_string_equal(standard.c_str(), wanted_standard.c_str());
    assert_string_equal(build_body(event, form_of(PayloadFormat::kRaw))->c_str(), event.payload.c_str());
}

void test_build_body_form_is_percent_encoded(void**) {
    Event event = order();
    event.payload = "{\"a\":\"\xc3\xa4 &+=\"}";
    const std::string form = *build_body(event, form_of(PayloadFormat::kStandard, true));
    assert_true(form.starts_with("payload=%7B%22type%22%3A%22order.created%22"));
    assert_true(form.ends_with("%22a%22%3A%22%C3%A4%20%26%2B%3D%22%7D%7D"));
    assert_string_equal(build_body(event, form_of(PayloadFormat::kRaw, true))->c_str(),
                        "payload=%7B%22a%22%3A%22%C3%A4%20%26%2B%3D%22%7D");
}

void test_event_bodies_built_once_and_shared(void**) {
    EventBodies bodies(std::make_shared<const Event>(order()));
    const BodyForm envelope = form_of(PayloadFormat::kEnvelope);
    const auto first = *bodies.get(envelope);
    assert_ptr_equal(first.get(), bodies.get(envelope)->get());
    assert_ptr_not_equal(first.get(), bodies.get(form_of(PayloadFormat::kStandard))->get());
    assert_ptr_not_equal(first.get(), bodies.get(form_of(PayloadFormat::kEnvelope, true))->get());
}

void test_event_bodies_templates_not_mixed_up(void**) {
    EventBodies bodies(std::make_shared<const Event>(order()));
    const BodyForm one = form_of(PayloadFormat::kTemplate, false, R"({"a":"{{type}}"})");
    const BodyForm two = form_of(PayloadFormat::kTemplate, false, R"({"b":"{{type}}"})");
    auto first = *bodies.get(one);
    assert_string_equal(first->c_str(), R"({"a":"order.created"})");
    assert_string_equal((*bodies.get(two))->c_str(), R"({"b":"order.created"})");
    // Shared by webhooks with the same template, while somebody needs it.
    const BodyForm same = form_of(PayloadFormat::kTemplate, false, R"({"a":"{{type}}"})");
    assert_ptr_equal(first.get(), bodies.get(same)->get());
    const std::weak_ptr<const std::string> watched = first;
    first.reset();
    assert_true(watched.expired());
    assert_string_equal((*bodies.get(same))->c_str(), R"({"a":"order.created"})");
    // One that cannot be used fails for its own webhook only.
    const BodyForm broken = form_of(PayloadFormat::kTemplate, false, "{{nope}}");
    assert_false(bodies.get(broken).has_value());
    assert_true(bodies.get(one).has_value());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_build_body_payload_bytes_untouched),
        cmocka_unit_test(test_build_body_form_is_percent_encoded),
        cmocka_unit_test(test_event_bodies_built_once_and_shared),
        cmocka_unit_test(test_event_bodies_templates_not_mixed_up),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
