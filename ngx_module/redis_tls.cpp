// See redis_tls.h.
#include "ngx_module/redis_tls.h"

#include <algorithm>

namespace headgate::edge {

#if (NGX_SSL)

// An nginx that was built without TLS has none of these: it loads the module all the same, and `tls=on` fails.
#pragma weak ngx_ssl_create
#pragma weak ngx_ssl_cleanup_ctx
#pragma weak ngx_ssl_client_session_cache
#pragma weak ngx_ssl_create_connection
#pragma weak ngx_ssl_get_session
#pragma weak ngx_ssl_handshake
#pragma weak ngx_ssl_set_session
#pragma weak ngx_ssl_shutdown

char* make_redis_tls(ngx_conf_t* cf, RedisConf& redis) {
    if (ngx_ssl_create == nullptr) {
        return conf_fail(cf, "\"tls=on\" needs an nginx that was built with TLS");
    }
    auto* ssl = static_cast<ngx_ssl_t*>(ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t)));
    ngx_pool_cleanup_t* cleanup = ngx_pool_cleanup_add(cf->pool, 0);
    if (ssl == nullptr || cleanup == nullptr) {
        return kConfError;
    }
    ssl->log = cf->log;
    if (ngx_ssl_create(ssl, NGX_SSL_TLSv1_2 | NGX_SSL_TLSv1_3, nullptr) != NGX_OK) {
        return kConfError;
    }
    cleanup->handler = ngx_ssl_cleanup_ctx;
    cleanup->data = ssl;
    // nginx's own callback lets every certificate pass and looks at the result afterwards; here OpenSSL itself ends
    // the handshake.
    SSL_CTX_set_verify(ssl->ctx, SSL_VERIFY_PEER, nullptr);
    if (ngx_ssl_client_session_cache(cf, ssl, 1) != NGX_OK) {
        return kConfError;
    }
    if (redis.tls_ca.empty()) {
        if (SSL_CTX_set_default_verify_paths(ssl->ctx) != 1) {
            return conf_fail(cf, "the system's certificate bundle cannot be used: name one with tls_ca=");
        }
    } else {
        ngx_str_t path;
        as_ngx_str(path, redis.tls_ca);
        if (ngx_conf_full_name(cf->cycle, &path, 1) != NGX_OK) {
            return kConfError;
        }
        if (SSL_CTX_load_verify_locations(ssl->ctx, reinterpret_cast<char*>(path.data), nullptr) != 1) {
            ERR_clear_error();
            return conf_fail(cf, "no certificates can be read from \"%V\"", &path);
        }
    }
    ERR_clear_error();
    redis.ssl = ssl;
    return kConfOk;
}

// A cluster has so many nodes at most.
static constexpr std::size_t kTlsSessionsMax = 1024;

RedisTlsSessions::~RedisTlsSessions() {
    for (const Session& kept : sessions_) {
        SSL_SESSION_free(kept.session);
    }
}

void RedisTlsSessions::keep(ngx_connection_t* c, const std::string& server) noexcept {
    SSL_SESSION* session = ngx_ssl_get_session(c);
    if (session == nullptr) {
        return;
    }
    forget(server);
    try {
        if (sessions_.size() < kTlsSessionsMax) {
            sessions_.push_back({server, session});
            return;
        }
        Session& oldest = sessions_[turn_++ % kTlsSessionsMax];
        oldest.server = server;
        SSL_SESSION_free(std::exchange(oldest.session, session));
    } catch (const std::exception&) {
        SSL_SESSION_free(session);  // no memory: the next handshake is a whole one
    }
}

void RedisTlsSessions::offer(ngx_connection_t* c, const std::string& server) noexcept {
    for (const Session& kept : sessions_) {
        if (kept.server == server && ngx_ssl_set_session(c, kept.session) != NGX_OK) {
            ERR_clear_error();
        }
    }
}

void RedisTlsSessions::forget(const std::string& server) noexcept {
    std::erase_if(sessions_, [&server](const Session& kept) {
        const bool found = kept.server == server;
        if (found) {
            SSL_SESSION_free(kept.session);
        }
        return found;
    });
}

ngx_int_t start_redis_tls(ngx_connection_t* c, const RedisConf& redis, const std::string& host,
                          RedisTlsSessions& sessions, const std::string& server, void (*save)(ngx_connection_t* c),
                          void (*handler)(ngx_connection_t* c)) noexcept {
    if (ngx_ssl_create_connection(redis.ssl, c, NGX_SSL_CLIENT) != NGX_OK) {
        return NGX_ERROR;
    }
    SSL* connection = c->ssl->connection;
    RedisAddress::Found ignored;
    const bool is_literal = read_address_literal(host, 0, ignored);
    const bool named = is_literal ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(connection), host.c_str()) == 1
                                  : SSL_set1_host(connection, host.c_str()) == 1 &&
                                        SSL_ctrl(connection, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                                                 const_cast<char*>(host.c_str())) == 1;
    if (!named) {
        ERR_clear_error();
        return NGX_ERROR;
    }
    sessions.offer(c, server);
    c->ssl->save_session = save;
    c->ssl->handler = handler;
    return ngx_ssl_handshake(c);
}

