// What is needed to speak TLS to Redis: whom to trust, and who we are. Made once from the configuration, shared by
// all connections. Server certificates are always verified.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <string>

#include "common/result.h"

namespace headgate {

struct RedisTlsFiles {
    std::string ca_file;              // empty: the system's authorities
    std::string cert_file, key_file;  // empty: we show no certificate
    std::string server_name;          // empty: the host that is connected to
};

class RedisTls {
 public:
    RedisTls(boost::asio::ssl::context context, std::string server_name)
        : context_(std::move(context)), server_name_(std::move(server_name)) {}
    // Makes the certificate's name part of the verification, and sends it as SNI when it is no address.
    // `ssl` is new. False: OpenSSL has no memory, or the name is none.
    [[nodiscard]] bool expect(SSL* ssl, const std::string& host) const;
    [[nodiscard]] boost::asio::ssl::context& context() const noexcept { return context_; }

 private:
    mutable boost::asio::ssl::context context_;  // Asio's streams want it mutable; they only count its uses
    std::string server_name_;
};

// kInvalidArgument names the file that cannot be used.
[[nodiscard]] Result<std::shared_ptr<const RedisTls>> load_redis_tls(const RedisTlsFiles& files);

}  // namespace headgate
