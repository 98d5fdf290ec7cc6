// Webhooks as the dispatcher needs them: read from the store, made ready for sending, and fresh enough or not. Next
// file: lanes.h, which keeps them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sidecar/deliver/lanes.h"

namespace headgate {

using LoadedTargets = std::vector<std::pair<std::string, Result<Store::Target>>>;

// On the DB thread.
struct LoadTargets {
    std::vector<std::string> webhook_ids;
    Result<LoadedTargets> operator()(Store& store) const;
};
[[nodiscard]] LoadedTargets every_one_failed(const std::vector<std::string>& webhook_ids, const Error& error);

// Its age counts from `now`, not from when it was asked for: behind a slow store it would be too old again on
// arrival, for ever.
[[nodiscard]] std::shared_ptr<DeliveryTarget> make_delivery_target(const Store::Target& found, TimeMs now);

[[nodiscard]] bool is_fresh(const DeliveryTarget& target, const HeldDelivery& delivery, TimeMs now) noexcept;

}  // namespace headgate
