// See redis_locator.h.
#include "ngx_module/redis_locator.h"

namespace headgate::edge {

RedisAddress address_of(const HostPort& where) {
    RedisAddress address;
    address.text = text_of(where);
    address.host = where.host;
    address.port = static_cast<in_port_t>(where.port);
    RedisAddress::Found found{};
    address.is_name = !read_address_literal(where.host, address.port, found);
    if (!address.is_name) {
        address.found.push_back(found);
    }
    return address;
}

void RedisLocator::locate(const RedisAddress& address, void* owner, Located located) noexcept {
    cancel();
    owner_ = owner;
    located_ = located;
    if (!address.is_name || !ask_resolver(address)) {
        located(owner, take_from(address));
    }
}

bool RedisLocator::take_from(const RedisAddress& address) noexcept {
    if (address.found.empty()) {
        ngx_log_error(NGX_LOG_ERR, log_, 0, "headgate: Redis %s cannot be resolved: \"resolver\" is not set",
                      address.text.c_str());
        return false;
    }
    found_ = address.found[turn_++ % address.found.size()];
    return true;
}

// False: there is nobody to ask.
bool RedisLocator::ask_resolver(const RedisAddress& address) noexcept {
    if (conf_.core->resolver == nullptr) {
        return false;
    }
    ngx_resolver_ctx_t* resolving = ngx_resolve_start(conf_.core->resolver, nullptr);
    if (resolving == NGX_NO_RESOLVER || resolving == nullptr) {
        return false;
    }
    try {
        name_ = address.host;
    } catch (const std::exception&) {
        ngx_resolve_name_done(resolving);
        return false;
    }
    port_ = address.port;
    resolving->name.data = reinterpret_cast<u_char*>(name_.data());
    resolving->name.len = name_.size();
    resolving->handler = on_resolved;
    resolving->data = this;
    resolving->timeout = conf_.connect_timeout_ms;
    resolving_ = resolving;
    if (ngx_resolve_name(resolving) != NGX_OK) {  // it has freed what it was given
        resolving_ = nullptr;
        return false;
    }
    return true;
}

void RedisLocator::on_resolved(ngx_resolver_ctx_t* resolving) noexcept {
    auto* self = static_cast<RedisLocator*>(resolving->data);
    self->resolving_ = nullptr;
    bool found = resolving->state == NGX_OK && resolving->naddrs != 0;
    if (found) {
        const ngx_resolver_addr_t& from = resolving->addrs[self->turn_++ % resolving->naddrs];
        found = from.socklen <= sizeof(ngx_sockaddr_t);
        if (found) {
            ngx_memcpy(&self->found_.sockaddr, from.sockaddr, from.socklen);
            self->found_.socklen = from.socklen;
            ngx_inet_set_port(&self->found_.sockaddr.sockaddr, self->port_);
        }
    } else {
        ngx_log_error(NGX_LOG_ERR, self->log_, 0, "headgate: Redis %s could not be resolved (%i: %s)",
                      self->name_.c_str(), resolving->state, ngx_resolver_strerror(resolving->state));
    }
    ngx_resolve_name_done(resolving);
    self->located_(self->owner_, found);
}

void RedisLocator::cancel() noexcept {
    if (resolving_ != nullptr) {
        ngx_resolve_name_done(std::exchange(resolving_, nullptr));
    }
}

}  // namespace headgate::edge
