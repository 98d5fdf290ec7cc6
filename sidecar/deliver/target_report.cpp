// The steps of explain-url; see target_report.h.
#include "sidecar/deliver/target_report.h"

#include <algorithm>
#include <memory>

namespace headgate {

namespace {

constexpr std::int64_t kLookupTimeoutMs = 5'000;

std::string text_of(const IpNetwork& network) {
    const bool is_v4 = network.base.is_v4() && network.prefix_bits >= 96;
    return network.base.to_string() + "/" + std::to_string(network.prefix_bits - (is_v4 ? 96 : 0));
}

class Report {
 public:
    explicit Report(const TargetReportInput& input) : input_(input) {}

    TargetReport make() {
        const auto target = parse_target_url(input_.url);
        if (!target) {
            add("form", false, target.error().message);
            return conclude(false, "refused: this is not a URL that anything is sent to");
        }
        const bool is_https = target->scheme == "https";
        add("form", true, target->host + (target->is_literal_address ? " is a literal address" : " is a host name"));
        add("scheme", is_https ? std::optional(true) : std::nullopt,
            is_https ? "https" : "http: only into networks that are allowed to the organization");
        const bool is_good_port = target->port == 80 || target->port == 443 || target->port >= 1024;
        add("port", is_good_port,
            std::to_string(target->port) +
                (is_good_port ? " is allowed" : " is refused: ports 80, 443 and from 1024 are allowed"));
        add_networks();
        if (input_.has_proxy) {
            add("proxy", std::nullopt,
                "the proxy of the configuration is asked to connect to an allowed address below");
        }
        const std::size_t allowed = add_addresses(*target, is_https);
        if (const auto written = input_.guard.check_url(input_.url, input_.org_networks); !written) {
            return conclude(false, "refused: " + written.error().message);
        }
        if (allowed == 0) {
            return conclude(false, "refused: no address of this host may be reached");
        }
        return conclude(true, allowed == addresses()
                                  ? "allowed"
                                  : "allowed, by the allowed addresses only: the others are passed over");
    }

 private:
    void add(std::string name, std::optional<bool> is_allowed, std::string detail) {
        report_.steps.push_back({std::move(name), is_allowed, std::move(detail)});
    }

    TargetReport conclude(bool is_allowed, std::string detail) {
        add("conclusion", is_allowed, std::move(detail));
        report_.is_allowed = is_allowed;
        return std::move(report_);
    }

    void add_networks() {
        std::string networks;
        for (const std::string& network : input_.org_networks) {
            networks += (networks.empty() ? "" : " ") + network;
        }
        add("networks", std::nullopt,
            networks.empty()  ? "the organization is allowed public addresses only"
            : networks == "*" ? "the organization is allowed the whole ceiling (*)"
                              : "the organization is allowed " + networks);
        std::string ceiling;
        for (const IpNetwork& network : input_.guard.ceiling()) {
            ceiling += " " + text_of(network);
        }
        add("ceiling", std::nullopt, "security.allow_networks is" + (ceiling.empty() ? " empty" : ceiling));
    }

    [[nodiscard]] std::size_t addresses() const {
        return input_.lookup == nullptr ? 0 : input_.lookup->addresses.size();
    }

    // How many are allowed.
    std::size_t add_addresses(const TargetUrl& target, bool is_https) {
        if (addresses() == 0) {
            add("address", false,
                target.host + " has no address: " +
                    (input_.lookup == nullptr ? std::string("not looked up") : input_.lookup->message));
            return 0;
        }
        std::size_t allowed = 0;
        for (const IpAddress& address : input_.lookup->addresses) {
            const bool is_allowed =
                input_.guard.check(address, target.port, is_https, input_.org_networks) == TargetVerdict::kAllowed;
            allowed += is_allowed ? 1 : 0;
            std::string why = input_.guard.explain(address, target.port, is_https, input_.org_networks);
            const std::string text = address.to_string();
            add("address", is_allowed, why.starts_with(text) ? why : text + ": " + why);
        }
        return allowed;
    }

    const TargetReportInput& input_;
    TargetReport report_;
};

}  // namespace

HttpRequest lookup_request(std::string url, const std::vector<std::string>& org_networks) {
    HttpRequest request;
    request.url = std::move(url);
    request.timeout_ms = kLookupTimeoutMs;
    request.org_networks = std::make_shared<const std::vector<std::string>>(org_networks);
    request.only_resolves = true;
    return request;
}

TargetReport explain_target(const TargetReportInput& input) { return Report(input).make(); }

}  // namespace headgate
