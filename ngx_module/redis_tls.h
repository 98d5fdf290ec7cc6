// TLS towards Redis, with nginx's own client side of it (ngx_event_openssl): what is sent goes through one record's
// worth of buffer where it must, because ngx_ssl_send_chain() knows no buffers that lie in files.
#pragma once

#include <string>
#include <vector>

#include "ngx_module/conf_redis.h"

struct ssl_session_st;

namespace headgate::edge {

// Makes the SSL context of a headgate_redis with tls=on, in the configuration's pool: TLS 1.2 or 1.3, certificates
// verified against tls_ca or the system's bundle. Fails where nginx was built without TLS.
char* make_redis_tls(ngx_conf_t* cf, RedisConf& redis);

// What the servers of one headgate_redis gave to resume a TLS session by: a connection that is made again costs neither
// side a signature. A certificate is not looked at again when its session is resumed, so `server` says all that it was
// compared with: the address as it was written or named by Redis. The last session of each, of a bounded number.
class RedisTlsSessions {
 public:
    RedisTlsSessions() = default;
    ~RedisTlsSessions();
    RedisTlsSessions(const RedisTlsSessions&) = delete;
    RedisTlsSessions& operator=(const RedisTlsSessions&) = delete;

    // From c->ssl->save_session: the server has given one.
    void keep(ngx_connection_t* c, const std::string& server) noexcept;
    // Before the handshake: is there one to offer?
    void offer(ngx_connection_t* c, const std::string& server) noexcept;
    // A handshake failed: the next one is a whole one.
    void forget(const std::string& server) noexcept;

 private:
    struct Session {
        std::string server;
        ssl_session_st* session;
    };
    std::vector<Session> sessions_;
    std::size_t turn_ = 0;  // which one makes room when there are too many
};

// Begins the handshake on a connected socket: c->pool must be set. `host`: what the certificate must be made out to,
// a name (sent as SNI) or an address literal. `server`: of the sessions; `save` is told when there is one to keep.
// NGX_OK: done. NGX_AGAIN: `handler` will be called. NGX_ERROR.
[[nodiscard]] ngx_int_t start_redis_tls(ngx_connection_t* c, const RedisConf& redis, const std::string& host,
                                        RedisTlsSessions& sessions, const std::string& server,
                                        void (*save)(ngx_connection_t* c),
                                        void (*handler)(ngx_connection_t* c)) noexcept;
// After the handshake: is the connection to be trusted? Why not goes into the log.
[[nodiscard]] bool redis_tls_is_up(ngx_connection_t* c) noexcept;
// Did it resume a session?
[[nodiscard]] bool redis_tls_resumed(ngx_connection_t* c) noexcept;

// Writes from the head of the chain, advancing its buffers. Records that are not sent yet are built again from the
// same bytes: `window` (kTlsWindowBytes) belongs to the connection. NGX_OK: all was written, or the socket is full.
inline constexpr std::size_t kTlsWindowBytes = 16 * 1024;
[[nodiscard]] ngx_int_t redis_tls_send_chain(ngx_connection_t* c, ngx_chain_t* chain, char* window) noexcept;

// Says goodbye without waiting for an answer (`broken`: says nothing) and frees what nginx keeps beside the socket.
void close_redis_tls(ngx_connection_t* c, bool broken) noexcept;

}  // namespace headgate::edge
