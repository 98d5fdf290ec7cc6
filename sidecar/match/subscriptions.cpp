// The index behind SubscriptionMatcher. Exact types are one hash lookup; `a.b.*` is one lookup for
// each dot of the event's type; `*` is a list. Only webhooks found there have their filter evaluated. Those that do not
// want an event are not looked at one by one: events are counted by type, and so is how often a filter did match.
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
#include "sidecar/match/filter_set.h"

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

// Who has one pattern.
struct Subscribed {
    SubscriberList everyone;
    SubscriberList unfiltered;  // of the active ones
    FilterSet filtered;
    bool has_disabled = false;
};

struct OrgIndex {
    std::int64_t generation = 0;
    std::uint64_t used_at = 0;
    std::vector<Subscriber> subscribers;
    FilterFields fields;
    StringMap<Subscribed> exact, prefix;
    Subscribed all;
};

void add_pattern(OrgIndex& index, EventPattern pattern, std::uint32_t place) {
    Subscribed* list = &index.all;
    if (pattern.kind != EventPattern::Kind::kAll) {
        auto& map = pattern.kind == EventPattern::Kind::kExact ? index.exact : index.prefix;
        list = &map[std::move(pattern.text)];
    }
    if (!list->everyone.empty() && list->everyone.back() == place) {
        return;
    }
    const Subscriber& subscriber = index.subscribers[place];
    list->everyone.push_back(place);
    if (!subscriber.is_active) {
        list->has_disabled = true;
    } else if (subscriber.filter.matches_everything()) {
        list->unfiltered.push_back(place);
    } else {
        list->filtered.add(place, subscriber.filter);
    }
}

template <typename Each>
void for_each_pattern(OrgIndex& index, std::string_view type, bool is_operational, const Each& each) {
    if (const auto found = index.exact.find(type); found != index.exact.end()) {
        each(found->second);
    }
    if (is_operational) {
        return;
    }
    each(index.all);
    if (index.prefix.empty()) {
        return;
    }
    // The last character cannot end a prefix: at least one more segment must follow.
    for (std::size_t dot = type.find('.'); dot != std::string_view::npos && dot + 1 < type.size();
         dot = type.find('.', dot + 1)) {
        if (const auto found = index.prefix.find(type.substr(0, dot + 1)); found != index.prefix.end()) {
            each(found->second);
        }
    }
}

// Events of one type in one hour, while the subscriptions were these.
struct Tally {
    std::shared_ptr<OrgIndex> index;
    std::string type;
    bool is_operational = false;
    TimeMs hour_at = 0;
    std::int64_t events = 0;
    std::unordered_map<std::uint32_t, std::int64_t> wanted;  // of those with a filter
};
constexpr std::size_t kTalliesMax = 65'536;
constexpr TimeMs kHourMs = 3'600'000;

// One event of a transaction that has not ended.
struct Noted {
    std::shared_ptr<OrgIndex> index;
    std::string type;
    bool is_operational = false;
    SubscriberList wanted;
};

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
    StringMap<std::shared_ptr<OrgIndex>> orgs;
    std::vector<std::uint32_t> candidates;  // of the event being matched; kept for its capacity
    FilterValues values;                    // likewise
    std::vector<Noted> noted;
    std::unordered_map<std::string, Tally> tallies;
    MatchCounters counters;

    void forget_oldest() {
        const auto oldest = std::min_element(orgs.begin(), orgs.end(), [](const auto& a, const auto& b) {
            return a.second->used_at < b.second->used_at;
        });
        orgs.erase(oldest);
    }

    void collect(OrgIndex& index, std::string_view type, bool is_operational) {
        candidates.clear();
        std::size_t lists = 0;
        for_each_pattern(index, type, is_operational, [&](const Subscribed& subscribed) {
            lists += subscribed.everyone.empty() ? 0 : 1;
            candidates.insert(candidates.end(), subscribed.everyone.begin(), subscribed.everyone.end());
        });
        if (lists > 1) {
            unite(candidates);
        }
    }

    static void unite(SubscriberList& list) {
        std::sort(list.begin(), list.end());
        list.erase(std::unique(list.begin(), list.end()), list.end());
    }

    void count(Noted& event, TimeMs hour_at) {
        std::string key(reinterpret_cast<const char*>(&hour_at), sizeof hour_at);
        const OrgIndex* index = event.index.get();
        key.append(reinterpret_cast<const char*>(&index), sizeof index);
        key.append(event.is_operational ? "!" : "").append(event.type);
        auto found = tallies.find(key);
        if (found == tallies.end()) {
            if (tallies.size() >= kTalliesMax) {
                return;
            }
            found = tallies.try_emplace(std::move(key)).first;
            found->second = {std::move(event.index), std::move(event.type), event.is_operational, hour_at, 0, {}};
        }
        found->second.events++;
        for (const std::uint32_t place : event.wanted) {
            found->second.wanted[place]++;
        }
    }
};

