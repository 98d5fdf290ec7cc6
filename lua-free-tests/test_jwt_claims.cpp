#include <string>
#include <string_view>
#include <vector>

#include "common/limits.h"
#include "lua-free-tests/jwt_fixture.h"  // last

using namespace headgate;
using namespace headgate::jwt_fixture;

namespace {

void test_verify_jwt_all_claims_are_read(void**) {
    const auto result = verify(token_of(
        R"({"alg":"HS256","typ":"JWT","kid":")" + kKid + "\"}",
        payload_with(R"("scope":"events:write inbox:read","plan":"pro","key":"key_1","jti":"j1","iat":1699999999.9,)"
                     R"("nbf":1700000000,"aud":"x","allowed_ips":["10.0.0.0/8","::1"],"scp":["admin"])")));
    assert_status(result.status, JwtStatus::kOk);
    assert_true(result.claims.iss == "headgate" && result.claims.sub == "api" && result.claims.org == "org_1");
    assert_true(result.claims.scope == "events:write inbox:read" && result.claims.plan == "pro");
    assert_true(result.claims.key_id == "key_1" && result.claims.jti == "j1" && result.claims.kid == kKid);
    assert_true(result.claims.allowed_ips == "10.0.0.0/8 ::1");
    assert_int_equal(result.claims.exp_seconds, 1'700'003'600);
    assert_int_equal(result.claims.iat_seconds, 1'699'999'999);
}

void test_verify_jwt_times_table(void**) {
    const auto with_exp = [](std::string_view exp) {
        return R"({"iss":"headgate","sub":"api","org":"org_1","exp":)" + std::string(exp) + "}";
    };
    const struct {
        std::string payload;
        JwtStatus status;
    } table[] = {
        {with_exp("1700000000"), JwtStatus::kExpired},
        {with_exp("1700000000.999"), JwtStatus::kExpired},
        {with_exp("1700000001"), JwtStatus::kOk},
        {with_exp("1700000001.5"), JwtStatus::kOk},
        {with_exp("1.7000000015e9"), JwtStatus::kOk},
        {with_exp("0"), JwtStatus::kExpired},
        {with_exp("9007199254740991"), JwtStatus::kOk},
        {with_exp("9007199254740992"), JwtStatus::kBadClaim},
        {with_exp("9007199254740993"), JwtStatus::kBadClaim},
        {with_exp("9223372036854775807"), JwtStatus::kBadClaim},
        {with_exp("99999999999999999999"), JwtStatus::kBadClaim},
        {with_exp("1e30"), JwtStatus::kBadClaim},
        {with_exp("-1"), JwtStatus::kBadClaim},
        {with_exp("-0.5"), JwtStatus::kBadClaim},
        {with_exp("\"1700003600\""), JwtStatus::kBadClaim},
        {with_exp("true"), JwtStatus::kBadClaim},
        {with_exp("null"), JwtStatus::kBadClaim},
        {with_exp("[1700003600]"), JwtStatus::kBadClaim},
        {R"({"iss":"headgate","sub":"api","org":"org_1"})", JwtStatus::kMissingClaim},
        {payload_with(R"("nbf":1700000000)"), JwtStatus::kOk},
        {payload_with(R"("nbf":1700000000.9)"), JwtStatus::kOk},
        {payload_with(R"("nbf":1700000001)"), JwtStatus::kNotYetValid},
        {payload_with(R"("nbf":"1")"), JwtStatus::kBadClaim},
        {payload_with(R"("nbf":false)"), JwtStatus::kBadClaim},
        {payload_with(R"("nbf":-1)"), JwtStatus::kBadClaim},
        {payload_with(R"("nbf":1e30)"), JwtStatus::kBadClaim},
        {payload_with(R"("iat":1700000030)"), JwtStatus::kOk},
        {payload_with(R"("iat":1700000031)"), JwtStatus::kNotYetValid},
        {payload_with(R"("iat":null)"), JwtStatus::kBadClaim},
        {payload_with(R"("iat":1e30)"), JwtStatus::kBadClaim},
    };
    for (const auto& row : table) {
        assert_status(status_of_payload(row.payload), row.status);
    }
}

void test_verify_jwt_leeway(void**) {
    JwtPolicy policy;
    policy.leeway_seconds = 60;
    const auto with_exp = [](std::int64_t exp) {
        return R"({"iss":"headgate","sub":"api","org":"org_1","exp":)" + std::to_string(exp) + "}";
    };
    assert_status(status_of_payload(with_exp(kNow - 59), policy), JwtStatus::kOk);
    assert_status(status_of_payload(with_exp(kNow - 60), policy), JwtStatus::kExpired);
    assert_status(status_of_payload(payload_with(R"("nbf":1700000060)"), policy), JwtStatus::kOk);
    assert_status(status_of_payload(payload_with(R"("nbf":1700000061)"), policy), JwtStatus::kNotYetValid);
    assert_status(status_of_payload(payload_with(R"("iat":1700000060)"), policy), JwtStatus::kOk);
    assert_status(status_of_payload(payload_with(R"("iat":1700000061)"), policy), JwtStatus::kNotYetValid);
    // No leeway overflows.
    policy.leeway_seconds = INT64_MAX;
    assert_status(status_of_payload(with_exp(9'007'199'254'740'991), policy), JwtStatus::kOk);
    policy.leeway_seconds = INT64_MIN;
    assert_status(status_of_payload(with_exp(kNow), policy), JwtStatus::kExpired);
}

void test_verify_jwt_claims_table(void**) {
    const auto payload_of = [](std::string_view iss, std::string_view sub, std::string_view org) {
        std::string payload = "{";
        payload.append(iss).append(sub).append(org).append(R"("exp":1700003600})");
        return payload;
    };
    constexpr std::string_view kIss = R"("iss":"headgate",)", kSub = R"("sub":"api",)", kOrg = R"("org":"o",)";
    const std::string org_max(limits::kOrgIdBytesMax, 'o'), text_max(kClaimBytesMax, 't');
    const struct {
        std::string payload;
        JwtStatus status;
        std::string_view claim;
    } table[] = {
        {payload_of(kIss, kSub, kOrg), JwtStatus::kOk, ""},
        {payload_of("", kSub, kOrg), JwtStatus::kMissingClaim, "iss"},
        {payload_of(kIss, "", kOrg), JwtStatus::kMissingClaim, "sub"},
        {payload_of(kIss, kSub, ""), JwtStatus::kMissingClaim, "org"},
        {payload_of(R"("iss":"",)", kSub, kOrg), JwtStatus::kBadClaim, "iss"},
        {payload_of(R"("iss":["headgate"],)", kSub, kOrg), JwtStatus::kBadClaim, "iss"},
        {payload_of(R"("iss":"Headgate",)", kSub, kOrg), JwtStatus::kBadIssuer, ""},
        {payload_of(R"("iss":"headgate/",)", kSub, kOrg), JwtStatus::kBadIssuer, ""},
        {payload_of(R"("iss":"headgat",)", kSub, kOrg), JwtStatus::kBadIssuer, ""},
        {payload_of(R"("iss":" headgate",)", kSub, kOrg), JwtStatus::kBadIssuer, ""},
        {payload_of(kIss, R"("sub":"",)", kOrg), JwtStatus::kBadClaim, "sub"},
        {payload_of(kIss, R"("sub":1,)", kOrg), JwtStatus::kBadClaim, "sub"},
        {payload_of(kIss, R"("sub":"a\nb",)", kOrg), JwtStatus::kBadClaim, "sub"},
        {payload_of(kIss, kSub, R"("org":"",)"), JwtStatus::kBadClaim, "org"},
        {payload_of(kIss, kSub, R"("org":null,)"), JwtStatus::kBadClaim, "org"},
        {payload_of(kIss, kSub, R"("org":"a\r\nb",)"), JwtStatus::kBadClaim, "org"},
        {payload_of(kIss, kSub, R"("org":")" + org_max + "\","), JwtStatus::kOk, ""},
        {payload_of(kIss, kSub, R"("org":")" + org_max + "o\","), JwtStatus::kBadClaim, "org"},
        {payload_of(kIss, R"("sub":")" + text_max + "\",", kOrg), JwtStatus::kOk, ""},
        {payload_of(kIss, R"("sub":")" + text_max + "t\",", kOrg), JwtStatus::kBadClaim, "sub"},
        {payload_with(R"("scope":["admin"])"), JwtStatus::kBadClaim, "scope"},
        {payload_with(R"("scope":"a\tb")"), JwtStatus::kBadClaim, "scope"},
        {payload_with(R"("scope":")" + std::string(limits::kScopeBytesMax + 1, 's') + "\""), JwtStatus::kBadClaim,
         "scope"},
        {payload_with(R"("plan":1)"), JwtStatus::kBadClaim, "plan"},
        {payload_with(R"("plan":null)"), JwtStatus::kBadClaim, "plan"},
        {payload_with(R"("key":{})"), JwtStatus::kBadClaim, "key"},
        {payload_with(R"("jti":1)"), JwtStatus::kBadClaim, "jti"},
        {payload_with(R"("allowed_ips":{})"), JwtStatus::kBadClaim, "allowed_ips"},
        {payload_with(R"("allowed_ips":null)"), JwtStatus::kBadClaim, "allowed_ips"},
        {payload_with(R"("allowed_ips":[1])"), JwtStatus::kBadClaim, "allowed_ips"},
        {payload_with(R"("allowed_ips":["10.0.0.1/8"])"), JwtStatus::kBadClaim, "allowed_ips"},
        {payload_with(R"("allowed_ips":["10.0.0.1 10.0.0.2"])"), JwtStatus::kBadClaim, "allowed_ips"},
        {payload_with(R"("allowed_ips":"10.0.0.1,10.0.0.2")"), JwtStatus::kBadClaim, "allowed_ips"},
        {payload_with(R"("allowed_ips":"10.0.0.1 10.0.0.2")"), JwtStatus::kOk, ""},
        {payload_with(R"("allowed_ips":[])"), JwtStatus::kOk, ""},
    };
    for (const auto& row : table) {
        const auto result = verify(token_of(kHeader, row.payload));
        assert_status(result.status, row.status);
        const std::string claim(result.claim), expected(row.claim);
        assert_string_equal(claim.c_str(), expected.c_str());
        assert_true(result.status == JwtStatus::kOk || (result.claims.org.empty() && result.claims.scope.empty()));
    }
}

