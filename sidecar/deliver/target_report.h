// Why a URL may or may not be reached, step by step, for explain-url: on the command line and in the API. The steps
// ask the same guard as a delivery does; what they say is what a delivery would meet. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/deliver/http_client.h"
#include "sidecar/deliver/target_guard.h"

namespace headgate {

struct TargetStep {
    std::string name;                // form | scheme | port | networks | ceiling | proxy | address | conclusion
    std::optional<bool> is_allowed;  // nullopt: neither, it only informs
    std::string detail;
};

struct TargetReport {
    std::vector<TargetStep> steps;  // the last one is the conclusion
    bool is_allowed = false;
};

struct TargetReportInput {
    const TargetGuard& guard;
    std::string_view url;
    const std::vector<std::string>& org_networks;
    bool has_proxy = false;
    const HttpResponse* lookup = nullptr;  // of lookup_request(); null: not looked up, because the URL is no URL
};

// Its response goes into the report. `url` has passed parse_target_url().
[[nodiscard]] HttpRequest lookup_request(std::string url, const std::vector<std::string>& org_networks);

[[nodiscard]] TargetReport explain_target(const TargetReportInput& input);

}  // namespace headgate
