// TLS to Redis; see redis_tls.h. OpenSSL: SSL_set1_host(3), SSL_CTX_use_certificate(3).
#include "sidecar/io/redis_tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

namespace headgate {
namespace ssl = boost::asio::ssl;

Result<std::shared_ptr<const RedisTls>> load_redis_tls(const RedisTlsFiles& files) {
    auto refused = [](std::string_view what, const std::string& file, const boost::system::error_code& ec) {
        return fail(ErrorCode::kInvalidArgument, std::string(what) + " " + file + ": " + ec.message());
    };
    ssl::context context(ssl::context::tls_client);
    boost::system::error_code ec;
    context.set_options(
        ssl::context::no_sslv2 | ssl::context::no_sslv3 | ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1, ec);
    context.set_verify_mode(ssl::verify_peer, ec);
    if (files.ca_file.empty()) {
        context.set_default_verify_paths(ec);
        if (ec) return refused("the system's certificate authorities cannot be used; name a file with", "", ec);
    } else {
        context.load_verify_file(files.ca_file, ec);
        if (ec) return refused("redis.tls_ca_file: no certificates can be read from", files.ca_file, ec);
    }
    if (files.cert_file.empty() != files.key_file.empty())
        return fail(ErrorCode::kInvalidArgument, "redis.tls_cert_file and redis.tls_key_file go together");
    if (!files.cert_file.empty()) {
        context.use_certificate_chain_file(files.cert_file, ec);
        if (ec) return refused("redis.tls_cert_file: no certificate can be read from", files.cert_file, ec);
        context.use_private_key_file(files.key_file, ssl::context::pem, ec);
        if (ec) return refused("redis.tls_key_file: the certificate's key cannot be read from", files.key_file, ec);
    }
    ERR_clear_error();
    return std::make_shared<const RedisTls>(std::move(context), files.server_name);
}

bool RedisTls::expect(SSL* ssl, const std::string& host) const {
    const std::string& name = server_name_.empty() ? host : server_name_;
    bool is_address = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1;
    bool is_set = is_address || (SSL_set1_host(ssl, name.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, name.c_str()));
    ERR_clear_error();
    return is_set;
}

}  // namespace headgate