std::string repeated(std::string_view item, std::size_t times) {
    std::string list;
    for (std::size_t i = 0; i < times; ++i) {
        list.append(i == 0 ? "" : " ").append(item);
    }
    return list;
}

void test_verify_jwt_lists_at_and_over_their_limits(void**) {
    const auto status = [](std::string_view member, const std::string& list) {
        return status_of_payload(payload_with("\"" + std::string(member) + "\":\"" + list + "\""));
    };
    assert_status(status("scope", repeated("a:b", limits::kScopesMax)), JwtStatus::kOk);
    assert_status(status("scope", repeated("a:b", limits::kScopesMax + 1)), JwtStatus::kBadClaim);
    assert_status(status("allowed_ips", repeated("::1", limits::kAllowedIpsMax)), JwtStatus::kOk);
    assert_status(status("allowed_ips", repeated("::1", limits::kAllowedIpsMax + 1)), JwtStatus::kBadClaim);
}

void test_verify_jwt_audience_table(void**) {
    JwtPolicy policy;
    policy.audiences = {"edge", "other"};
    assert_status(status_of_payload(payload_with(R"("aud":"edge")"), policy), JwtStatus::kOk);
    assert_status(status_of_payload(payload_with(R"("aud":["x","other"])"), policy), JwtStatus::kOk);
    for (const std::string_view aud :
         {R"("aud":"Edge")", R"("aud":"edge other")", R"("aud":"")", R"("aud":[])", R"("aud":["x"])", R"("x":1)"}) {
        assert_status(status_of_payload(payload_with(aud), policy), JwtStatus::kBadAudience);
    }
    for (const std::string_view aud : {R"("aud":{})", R"("aud":1)", R"("aud":null)", R"("aud":["edge",1])"}) {
        assert_status(status_of_payload(payload_with(aud), policy), JwtStatus::kBadClaim);
        assert_status(status_of_payload(payload_with(aud)), JwtStatus::kBadClaim);
    }
    assert_status(status_of_payload(payload_with(R"("aud":"anything")")), JwtStatus::kOk);
}

