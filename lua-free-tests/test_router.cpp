// links: headgate_api
// Routing, forms and the parts of authentication that need no store.
#include <string>

#include "sidecar/api/authenticate.h"
#include "sidecar/api/form.h"
#include "sidecar/api/router.h"

// cmocka needs these before it; its macro `fail` must come after everything of ours.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}
// clang-format on

namespace {

using headgate::Credential;
using headgate::ServerRequest;

headgate::RouteMatch find(std::string_view method, std::string_view path) {
    return headgate::find_route(headgate::api_routes(), method, path);
}

void test_find_route_takes_both_slash_forms(void**) {
    for (const char* path : {"/api/webhooks", "/api/webhooks/"}) {
        const auto* route = find("POST", path).route;
        assert_non_null(route);
        assert_true(route->scope == "webhooks:write");
    }
    assert_null(find("GET", "/api/webhooks//").route);
    assert_null(find("GET", "//api/webhooks").route);
}

void test_find_route_decodes_params(void**) {
    std::string id, inbox_id;
    {
        auto match = find("GET", "/api/webhooks/a%2Fb/");
        if (match.route != nullptr) id = match.params.at(0);
        auto ack = find("POST", "/inbox/x/ack/");
        if (ack.route != nullptr) inbox_id = ack.params.at(0);
    }
    assert_string_equal(id.c_str(), "a/b");
    assert_string_equal(inbox_id.c_str(), "x");
    assert_null(find("GET", "/api/webhooks/%zz").route);
    assert_null(find("POST", "/inbox//ack").route);
}

void test_find_route_wrong_method_lists_allowed(void**) {
    std::string allow, token_allow, unknown_allow;
    {
        allow = find("PATCH", "/api/webhooks").allow;
        token_allow = find("GET", "/token").allow;
        unknown_allow = find("GET", "/nope").allow;
    }
    assert_string_equal(allow.c_str(), "GET, HEAD, POST");
    assert_string_equal(token_allow.c_str(), "POST");
    assert_string_equal(unknown_allow.c_str(), "");
    assert_non_null(find("HEAD", "/health").route);
}

void test_every_protected_route_asks_for_a_scope(void**) {
    for (const auto& route : headgate::api_routes())
        assert_int_equal(!route.scope.empty(), headgate::path_is_protected(route.pattern));
    assert_true(headgate::path_is_protected("/api"));
    assert_false(headgate::path_is_protected("/apix"));
}

void test_form_decodes_and_refuses(void**) {
    std::string value;
    bool repeated = false, bad = true, limit_ok = false, limit_bad = true;
    {
        auto form = headgate::Form::parse("a=1+2%2B3&b&c=%C3%A9&limit=200&over=201");
        if (form) {
            value = form->value("a");
            repeated = form->has_repeated_member();
            limit_ok = form->integer("limit", 0, 1, 200).has_value();
            limit_bad = form->integer("over", 0, 1, 200).has_value();
        }
        bad = headgate::Form::parse("a=%4").has_value();
    }
    assert_string_equal(value.c_str(), "1 2+3");
    assert_false(repeated);
    assert_false(bad);
    assert_true(limit_ok);
    assert_false(limit_bad);
}

ServerRequest with(headgate::ServerHeaders headers, std::string peer = "127.0.0.1") {
    ServerRequest request;
    request.headers = std::move(headers);
    request.peer = std::move(peer);
    return request;
}

Credential::Kind kind(headgate::ServerHeaders headers) {
    auto request = with(std::move(headers));
    return headgate::find_credential(request).kind;
}

void test_find_credential_kinds(void**) {
    assert_true(kind({}) == Credential::Kind::kNone);
    assert_true(kind({{"authorization", "Basic abc"}}) == Credential::Kind::kNone);
    assert_true(kind({{"authorization", "bEARER abc"}}) == Credential::Kind::kJwt);
    assert_true(kind({{"authorization", "Bearer hg_abc"}}) == Credential::Kind::kApiKey);
    assert_true(kind({{"x-api-key", "hg_abc"}}) == Credential::Kind::kApiKey);
    assert_true(kind({{"x-api-key", "a"}, {"authorization", "Bearer b"}}) == Credential::Kind::kAmbiguous);
    assert_true(kind({{"authorization", "Bearer a"}, {"authorization", "Bearer b"}}) == Credential::Kind::kAmbiguous);
    assert_true(kind({{"x-api-key", "a"}, {"x-api-key", "a"}}) == Credential::Kind::kAmbiguous);
}

std::string client(const ServerRequest& request) {
    auto address = headgate::client_address(request, {*headgate::parse_network("127.0.0.0/8")});
    return address ? address->to_string() : "none";
}

void test_client_address_believes_trusted_proxies_only(void**) {
    struct Case {
        const char *peer, *forwarded, *expected;
    };
    // The last entry before our own proxies counts; what a client wrote further left does not.
    const Case cases[] = {
        {"127.0.0.1", "192.0.2.7", "192.0.2.7"},
        {"127.0.0.1", "10.9.9.9, 192.0.2.7, 127.0.0.2", "192.0.2.7"},
        {"198.51.100.1", "192.0.2.7", "198.51.100.1"},
        {"127.0.0.1", nullptr, "127.0.0.1"},
        {"", "2001:db8::1", "2001:db8::1"},
        {"", nullptr, "none"},
        {"127.0.0.1", "unknown", "none"},
        {"127.0.0.1", "192.0.2.7, evil", "none"},
    };
    for (const auto& c : cases) {
        std::string found;
        {
            headgate::ServerHeaders headers;
            if (c.forwarded != nullptr) headers.emplace_back("x-forwarded-for", c.forwarded);
            found = client(with(std::move(headers), c.peer));
        }
        assert_string_equal(found.c_str(), c.expected);
    }
}

void test_probe_limits_are_for_each_organization(void**) {
    headgate::ProbeLimits limits;
    bool other_enters = false, full = false, refused = false, again = false;
    {
        std::vector<headgate::ProbeLimits::Place> places;
        for (std::size_t i = 0; i < headgate::ProbeLimits::kPerOrgMax; ++i) places.push_back(limits.enter("a"));
        refused = !limits.enter("a");
        other_enters = static_cast<bool>(limits.enter("b"));
        places.pop_back();
        again = static_cast<bool>(limits.enter("a"));
        while (places.size() < headgate::ProbeLimits::kMax)
            places.push_back(limits.enter(std::to_string(places.size())));
        full = !limits.enter("late");
    }
    assert_true(refused);
    assert_true(other_enters);
    assert_true(again);
    assert_true(full);
    assert_true(static_cast<bool>(limits.enter("late")));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_find_route_takes_both_slash_forms),
        cmocka_unit_test(test_find_route_decodes_params),
        cmocka_unit_test(test_find_route_wrong_method_lists_allowed),
        cmocka_unit_test(test_every_protected_route_asks_for_a_scope),
        cmocka_unit_test(test_form_decodes_and_refuses),
        cmocka_unit_test(test_find_credential_kinds),
        cmocka_unit_test(test_client_address_believes_trusted_proxies_only),
        cmocka_unit_test(test_probe_limits_are_for_each_organization),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
