// What target_load.h declares.
#include "sidecar/deliver/target_load.h"

#include <algorithm>

namespace headgate {

namespace {

// Changes made by another process are seen within this time; for a delivery that was matched just
// now the generation tells of any change, so that its target is read again only for the sake of a rotation's end.
constexpr TimeMs kTargetAgeWaitedMs = 1'000;
constexpr TimeMs kTargetAgeFreshMs = 10'000;

}  // namespace

Result<LoadedTargets> LoadTargets::operator()(Store& store) const {
    LoadedTargets loaded;
    loaded.reserve(webhook_ids.size());
    for (const std::string& webhook_id : webhook_ids) {
        loaded.emplace_back(webhook_id, store.delivery_target(webhook_id));
    }
    return loaded;
}

LoadedTargets every_one_failed(const std::vector<std::string>& webhook_ids, const Error& error) {
    LoadedTargets failed;
    for (const std::string& webhook_id : webhook_ids) {
        failed.emplace_back(webhook_id, tl::unexpected<Error>(error));
    }
    return failed;
}

std::shared_ptr<DeliveryTarget> make_delivery_target(const Store::Target& found, TimeMs now) {
    auto target = std::make_shared<DeliveryTarget>();
    target->webhook = found.webhook;
    target->webhook.max_in_flight = std::max(found.webhook.max_in_flight, 1);
    target->keys = make_signing_keys(found.webhook);
    target->body = make_body_form(found.webhook);
    target->org_networks = std::make_shared<const std::vector<std::string>>(found.allow_networks);
    target->generation = found.generation;
    target->loaded_at = now;
    return target;
}

bool is_fresh(const DeliveryTarget& target, const HeldDelivery& delivery, TimeMs now) noexcept {
    const TimeMs age = now - target.loaded_at;
    const TimeMs age_max = delivery.attempts > 0 || delivery.has_waited ? kTargetAgeWaitedMs : kTargetAgeFreshMs;
    return target.generation >= delivery.generation && age >= 0 && age < age_max;
}

}  // namespace headgate