void test_verify_jwt_scope_stays_under_the_ceiling(void**) {
    JwtSource source = source_of(kSecret);
    source.scope_ceiling = "events:* inbox:read";
    const auto scope = [&source](std::string_view granted) {
        const auto result = verify_jwt(token_of(kHeader, payload_with(granted)), {&source}, {}, kNow);
        return result.status == JwtStatus::kOk ? result.claims.scope : "refused";
    };
    assert_true(scope(R"("scope":"events:write keys:write")") == "events:write");
    assert_true(scope(R"("scope":"admin")") == "events:* inbox:read");
    assert_true(scope(R"("scp":"events:write")").empty());
    assert_true(scope(R"("scope":"")").empty());
}

void test_verify_jwt_org_fixed_or_from_another_claim(void**) {
    JwtSource source = source_of(kSecret);
    source.org_fixed = "fixed";
    const std::string token =
        token_of(kHeader, R"({"iss":"headgate","sub":"api","tenant":"t1","org":"o1","exp":1700003600})");
    assert_true(verify_jwt(token, {&source}, {}, kNow).claims.org == "fixed");
    source.org_fixed.clear();
    source.org_claim = "tenant";
    assert_true(verify_jwt(token, {&source}, {}, kNow).claims.org == "t1");
    source.org_claim = "nowhere";
    const auto result = verify_jwt(token, {&source}, {}, kNow);
    assert_status(result.status, JwtStatus::kMissingClaim);
    assert_true(result.claim == "org");
}

