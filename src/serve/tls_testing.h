#pragma once
// Certificates made for a test.
#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <string>

#include "data/test_folder.h"
#include "serve/tls.h"

namespace slipway {

/// An authority of its own, and what it issues; its files lie in the test's folder.
class TestAuthority {
 public:
  TestAuthority(const TestFolder& folder, const std::string& name) : folder_(folder), key_(EVP_EC_gen("P-256")) {
    certificate_ = make(name, key_, "CA:TRUE", "");
    ca = folder_.write(name + ".crt", certificate_pem(certificate_));
  }
  ~TestAuthority() {
    X509_free(certificate_);
    EVP_PKEY_free(key_);
  }
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  /// Writes NAME.crt and NAME.key, over what was there.
  TlsFiles issue(const std::string& name, const std::string& hosts = "DNS:localhost,IP:127.0.0.1") {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = make(name, key, "CA:FALSE", hosts);
    const TlsFiles files{folder_.write(name + ".crt", certificate_pem(certificate)),
                         folder_.write(name + ".key", key_pem(key))};
    X509_free(certificate);
    EVP_PKEY_free(key);
    return files;
  }

  std::string ca;  ///< path

 private:
  X509* make(const std::string& name, EVP_PKEY* key, const char* constraints, const std::string& hosts) {
    static long serial = 1;
    X509* certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509* issuer = certificate_ == nullptr ? certificate : certificate_;
    X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
    extend(certificate, NID_basic_constraints, constraints);
    if (!hosts.empty()) extend(certificate, NID_subject_alt_name, hosts.c_str());
    EXPECT_GT(X509_sign(certificate, key_, EVP_sha256()), 0);
    return certificate;
  }
  static void extend(X509* certificate, int nid, const char* value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
    EXPECT_NE(extension, nullptr) << value;
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  static std::string text_of(BIO* bio) {
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio, &bytes);
    std::string text(bytes, static_cast<size_t>(size));
    BIO_free(bio);
    return text;
  }
  static std::string certificate_pem(X509* certificate) {
    BIO* bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, certificate);
    return text_of(bio);
  }
  static std::string key_pem(EVP_PKEY* key) {
    BIO* bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
    return text_of(bio);
  }

  const TestFolder& folder_;
  EVP_PKEY* key_;
  X509* certificate_ = nullptr;
};

}  // namespace slipway
