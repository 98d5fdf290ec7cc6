// Store conformance: what integrators and operators see of the schema, with SQL of their own. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"
#include "lua-free-tests/store_conformance_delivery.h"

namespace headgate::conformance {

inline bool is_refused(World& world, const std::string& sql) {
    try {
        return world.factory->run_sql(sql).starts_with("error:");
    } catch (const std::runtime_error&) {
        return true;
    }
}

// One value from all columns, in this order; a column that is missing is an error.
inline std::string joined(World& world, const std::string& view, const std::vector<std::string>& columns,
                          const std::string& condition) {
    std::string expression;
    for (const std::string& column : columns) {
        expression += expression.empty() ? "" : " || '|' || ";
        expression += column.starts_with("is_")
                          ? "CASE WHEN CAST(" + column + " AS INTEGER) = 1 THEN 'yes' ELSE 'no' END"
                          : "coalesce(CAST(" + column + " AS TEXT), '-')";
    }
    return world.factory->run_sql("SELECT " + expression + " FROM " + view + " WHERE " + condition);
}

inline void test_view_webhook_deliveries_has_a_row_for_each_attempt(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    AttemptRecord first = world.attempt(one.delivery, AttemptOutcome::kRetry);
    first.error_message = "said no";
    AttemptRecord second = world.attempt(one.delivery, AttemptOutcome::kSuccess, 2);
    second.next_attempt_at = 0;
    World::require(record(world, first) == kOk);
    World::require(!world.claim(kNow + 60'000, 10, 10).empty() && record(world, second) == kOk);
    const std::vector<std::string> columns = {
        "webhook_id",           "event_type",       "event_id",      "payload",      "request_headers", "attempted_at",
        "response_status_code", "response_headers", "response_body", "completed_at", "duration_ms",     "status",
        "error_message",        "is_retry",         "retry_number",
    };
    const std::string seconds = std::to_string(kNow / 1000);
    const std::string head =
        "wh-1|order.created|" + one.event.id + "|" + one.event.payload + R"(|{"X":"1"}|)" + seconds + "|";
    assert_string_equal(joined(world, "webhook_deliveries", columns, "retry_number = 0").c_str(),
                        (head + R"(503|{"Y":"2"}|the answer|)" + seconds + "|20|failed|said no|no|0").c_str());
    assert_string_equal(joined(world, "webhook_deliveries", columns, "retry_number = 1").c_str(),
                        (head + R"(200|{"Y":"2"}|the answer|)" + seconds + "|20|success|-|yes|1").c_str());
    assert_string_equal(joined(world, "webhook_deliveries", {"next_retry_at"}, "retry_number = 0").c_str(),
                        std::to_string((kNow + 60'000) / 1000).c_str());
    assert_string_equal(world.factory->run_sql("SELECT count(DISTINCT id) FROM webhook_deliveries").c_str(), "2");
}

inline void test_view_webhook_settings_is_in_seconds(void** state) {
    World& world = world_of(state);
    Webhook webhook = world.sample_webhook("wh-1");
    webhook.retry.retry_delay_ms = 7000;
    World::require(world.store->create_webhook(webhook).has_value());
    world.add_webhook("wh-2");
    World::require(world.store->delete_webhook("org-a", "wh-2", kNow).has_value());
    const std::vector<std::string> columns = {
        "id",
        "organization_id",
        "name",
        "url",
        "events",
        "event_filters",
        "content_type",
        "timeout_seconds",
        "retry_count",
        "retry_delay_seconds",
        "is_active",
        "last_triggered_at",
        "total_deliveries",
        "failed_deliveries",
        "created_at",
        "updated_at",
    };
    const std::string seconds = std::to_string(kNow / 1000);
    assert_string_equal(joined(world, "webhook_settings", columns, "1 = 1").c_str(),
                        (R"(wh-1|org-a|to wh-1|https://example.com/wh-1|["order.created"]|{"min_amount": 1}|)"
                         "application/json|12|3|7|yes|-|0|0|" +
                         seconds + "|" + seconds)
                            .c_str());
    assert_string_equal(world.factory->run_sql("SELECT count(*) FROM webhook_settings").c_str(), "1");
}

inline std::string integration(const std::string& id, const std::string& type, const std::string& user = "NULL") {
    return "INSERT INTO integrations (id, organization_id, user_id, integration_type, name, created_at, updated_at)"
           " VALUES ('" +
           id + "', 'org-a', " + user + ", '" + type + "', 'n', 0, 0)";
}

// A UNIQUE constraint alone would take every NULL user for another one.
inline void test_integrations_are_unique_also_without_a_user(void** state) {
    World& world = world_of(state);
    (void)world.factory->run_sql(
        "INSERT INTO users (id, organization_id, email, created_at, updated_at)"
        " VALUES ('u1', 'org-a', 'a@b.example', 0, 0), ('u2', 'org-a', 'c@b.example', 0, 0)");
    assert_false(is_refused(world, integration("1", "slack")));
    assert_true(is_refused(world, integration("2", "slack")));
    assert_false(is_refused(world, integration("3", "zoom")));
    assert_false(is_refused(world, integration("4", "slack", "'u1'")));
    assert_true(is_refused(world, integration("5", "slack", "'u1'")));
    assert_false(is_refused(world, integration("6", "slack", "'u2'")));
    (void)world.factory->run_sql("UPDATE integrations SET deleted_at = 1");
    assert_false(is_refused(world, integration("7", "slack")));
    assert_false(is_refused(world, integration("8", "slack", "'u1'")));
}

inline void test_integrations_are_of_known_types(void** state) {
    World& world = world_of(state);
    int id = 0;
    for (const char* type : {"google_calendar", "outlook_calendar", "zoom", "teams", "slack", "discord", "hubspot",
                             "salesforce", "mailchimp"}) {
        assert_false(is_refused(world, integration(std::to_string(id++), type)));
    }
    for (const char* type : {"crm", "", "Slack", "slack "}) {
        assert_true(is_refused(world, integration(std::to_string(id++), type)));
    }
    // What refers to an integration goes with it.
    assert_false(
        is_refused(world,
                   "INSERT INTO integration_sync_logs (id, integration_id, sync_type, direction, started_at, status)"
                   " VALUES ('s', '0', 'full', 'import', 1, 'running')"));
    assert_true(
        is_refused(world,
                   "INSERT INTO integration_sync_logs (id, integration_id, sync_type, direction, started_at, status)"
                   " VALUES ('t', 'nobody', 'half', 'import', 1, 'running')"));
}

inline std::vector<CMUnitTest> schema_tests() {
    return {
        WORLD_TEST(test_view_webhook_deliveries_has_a_row_for_each_attempt),
        WORLD_TEST(test_view_webhook_settings_is_in_seconds),
        WORLD_TEST(test_integrations_are_unique_also_without_a_user),
        WORLD_TEST(test_integrations_are_of_known_types),
    };
}

}  // namespace headgate::conformance