bool redis_tls_is_up(ngx_connection_t* c) noexcept {
    if (c->ssl != nullptr && c->ssl->handshaked) {
        return true;
    }
    const long result = c->ssl == nullptr ? X509_V_OK : SSL_get_verify_result(c->ssl->connection);
    if (result != X509_V_OK) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0, "headgate: Redis's certificate is refused: %s",
                      X509_verify_cert_error_string(result));
    }
    return false;
}

bool redis_tls_resumed(ngx_connection_t* c) noexcept {
    return c->ssl != nullptr && SSL_session_reused(c->ssl->connection) == 1;
}

namespace {

// Copies from the head of the chain, without advancing it. 0: nothing to send; -1: a file could not be read.
ssize_t fill_window(const ngx_chain_t* chain, char* window) noexcept {
    std::size_t filled = 0;
    for (; chain != nullptr && filled < kTlsWindowBytes; chain = chain->next) {
        const ngx_buf_t* buf = chain->buf;
        const std::size_t size = std::min(static_cast<std::size_t>(ngx_buf_size(buf)), kTlsWindowBytes - filled);
        if (size == 0) {
            continue;
        }
        if (ngx_buf_in_memory(buf)) {
            ngx_memcpy(window + filled, buf->pos, size);
            filled += size;
            continue;
        }
        const ssize_t n = ngx_read_file(buf->file, reinterpret_cast<u_char*>(window) + filled, size, buf->file_pos);
        if (n <= 0) {
            return filled == 0 ? -1 : static_cast<ssize_t>(filled);
        }
        filled += static_cast<std::size_t>(n);
        if (static_cast<std::size_t>(n) < size) {
            break;
        }
    }
    return static_cast<ssize_t>(filled);
}

void advance(ngx_chain_t* chain, std::size_t bytes) noexcept {
    for (; bytes != 0; chain = chain->next) {
        ngx_buf_t* buf = chain->buf;
        const std::size_t size = std::min(static_cast<std::size_t>(ngx_buf_size(buf)), bytes);
        if (ngx_buf_in_memory(buf)) {
            buf->pos += size;
        } else {
            buf->file_pos += static_cast<off_t>(size);
        }
        bytes -= size;
    }
}

}  // namespace

ngx_int_t redis_tls_send_chain(ngx_connection_t* c, ngx_chain_t* chain, char* window) noexcept {
    // A record that OpenSSL could not write must be offered again from the same address, at least as long: what
    // decides below looks only at the head of the chain, which has not moved then.
    while (chain != nullptr && c->write->ready) {
        ngx_buf_t* buf = chain->buf;
        const auto size = static_cast<std::size_t>(ngx_buf_size(buf));
        if (size == 0) {
            chain = chain->next;
            continue;
        }
        if (ngx_buf_in_memory(buf) && size >= kTlsWindowBytes) {
            const ssize_t n = c->send(c, buf->pos, kTlsWindowBytes);
            if (n == NGX_ERROR) {
                return NGX_ERROR;
            }
            if (n > 0) {
                buf->pos += n;
            }
            continue;
        }
        const ssize_t filled = fill_window(chain, window);
        if (filled <= 0) {
            return NGX_ERROR;
        }
        const ssize_t n = c->send(c, reinterpret_cast<u_char*>(window), static_cast<std::size_t>(filled));
        if (n == NGX_ERROR) {
            return NGX_ERROR;
        }
        if (n > 0) {
            advance(chain, static_cast<std::size_t>(n));
        }
    }
    return NGX_OK;
}

void close_redis_tls(ngx_connection_t* c, bool broken) noexcept {
    if (c->ssl == nullptr) {
        return;
    }
    c->ssl->no_wait_shutdown = 1;
    c->ssl->no_send_shutdown = broken ? 1 : 0;
    if (ngx_ssl_shutdown(c) == NGX_AGAIN) {
        c->timedout = 1;  // the socket is full: then without a word
        (void)ngx_ssl_shutdown(c);
    }
}

#else

char* make_redis_tls(ngx_conf_t* cf, RedisConf&) {
    return conf_fail(cf, "\"tls=on\" needs an nginx that was built with TLS");
}
RedisTlsSessions::~RedisTlsSessions() = default;
void RedisTlsSessions::keep(ngx_connection_t*, const std::string&) noexcept {}
void RedisTlsSessions::offer(ngx_connection_t*, const std::string&) noexcept {}
void RedisTlsSessions::forget(const std::string&) noexcept {}
ngx_int_t start_redis_tls(ngx_connection_t*, const RedisConf&, const std::string&, RedisTlsSessions&,
                          const std::string&, void (*)(ngx_connection_t*), void (*)(ngx_connection_t*)) noexcept {
    return NGX_ERROR;
}
bool redis_tls_is_up(ngx_connection_t*) noexcept { return false; }
bool redis_tls_resumed(ngx_connection_t*) noexcept { return false; }
ngx_int_t redis_tls_send_chain(ngx_connection_t*, ngx_chain_t*, char*) noexcept { return NGX_ERROR; }
void close_redis_tls(ngx_connection_t*, bool) noexcept {}

#endif

}  // namespace headgate::edge
