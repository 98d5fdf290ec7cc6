// /api/webhooks/{id}: changes, rotation of secrets and key pairs; and the public keys for whoever verifies.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/json.hpp>

#include "common/limits.h"
#include "common/rfc3339.h"
#include "common/webhook_signature.h"
#include "sidecar/api/call.h"
#include "sidecar/api/json_body.h"
#include "sidecar/api/reply.h"
#include "sidecar/api/webhook_input.h"
#include "sidecar/api/webhook_json.h"
#include "sidecar/base/json_text.h"
#include "sidecar/base/wall_clock.h"

namespace headgate {
namespace json = boost::json;
namespace {

constexpr int kChangeTries = 3;  // of a change that names no version, when others change the webhook meanwhile

struct ReadForChange {
    std::string org, id;
    Result<std::pair<Webhook, Organization>> operator()(Store& store) const {
        auto webhook = store.get_webhook(org, id);
        if (!webhook) return tl::unexpected(webhook.error());
        auto found = store.get_org(org);
        if (!found) return tl::unexpected(found.error());
        return std::pair(std::move(*webhook), std::move(*found));
    }
};
struct WriteChange {
    Webhook webhook;
    std::int64_t version;
    Result<Webhook> operator()(Store& store) const { return store.update_webhook(webhook, version); }
};
struct AddSecret {
    std::string org, id;
    SecretInput input;
    Result<void> operator()(Store& store) const { return rotate_webhook_secret(store, org, id, input); }
};
struct FindTarget {
    std::string id;
    Result<Store::Target> operator()(Store& store) const { return store.delivery_target(id); }
};

ServerResponse not_found_or(const Error& error) {
    if (error.code == ErrorCode::kNotFound) return problem_response(404, "There is no such webhook");
    return error_response(error);
}

std::string etag_of(const Webhook& webhook) { return "\"" + std::to_string(webhook.version) + "\""; }

// RFC 9110, section 13.1.1; strong comparison, one tag.
bool is_other_version(const ServerRequest& request, const Webhook& webhook) {
    std::string_view wanted = request.header("if-match");
    return !wanted.empty() && wanted != "*" && wanted != etag_of(webhook);
}

ServerResponse shown(const Webhook& webhook, std::string_view message) {
    json::object data;
    data.emplace("webhook", webhook_json(webhook));
    auto response = envelope(200, data, message);
    response.headers.emplace_back("ETag", etag_of(webhook));
    return response;
}

}  // namespace

namespace {

boost::asio::awaitable<ServerResponse> change_webhook(const ApiServices& services, Call call, WebhookChange kind) {
    auto members = read_json_object(call.request);
    if (!members.refusal.body.empty()) co_return std::move(members.refusal);
    for (int tries = 1;; ++tries) {
        ReadForChange read{call.principal.org, call.params.at(0)};
        auto found = co_await services.writer.run(std::move(read));
        if (!found) co_return not_found_or(found.error());
        const auto& [before, org] = *found;
        if (is_other_version(call.request, before))
            co_return problem_response(412, "The webhook is not as If-Match says; read it again");
        WebhookInput input =
            read_webhook_change(members.object, before, org.allow_networks, services.guard, wall_clock_ms(), kind);
        if (!input.errors.empty()) co_return field_problem(input.errors);
        WriteChange write{std::move(input.webhook), before.version};
        auto changed = co_await services.writer.run(std::move(write));
        if (changed) {
            services.webhook_changed(changed->id);
            co_return shown(*changed, "Webhook updated successfully");
        }
        if (changed.error().code != ErrorCode::kConflict || tries == kChangeTries)
            co_return not_found_or(changed.error());
    }
}

}  // namespace

boost::asio::awaitable<ServerResponse> patch_webhook(const ApiServices& services, Call call) {
    return change_webhook(services, std::move(call), WebhookChange::kPatch);
}

boost::asio::awaitable<ServerResponse> put_webhook(const ApiServices& services, Call call) {
    return change_webhook(services, std::move(call), WebhookChange::kPut);
}

boost::asio::awaitable<ServerResponse> post_webhook_secret(const ApiServices& services, Call call) {
    auto members = read_optional_json_object(call.request);
    if (!members.refusal.body.empty()) co_return std::move(members.refusal);
    SecretInput input = read_new_secret(members.object, wall_clock_ms());
    if (!input.errors.empty()) co_return field_problem(input.errors);
    std::string id = call.params.at(0);
    AddSecret add{call.principal.org, id, input};
    auto added = co_await services.writer.run(std::move(add));
    if (!added) co_return not_found_or(added.error());
    services.webhook_changed(id);
    spdlog::info("webhook_secret_rotated webhook={} org={}", id, call.principal.org);
    json::object data;
    data.emplace("id", id);
    data.emplace("secret", webhook_secret_text(input.secret.key_bytes));
    data.emplace("others_valid_until", rfc3339_format(input.others_expire_at));
    auto response = envelope(200, data, "Secret rotated successfully");
    response.headers.emplace_back("Cache-Control", "no-store");  // it holds the secret
    co_return response;
}

boost::asio::awaitable<ServerResponse> post_webhook_key_pair(const ApiServices& services, Call call) {
    for (int tries = 1;; ++tries) {
        ReadForChange read{call.principal.org, call.params.at(0)};
        auto found = co_await services.writer.run(std::move(read));
        if (!found) co_return not_found_or(found.error());
        WriteChange write{found->first, found->first.version};
        if (write.webhook.ed25519_seed.empty())
            co_return problem_response(409, "The webhook has no key pair; PATCH it with sign_ed25519: true");
        write.webhook.ed25519_seed = make_ed25519_seed();
        write.webhook.updated_at = wall_clock_ms();
        auto changed = co_await services.writer.run(std::move(write));
        if (changed) {
            services.webhook_changed(changed->id);
            spdlog::info("webhook_key_pair_rotated webhook={} org={}", changed->id, call.principal.org);
            co_return shown(*changed, "Key pair rotated successfully");
        }
        if (changed.error().code != ErrorCode::kConflict || tries == kChangeTries)
            co_return not_found_or(changed.error());
    }
}

// For endpoints, which have no credential here. What is public may be seen by all; whether there is a webhook without a
// key pair may not.
boost::asio::awaitable<ServerResponse> get_webhook_jwks(const ApiServices& services, Call call) {
    FindTarget find{call.params.at(0)};
    auto found = co_await services.reader.run(std::move(find));
    if (!found && found.error().code != ErrorCode::kNotFound) co_return error_response(found.error());
    std::optional<json::object> keys;
    if (found && !found->is_deleted) keys = webhook_jwks_json(found->webhook);
    if (!keys) co_return problem_response(404, "There is nothing at this path");
    ServerResponse response{
        200, "application/jwk-set+json", {{"Cache-Control", "public, max-age=60"}}, json_text(*keys)};
    co_return response;
}

}  // namespace headgate