void test_verify_jwt_each_source_serves_its_issuer_only(void**) {
    const std::string other_secret(64, 'b');
    const JwtSource own = source_of(kSecret), foreign = source_of(other_secret, "https://idp.example"),
                    twin = source_of(kSecret, "twin");
    const auto status = [](const std::vector<const JwtSource*>& sources, std::string_view iss,
                           std::string_view secret) {
        const std::string payload = R"({"iss":")" + std::string(iss) + R"(","sub":"api","org":"o","exp":1700003600})";
        return verify_jwt(token_of(kHeader, payload, secret), sources, {}, kNow).status;
    };
    assert_status(status({&own, &foreign}, "headgate", kSecret), JwtStatus::kOk);
    assert_status(status({&own, &foreign}, "https://idp.example", other_secret), JwtStatus::kOk);
    assert_status(status({&own, &foreign}, "headgate", other_secret), JwtStatus::kBadIssuer);
    assert_status(status({&own, &foreign}, "https://idp.example", kSecret), JwtStatus::kBadIssuer);
    // One key for two issuers: each name finds its source, whichever comes first.
    assert_status(status({&own, &twin}, "twin", kSecret), JwtStatus::kOk);
    assert_status(status({&twin, &own}, "twin", kSecret), JwtStatus::kOk);
    assert_status(status({&twin, &own}, "third", kSecret), JwtStatus::kBadIssuer);
    assert_status(status({}, "headgate", kSecret), JwtStatus::kAlgorithm);
}

// A foreign issuer's word is good for its organization's tokens, and no more: not for whose key a request is counted
// as.
void test_verify_jwt_a_key_is_named_by_our_own_issuer_only(void**) {
    const JwtSource own = source_of(kSecret), foreign = source_of(kSecret, "https://idp.example");
    const auto key_id = [&](std::string_view iss, std::string_view key) {
        const auto result =
            verify_jwt(token_of(kHeader, R"({"iss":")" + std::string(iss) + R"(","sub":"s","org":"o","key":)" +
                                             std::string(key) + R"(,"exp":1700003600})"),
                       {&own, &foreign}, {}, kNow);
        assert_status(result.status, JwtStatus::kOk);
        return result.claims.key_id;
    };
    assert_true(key_id("headgate", R"("key_1")") == "key_1");
    assert_true(key_id("https://idp.example", R"("key_1")").empty());
    assert_true(key_id("https://idp.example", "{}").empty());  // a name that means something else there
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_verify_jwt_all_claims_are_read),
        cmocka_unit_test(test_verify_jwt_times_table),
        cmocka_unit_test(test_verify_jwt_leeway),
        cmocka_unit_test(test_verify_jwt_claims_table),
        cmocka_unit_test(test_verify_jwt_lists_at_and_over_their_limits),
        cmocka_unit_test(test_verify_jwt_audience_table),
        cmocka_unit_test(test_verify_jwt_scope_stays_under_the_ceiling),
        cmocka_unit_test(test_verify_jwt_org_fixed_or_from_another_claim),
        cmocka_unit_test(test_verify_jwt_a_key_is_named_by_our_own_issuer_only),
        cmocka_unit_test(test_verify_jwt_each_source_serves_its_issuer_only),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
