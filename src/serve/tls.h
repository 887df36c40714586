#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string>

struct ssl_st;
struct ssl_ctx_st;

namespace slipway {

/// PEM files; empty names: none.
struct TlsFiles {
  std::string cert, key;  ///< what this side shows: its chain, leaf first, and the private key; both or neither
  std::string ca;  ///< whom it trusts. A server: clients need a certificate of theirs; a client: else the system's
  bool empty() const { return cert.empty() && key.empty() && ca.empty(); }
};

/// What a server's files held, read and checked together.
struct TlsCertificates {
  std::string cert, key, ca;  ///< PEM
  std::shared_ptr<ssl_ctx_st> context;
};

/// A server's certificates, shared by its listeners. Thread-safe.
class TlsIdentity {
 public:
  /// Fails with kInvalidArgument for what is no certificate or key, or a pair that does not belong together; kNotFound
  /// and kIo as files do.
  explicit TlsIdentity(TlsFiles files);
  /// Reads the files again, for connections from now on. Fails as above; then what was there stays.
  void reload();
  std::shared_ptr<const TlsCertificates> current() const;
  bool asks_clients() const { return !files_.ca.empty(); }

 private:
  TlsFiles files_;
  mutable std::mutex mutex_;
  std::shared_ptr<const TlsCertificates> current_;
};

/// For a client. Servers are verified, against the system's authorities when the files name none. Fails as TlsIdentity.
std::shared_ptr<ssl_ctx_st> tls_client_context(const TlsFiles& files);
/// The server's certificate must be for this host, a name or an address.
void tls_expect_host(ssl_st* ssl, const std::string& host);
/// Why a client's handshake failed: a clause.
std::string tls_failure(const ssl_st* ssl);

/// TLS over a non-blocking socket that somebody else closes. One thread may read while another writes.
class TlsSession {
 public:
  struct Step {
    ssize_t bytes = 0;    ///< above 0: done; 0: the peer ended; −1: wait, or broken
    short waits_for = 0;  ///< POLLIN or POLLOUT; 0 with −1: broken
    bool broken() const { return bytes < 0 && waits_for == 0; }
  };
  /// The server's side.
  TlsSession(const TlsCertificates& certificates, int fd);
  /// The client's; `host` is what the certificate must be for.
  TlsSession(ssl_ctx_st* context, int fd, const std::string& host);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  /// Both go on with the handshake first. After a write that waits the same bytes must come again.
  Step read(std::span<std::byte> room);
  Step write(std::span<const iovec> parts);
  /// Tells the peer that no more comes, as far as the socket takes it now.
  void end();
  bool established() const;
  std::string failure() const;

 private:
  void attach(int fd);
  Step stopped();
  mutable std::mutex mutex_;
  ssl_st* ssl_;
  bool broken_ = false;
};

}  // namespace slipway
