// The index behind SubscriptionMatcher. Exact types are one hash lookup; `a.b.*` is one lookup for
// each dot of the event's type; `*` is a list. Only webhooks found there have their filter evaluated.
#include "sidecar/match/subscriptions.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/json.hpp>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "common/limits.h"
#include "sidecar/base/json_read.h"
#include "sidecar/match/event_pattern.h"
#include "sidecar/match/filter.h"

namespace headgate {

namespace {

struct StringHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
};
template <typename Value>
using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

struct Subscriber {
    std::string webhook_id;
    bool ordered = false;
    bool is_active = true;
    Filter filter;
};

using SubscriberList = std::vector<std::uint32_t>;  // indexes, ascending

struct OrgIndex {
    std::int64_t generation = 0;
    std::uint64_t used_at = 0;
    std::vector<Subscriber> subscribers;
    StringMap<SubscriberList> exact, prefix;
    SubscriberList all;
};

void add_pattern(OrgIndex& index, EventPattern pattern, std::uint32_t subscriber) {
    SubscriberList* list = &index.all;
    if (pattern.kind != EventPattern::Kind::kAll) {
        auto& map = pattern.kind == EventPattern::Kind::kExact ? index.exact : index.prefix;
        list = &map[std::move(pattern.text)];
    }
    if (list->empty() || list->back() != subscriber) {
        list->push_back(subscriber);
    }
}

// The payload, parsed when the first filter asks for it.
class LazyPayload {
 public:
    explicit LazyPayload(std::string_view bytes) : bytes_(bytes) {}
    const boost::json::value* get(MatchCounters& counters) {
        if (!is_parsed_) {
            is_parsed_ = true;
            boost::system::error_code error;
            boost::json::value value = read_json(bytes_, limits::kJsonDepthMax, error, &arena_);
            if (error) {
                ++counters.payload_errors;
            } else {
                value_.emplace(std::move(value));
            }
        }
        return value_ ? &*value_ : nullptr;
    }

 private:
    std::string_view bytes_;
    boost::json::monotonic_resource arena_;
    std::optional<boost::json::value> value_;
    bool is_parsed_ = false;
};

}  // namespace

struct Subscriptions::Impl {
    std::size_t orgs_max;
    std::uint64_t clock = 0;
    StringMap<OrgIndex> orgs;
    std::vector<std::uint32_t> candidates;  // of the event being matched; kept for its capacity
    MatchCounters counters;

    void forget_oldest() {
        const auto oldest = std::min_element(
            orgs.begin(), orgs.end(), [](const auto& a, const auto& b) { return a.second.used_at < b.second.used_at; });
        orgs.erase(oldest);
    }

    void collect(const OrgIndex& index, std::string_view type, bool is_operational) {
        candidates.clear();
        std::size_t lists = 0;
        const auto add = [&](const SubscriberList& list) {
            lists += list.empty() ? 0 : 1;
            candidates.insert(candidates.end(), list.begin(), list.end());
        };
        if (const auto found = index.exact.find(type); found != index.exact.end()) {
            add(found->second);
        }
        if (is_operational) {
            return;
        }
        add(index.all);
        if (!index.prefix.empty()) {
            // The last character cannot end a prefix: at least one more segment must follow.
            for (std::size_t dot = type.find('.'); dot != std::string_view::npos && dot + 1 < type.size();
                 dot = type.find('.', dot + 1)) {
                if (const auto found = index.prefix.find(type.substr(0, dot + 1)); found != index.prefix.end()) {
                    add(found->second);
                }
            }
        }
        if (lists > 1) {
            std::sort(candidates.begin(), candidates.end());
            candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
        }
    }
};

Subscriptions::Subscriptions(std::size_t orgs_max) : impl_(std::make_unique<Impl>()) {
    impl_->orgs_max = std::max<std::size_t>(orgs_max, 1);
}

Subscriptions::~Subscriptions() = default;

bool Subscriptions::is_current(std::string_view org, std::int64_t generation) const {
    const auto found = impl_->orgs.find(org);
    return found != impl_->orgs.end() && found->second.generation == generation;
}

void Subscriptions::load(std::string_view org, std::int64_t generation, std::vector<Webhook> webhooks) {
    OrgIndex index;
    index.generation = generation;
    index.used_at = ++impl_->clock;
    for (Webhook& webhook : webhooks) {
        auto filter = Filter::compile(webhook.filters);
        if (!filter) {
            ++impl_->counters.invalid_filters;
            spdlog::warn("match.invalid_filter webhook={} org={} error=\"{}\"", webhook.id, org,
                         filter.error().message);
            continue;
        }
        const auto subscriber = static_cast<std::uint32_t>(index.subscribers.size());
        index.subscribers.push_back(
            {std::move(webhook.id), webhook.ordering == "key", webhook.is_active, std::move(*filter)});
        for (const std::string& text : webhook.events) {
            auto pattern = parse_event_pattern(text);
            if (!pattern) {
                spdlog::warn("match.invalid_pattern webhook={} org={} error=\"{}\"",
                             index.subscribers.back().webhook_id, org, pattern.error().message);
                continue;
            }
            add_pattern(index, std::move(*pattern), subscriber);
        }
    }
    if (impl_->orgs.size() >= impl_->orgs_max && !impl_->orgs.contains(org)) {
        impl_->forget_oldest();
    }
    impl_->orgs.insert_or_assign(std::string(org), std::move(index));
}

void Subscriptions::match(const EventRecord& event, std::vector<Match>& out) {
    const auto found = impl_->orgs.find(event.org);
    if (found == impl_->orgs.end()) {
        return;
    }
    OrgIndex& index = found->second;
    index.used_at = ++impl_->clock;
    impl_->collect(index, event.type, event.via == "system");
    LazyPayload payload(event.payload);
    for (const std::uint32_t candidate : impl_->candidates) {
        const Subscriber& subscriber = index.subscribers[candidate];
        if (!subscriber.is_active) {
            out.push_back({subscriber.webhook_id, subscriber.ordered, Verdict::kDisabled});
            continue;
        }
        if (!subscriber.filter.matches_everything()) {
            const boost::json::value* value = payload.get(impl_->counters);
            if (value == nullptr || !subscriber.filter.matches(*value)) {
                ++impl_->counters.filtered;
                out.push_back({subscriber.webhook_id, subscriber.ordered, Verdict::kFiltered});
                continue;
            }
        }
        ++impl_->counters.matched;
        out.push_back({subscriber.webhook_id, subscriber.ordered, Verdict::kWanted});
    }
}

const MatchCounters& Subscriptions::counters() const noexcept { return impl_->counters; }

}  // namespace headgate