Subscriptions::Subscriptions(std::size_t orgs_max) : impl_(std::make_unique<Impl>()) {
    impl_->orgs_max = std::max<std::size_t>(orgs_max, 1);
}

Subscriptions::~Subscriptions() = default;

bool Subscriptions::is_current(std::string_view org, std::int64_t generation) const {
    const auto found = impl_->orgs.find(org);
    return found != impl_->orgs.end() && found->second->generation == generation;
}

void Subscriptions::load(std::string_view org, std::int64_t generation, std::vector<Webhook> webhooks) {
    auto made = std::make_shared<OrgIndex>();
    OrgIndex& index = *made;
    index.generation = generation;
    index.used_at = ++impl_->clock;
    for (Webhook& webhook : webhooks) {
        auto filter = Filter::compile(webhook.filters, index.fields);
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
    impl_->orgs.insert_or_assign(std::string(org), std::move(made));
}

void Subscriptions::match(const EventRecord& event, std::vector<Match>& out) {
    const auto found = impl_->orgs.find(event.org);
    if (found == impl_->orgs.end()) {
        return;
    }
    OrgIndex& index = *found->second;
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

Subscriptions::Unwanted Subscriptions::match_wanted(const EventRecord& event, std::vector<Match>& out) {
    Unwanted unwanted;
    const auto found = impl_->orgs.find(event.org);
    if (found == impl_->orgs.end()) {
        return unwanted;
    }
    OrgIndex& index = *found->second;
    index.used_at = ++impl_->clock;
    const bool is_operational = event.via == "system";
    LazyPayload payload(event.payload);
    const boost::json::value* value = nullptr;
    SubscriberList& wanted = impl_->candidates;
    wanted.clear();
    SubscriberList matching;  // of the filtered ones
    std::size_t filters = 0, lists = 0;
    for_each_pattern(index, event.type, is_operational, [&](Subscribed& subscribed) {
        lists += subscribed.everyone.empty() ? 0 : 1;
        wanted.insert(wanted.end(), subscribed.unfiltered.begin(), subscribed.unfiltered.end());
        unwanted.has_disabled = unwanted.has_disabled || subscribed.has_disabled;
        if (subscribed.filtered.size() == 0) {
            return;
        }
        if (filters == 0) {
            value = payload.get(impl_->counters);
            if (value != nullptr && value->is_object()) {
                impl_->values.begin(*value, index.fields.size());
            } else {
                value = nullptr;
            }
        }
        filters += subscribed.filtered.size();
        if (value != nullptr) {
            subscribed.filtered.match(impl_->values, matching);
        }
    });
    unwanted.has_filtered = matching.size() < filters;
    impl_->counters.filtered += filters - matching.size();
    wanted.insert(wanted.end(), matching.begin(), matching.end());
    if (lists > 1 || !matching.empty()) {
        Impl::unite(wanted);
    }
    impl_->counters.matched += wanted.size();
    for (const std::uint32_t place : wanted) {
        const Subscriber& subscriber = index.subscribers[place];
        out.push_back({subscriber.webhook_id, subscriber.ordered, Verdict::kWanted});
    }
    if (unwanted.has_filtered || unwanted.has_disabled) {
        if (lists > 1) {
            Impl::unite(matching);
        }
        impl_->noted.push_back({found->second, std::string(event.type), is_operational, std::move(matching)});
    }
    return unwanted;
}

void Subscriptions::settle(bool is_committed, TimeMs now) {
    if (is_committed) {
        for (Noted& event : impl_->noted) {
            impl_->count(event, now - now % kHourMs);
        }
    }
    impl_->noted.clear();
}

std::vector<UnwantedCount> Subscriptions::take_unwanted() {
    std::vector<UnwantedCount> counts;
    for (auto& [key, tally] : impl_->tallies) {
        impl_->collect(*tally.index, tally.type, tally.is_operational);
        for (const std::uint32_t place : impl_->candidates) {
            const Subscriber& subscriber = tally.index->subscribers[place];
            UnwantedCount count{subscriber.webhook_id, tally.type, tally.hour_at, 0, 0};
            if (!subscriber.is_active) {
                count.disabled = tally.events;
            } else if (!subscriber.filter.matches_everything()) {
                const auto wanted = tally.wanted.find(place);
                count.filtered = tally.events - (wanted == tally.wanted.end() ? 0 : wanted->second);
            }
            if (count.disabled + count.filtered > 0) {
                counts.push_back(std::move(count));
            }
        }
    }
    impl_->tallies.clear();
    return counts;
}

const MatchCounters& Subscriptions::counters() const noexcept { return impl_->counters; }

}  // namespace headgate
