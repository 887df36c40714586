#pragma once
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "serve/tls.h"

namespace slipway {

/// TLS with whatever certificates the identity has when a connection comes; without one, plain.
std::shared_ptr<grpc::ServerCredentials> server_credentials(std::shared_ptr<const TlsIdentity> identity);
/// Fails as tls_client_context.
std::shared_ptr<grpc::ChannelCredentials> client_credentials(const TlsFiles& files);

}  // namespace slipway
