// /api/deliveries: lists, one with its attempts, retry and cancel.
#include <boost/json.hpp>

#include "sidecar/api/call.h"
#include "sidecar/api/form.h"
#include "sidecar/api/json_body.h"
#include "sidecar/api/recovery_input.h"
#include "sidecar/api/recovery_json.h"
#include "sidecar/api/reply.h"
#include "sidecar/base/wall_clock.h"

namespace headgate {
namespace json = boost::json;
namespace {

// A webhook or event of another organization, or none, is kNotFound. A deleted webhook's deliveries are still listed.
struct ListDeliveries {
    std::string org;
    DeliveryQuery query;
    Result<std::vector<Delivery>> operator()(Store& store) const {
        auto found = store.list_deliveries(org, query);
        if (!found || !found->empty()) return found;
        if (!query.webhook_id.empty()) {
            auto webhook = store.get_webhook(org, query.webhook_id);
            if (!webhook && webhook.error().code == ErrorCode::kNotFound)
                return fail(ErrorCode::kNotFound, "There is no such webhook");
        }
        if (!query.event_id.empty()) {
            auto event = store.get_event(org, query.event_id);
            if (!event && event.error().code == ErrorCode::kNotFound)
                return fail(ErrorCode::kNotFound, "There is no such event");
        }
        return found;
    }
};
struct DeliveryWithAttempts {
    Delivery delivery;
    std::vector<AttemptRecord> attempts;
};
struct ReadDelivery {
    std::string org, id;
    Result<DeliveryWithAttempts> operator()(Store& store) const {
        auto delivery = store.get_delivery(org, id);
        if (!delivery) return tl::unexpected(delivery.error());
        auto attempts = store.attempts_of_delivery(org, id);
        if (!attempts) return tl::unexpected(attempts.error());
        return DeliveryWithAttempts{std::move(*delivery), std::move(*attempts)};
    }
};
struct RetryDelivery {
    std::string org, id;
    Result<Delivery> operator()(Store& store) const { return store.retry_delivery(org, id, wall_clock_ms()); }
};
struct CancelDelivery {
    std::string org, id;
    Result<Delivery> operator()(Store& store) const { return store.cancel_delivery(org, id, wall_clock_ms()); }
};

ServerResponse not_found_or(const Error& error) {
    if (error.code == ErrorCode::kNotFound) return problem_response(404, "There is no such delivery");
    return error_response(error);
}

template <typename Act>
boost::asio::awaitable<ServerResponse> by_hand(const ApiServices& services, Call call, std::string_view message) {
    auto body = read_optional_json_object(call.request);
    if (!body.refusal.body.empty()) co_return std::move(body.refusal);
    Act act{call.principal.org, call.params.at(0)};
    auto delivery = co_await services.writer.run(std::move(act));
    if (!delivery) co_return not_found_or(delivery.error());
    services.webhook_changed(delivery->webhook_id);  // and there may be something to send
    json::object data;
    data.emplace("delivery", delivery_json(*delivery));
    co_return envelope(200, data, message);
}

}  // namespace

boost::asio::awaitable<ServerResponse> list_deliveries(const ApiServices& services, Call call) {
    auto form = Form::parse(call.request.query);
    if (!form) co_return error_response(form.error());
    DeliveryListInput input = read_delivery_list(*form);
    if (!input.errors.empty()) co_return field_problem(input.errors);
    const auto limit = static_cast<std::size_t>(input.query.limit);
    ListDeliveries list{call.principal.org, std::move(input.query)};
    auto found = co_await services.reader.run(std::move(list));
    if (!found) co_return error_response(found.error());
    json::array deliveries;
    for (const auto& delivery : *found) deliveries.push_back(delivery_json(delivery));
    json::object data;
    data.emplace("deliveries", std::move(deliveries));
    data.emplace("next_cursor", cursor_json(found->size() < limit ? std::string() : found->back().id));
    co_return envelope(200, data);
}

boost::asio::awaitable<ServerResponse> get_delivery(const ApiServices& services, Call call) {
    ReadDelivery read{call.principal.org, call.params.at(0)};
    auto found = co_await services.reader.run(std::move(read));
    if (!found) co_return not_found_or(found.error());
    json::object data;
    data.emplace("delivery", delivery_json(found->delivery));
    data.emplace("attempts", attempts_json(found->attempts));
    co_return envelope(200, data);
}

boost::asio::awaitable<ServerResponse> list_attempts(const ApiServices& services, Call call) {
    ReadDelivery read{call.principal.org, call.params.at(0)};
    auto found = co_await services.reader.run(std::move(read));
    if (!found) co_return not_found_or(found.error());
    json::object data;
    data.emplace("attempts", attempts_json(found->attempts));
    co_return envelope(200, data);
}

boost::asio::awaitable<ServerResponse> retry_delivery(const ApiServices& services, Call call) {
    return by_hand<RetryDelivery>(services, std::move(call), "The delivery is due now");
}

boost::asio::awaitable<ServerResponse> cancel_delivery(const ApiServices& services, Call call) {
    return by_hand<CancelDelivery>(services, std::move(call), "The delivery is cancelled");
}

}  // namespace headgate
