// gRPC's own TLS with our certificates. The C++ interface takes them once; the C core below asks for them at each
// connection, so that is what a server's credentials are made of here.
#include "serve/grpc/credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <mutex>
#include <utility>

#include "base/error.h"
#include "base/file.h"

namespace slipway {
namespace {

class ReloadingCredentials final : public grpc::ServerCredentials {
 public:
  explicit ReloadingCredentials(std::shared_ptr<const TlsIdentity> identity) : identity_(std::move(identity)) {
    credentials_ =
        grpc_ssl_server_credentials_create_with_options(grpc_ssl_server_credentials_create_options_using_config_fetcher(
            identity_->asks_clients() ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                      : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
            fetch, this));
  }
  ~ReloadingCredentials() override { grpc_server_credentials_release(credentials_); }
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  static grpc_ssl_certificate_config_reload_status fetch(void* self, grpc_ssl_server_certificate_config** config) {
    auto& credentials = *static_cast<ReloadingCredentials*>(self);
    const std::lock_guard lock(credentials.mutex_);
    auto current = credentials.identity_->current();
    if (current == credentials.given_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair{current->key.c_str(), current->cert.c_str()};
    // gRPC asserts that there are authorities, also where no client is asked for its certificate.
    const std::string& authorities = current->ca.empty() ? current->cert : current->ca;
    *config = grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
    credentials.given_ = std::move(current);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  std::shared_ptr<const TlsIdentity> identity_;
  std::mutex mutex_;
  std::shared_ptr<const TlsCertificates> given_;  ///< what gRPC has
  grpc_server_credentials* credentials_ = nullptr;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> server_credentials(std::shared_ptr<const TlsIdentity> identity) {
  if (identity == nullptr) return grpc::InsecureServerCredentials();
  return std::make_shared<ReloadingCredentials>(std::move(identity));
}

std::shared_ptr<grpc::ChannelCredentials> client_credentials(const TlsFiles& files) {
  tls_client_context(files);  // says what is wrong with them
  const auto text = [](const std::string& path) { return path.empty() ? std::string() : read_text_file(path); };
  return grpc::SslCredentials({text(files.ca), text(files.key), text(files.cert)});
}

}  // namespace slipway
