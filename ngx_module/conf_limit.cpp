// Directives of rate limits: parse, merge, check.
#include "ngx_module/conf_limit.h"

#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

char* parse_plan(ngx_conf_t* cf, MainConf* conf) {
    auto plan = std::make_unique<RatePlan>();
    std::string rates;
    plan->name = view(arguments(cf)[0]);
    for (ngx_str_t& argument : arguments(cf).subspan(1)) {
        const auto rate = parameter(argument, "rate");
        if (!rate) {
            return conf_fail(cf, "unknown parameter \"%V\"", &argument);
        }
        rates.append(rates.empty() ? "" : "+").append(*rate);
    }
    if (conf->find_plan(plan->name) != nullptr) {
        return conf_fail(cf, "headgate_plan \"%s\" is already defined", plan->name.c_str());
    }
    auto windows = parse_rate_plan(rates);
    if (!windows) {
        return conf_fail(cf, "%s", windows.error().message.c_str());
    }
    plan->windows = std::make_unique<LimitWindows>(kPlanBucket, std::move(*windows));
    conf->plans.push_back(std::move(plan));
    return kConfOk;
}

char* parse_limit(ngx_conf_t* cf, LocConf* conf) {
    auto limit = std::make_unique<LimitConf>();
    std::string rates;
    limit->place = place_of(cf);
    for (ngx_str_t& argument : arguments(cf)) {
        if (view(argument) == "plan") {
            limit->by_plan = true;
        } else if (const auto rate = parameter(argument, "rate")) {
            rates.append(rates.empty() ? "" : "+").append(*rate);
        } else if (const auto plan = parameter(argument, "default_plan")) {
            limit->default_plan_name = *plan;
        } else if (const auto name = parameter(argument, "name")) {
            limit->name = *name;
        } else if (const auto key = parameter(argument, "key")) {
            if ((limit->key = compile_value(cf, *key)) == nullptr) {
                return kConfError;
            }
        } else if (const auto cost = parameter(argument, "cost")) {
            if ((limit->cost = compile_value(cf, *cost)) == nullptr) {
                return kConfError;
            }
        } else if (const auto empty = parameter(argument, "empty"); empty && (*empty == "allow" || *empty == "deny")) {
            limit->deny_empty = *empty == "deny";
        } else {
            return conf_fail(cf, "invalid parameter \"%V\"", &argument);
        }
    }
    if (limit->by_plan == !rates.empty()) {
        return conf_fail(cf, "either \"plan\" or \"rate=\" must be given");
    }
    if (limit->by_plan && limit->key != nullptr) {
        return conf_fail(cf, "\"plan\" limits the caller: \"key=\" does not go with it");
    }
    if (!limit->by_plan) {
        auto windows = parse_rate_plan(rates);
        if (!windows) {
            return conf_fail(cf, "%s", windows.error().message.c_str());
        }
        if (limit->name == kPlanBucket) {
            return conf_fail(cf, "the name \"%s\" is that of the plans' own buckets", limit->name.c_str());
        }
        limit->name = limit->name.empty() ? rates : limit->name;
        limit->windows = std::make_unique<LimitWindows>(limit->name, std::move(*windows));
    }
    auto* limits = list_in_pool(cf, conf->limits.list);
    if (limits->size() == kLimitersMax) {
        return conf_fail(cf, "more than %uz limits in one place", kLimitersMax);
    }
    limits->push_back(std::move(limit));
    return kConfOk;
}

char* parse_limit_mode(ngx_conf_t* cf, LocConf* conf) {
    const std::string_view mode = view(arguments(cf)[0]);
    if (conf->limits.mode != NGX_CONF_UNSET_UINT) {
        return conf_fail(cf, "is duplicate");
    }
    if (mode != "exact" && mode != "lease") {
        return conf_fail(cf, "invalid mode \"%V\": exact or lease", &arguments(cf)[0]);
    }
    conf->limits.mode = static_cast<ngx_uint_t>(mode == "lease" ? LimitMode::kLease : LimitMode::kExact);
    return kConfOk;
}

char* parse_limit_on_error(ngx_conf_t* cf, LocConf* conf) {
    const std::string_view action = view(arguments(cf)[0]);
    if (conf->limits.on_error != NGX_CONF_UNSET_UINT) {
        return conf_fail(cf, "is duplicate");
    }
    if (action != "local" && action != "allow" && action != "deny") {
        return conf_fail(cf, "invalid value \"%V\": local, allow or deny", &arguments(cf)[0]);
    }
    conf->limits.on_error = static_cast<ngx_uint_t>(action == "local"   ? LimitOnError::kLocal
                                                    : action == "allow" ? LimitOnError::kAllow
                                                                        : LimitOnError::kDeny);
    return kConfOk;
}

char* parse_limit_status(ngx_conf_t* cf, LocConf* conf) {
    ngx_str_t& text = arguments(cf)[0];
    if (conf->limits.status != NGX_CONF_UNSET_UINT) {
        return conf_fail(cf, "is duplicate");
    }
    const ngx_int_t status = ngx_atoi(text.data, text.len);
    if (status < 400 || status > 599) {
        return conf_fail(cf, "invalid status \"%V\": 400 to 599", &text);
    }
    conf->limits.status = static_cast<ngx_uint_t>(status);
    return kConfOk;
}

char* merge_limits(ngx_conf_t* cf, const LimitsConf& prev, LocConf& loc) {
    LimitsConf& conf = loc.limits;
    ngx_conf_merge_uint_value(conf.mode, prev.mode, static_cast<ngx_uint_t>(LimitMode::kLease));
    ngx_conf_merge_uint_value(conf.on_error, prev.on_error, static_cast<ngx_uint_t>(LimitOnError::kLocal));
    ngx_conf_merge_uint_value(conf.status, prev.status, static_cast<ngx_uint_t>(NGX_HTTP_TOO_MANY_REQUESTS));
    ngx_conf_merge_value(conf.dry_run, prev.dry_run, 0);
    ngx_conf_merge_value(conf.headers, prev.headers, 1);
    conf.list = conf.list != nullptr ? conf.list : prev.list;
    if (conf.list == nullptr) {
        return kConfOk;
    }
    for (const auto& limit : *conf.list) {
        if (limit->key == nullptr && !loc.auth.required()) {
            return conf_fail_at(
                cf, limit->place,
                "\"headgate_limit\" without \"key=\" limits the caller, but authentication is off here");
        }
        if (!limit->default_plan_name.empty()) {
            limit->default_plan = main_conf_of(cf)->find_plan(limit->default_plan_name);
            if (limit->default_plan == nullptr) {
                return conf_fail_at(cf, limit->place, "headgate_plan \"%s\" is not defined",
                                    limit->default_plan_name.c_str());
            }
        }
    }
    return kConfOk;
}

}  // namespace headgate::edge
