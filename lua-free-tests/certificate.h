// A certificate for servers of tests.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <string>

// A server certificate for 127.0.0.1 that nobody signed but itself.
struct Certificate {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* x509 = X509_new();
    Certificate() {
        X509_set_version(x509, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
        X509_gmtime_adj(X509_getm_notBefore(x509), -60);
        X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
        X509_set_pubkey(x509, key);
        X509_NAME* name = X509_get_subject_name(x509);
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("test"), -1, -1, 0);
        X509_set_issuer_name(x509, name);
        X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "IP:127.0.0.1");
        X509_add_ext(x509, names, -1);
        X509_EXTENSION_free(names);
        X509_sign(x509, key, EVP_sha256());
    }
    ~Certificate() {
        X509_free(x509);
        EVP_PKEY_free(key);
    }
    void save_key(const std::string& path) const {
        std::FILE* file = std::fopen(path.c_str(), "w");
        PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
        std::fclose(file);
    }
    void save(const std::string& path) const {
        std::FILE* file = std::fopen(path.c_str(), "w");
        PEM_write_X509(file, x509);
        std::fclose(file);
    }
};
