// TLS 1.2 and 1.3 by OpenSSL. Certificates are read from memory, so that chain, key and authorities of one reading
// belong together and gRPC gets the same bytes. Sessions work on the socket itself through a BIO that raises no
// SIGPIPE; what is written goes out in whole records (16 KiB), small parts put together, since each record costs a
// system call.
#include "serve/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <new>

#include "base/error.h"
#include "base/file.h"

namespace slipway {
namespace {

constexpr uint64_t kMaxPemBytes = uint64_t{4} << 20;
constexpr size_t kRecordBytes = SSL3_RT_MAX_PLAIN_LENGTH;
constexpr int kRecordsPerRead = 16;
constexpr unsigned char kHttp11[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

template <auto release>
struct Release {
  template <typename T>
  void operator()(T* object) const {
    release(object);
  }
};
using Bio = std::unique_ptr<BIO, Release<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Release<X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Release<EVP_PKEY_free>>;

/// What OpenSSL last complained of on this thread; forgets it.
std::string last_complaint() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "no reason given" : reason;
}

Bio memory_bio(const std::string& text) { return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

int no_password(char*, int, int, void*) { return -1; }

void use_chain(SSL_CTX* context, const std::string& pem, const std::string& path) {
  const Bio bio = memory_bio(pem);
  const Certificate leaf(PEM_read_bio_X509_AUX(bio.get(), nullptr, no_password, nullptr));
  bool good = leaf != nullptr && SSL_CTX_use_certificate(context, leaf.get()) == 1;
  while (good) {
    Certificate next(PEM_read_bio_X509(bio.get(), nullptr, no_password, nullptr));
    if (next == nullptr) break;
    good = SSL_CTX_add0_chain_cert(context, next.release()) == 1;
  }
  // The end of the text is the only reason to stop.
  if (!good || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
    fail(ErrorCode::kInvalidArgument,
         "This is no certificate in PEM; name a file that begins with -----BEGIN CERTIFICATE-----: {} ({})", path,
         last_complaint());
  ERR_clear_error();
}

void use_key(SSL_CTX* context, const std::string& pem, const std::string& path, const std::string& cert_path) {
  const Bio bio = memory_bio(pem);
  const PrivateKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, nullptr));
  if (key == nullptr)
    fail(ErrorCode::kInvalidArgument, "This is no private key in PEM without a password; name one: {} ({})", path,
         last_complaint());
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1)
    fail(ErrorCode::kInvalidArgument, "The private key is not that of the certificate; name a pair: {} and {} ({})",
         path, cert_path, last_complaint());
}

void trust(SSL_CTX* context, const std::string& pem, const std::string& path, bool server) {
  const Bio bio = memory_bio(pem);
  int count = 0;
  for (;; ++count) {
    const Certificate authority(PEM_read_bio_X509(bio.get(), nullptr, no_password, nullptr));
    if (authority == nullptr) break;
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority.get());
    if (server) SSL_CTX_add_client_CA(context, authority.get());
  }
  if (count == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
    fail(ErrorCode::kInvalidArgument, "This holds no authorities' certificates in PEM; name a file of some: {} ({})",
         path, last_complaint());
  ERR_clear_error();
}

int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_bytes, const unsigned char* offered,
                    unsigned offered_bytes, void*) {
  unsigned char* chosen = nullptr;
  const int found = SSL_select_next_proto(&chosen, out_bytes, kHttp11, sizeof kHttp11, offered, offered_bytes);
  *out = chosen;
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

std::shared_ptr<SSL_CTX> new_context(const SSL_METHOD* method) {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(method), SSL_CTX_free);
  if (context == nullptr) fail(ErrorCode::kInternal, "OpenSSL can't be used: {}", last_complaint());
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(context.get(), 1);
  return context;
}

/// Chain, key and authorities as far as the files name them.
TlsCertificates read_certificates(const TlsFiles& files, bool server) {
  if (files.cert.empty() != files.key.empty())
    fail(ErrorCode::kInvalidArgument, "A certificate and its private key go together; name both files: '{}' and '{}'",
         files.cert, files.key);
  const auto text = [](const std::string& path) {
    return path.empty() ? std::string() : read_text_file(path, kMaxPemBytes);
  };
  TlsCertificates made{text(files.cert), text(files.key), text(files.ca),
                       new_context(server ? TLS_server_method() : TLS_client_method())};
  ERR_clear_error();
  if (!files.cert.empty()) {
    use_chain(made.context.get(), made.cert, files.cert);
    use_key(made.context.get(), made.key, files.key, files.cert);
  }
  if (!files.ca.empty()) trust(made.context.get(), made.ca, files.ca, server);
  return made;
}

int fd_of(BIO* bio) { return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio))); }

int transferred(BIO* bio, ssize_t bytes, void (*retry)(BIO*)) {
  BIO_clear_retry_flags(bio);
  if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) retry(bio);
  return static_cast<int>(bytes);
}

BIO_METHOD* socket_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    SLIPWAY_CHECK(made != nullptr);
    BIO_meth_set_write(made, [](BIO* bio, const char* bytes, int count) {
      const ssize_t sent = ::send(fd_of(bio), bytes, static_cast<size_t>(count), MSG_NOSIGNAL | MSG_DONTWAIT);
      return transferred(bio, sent, [](BIO* b) { BIO_set_retry_write(b); });
    });
    BIO_meth_set_read(made, [](BIO* bio, char* room, int count) {
      const ssize_t got = ::recv(fd_of(bio), room, static_cast<size_t>(count), MSG_DONTWAIT);
      return transferred(bio, got, [](BIO* b) { BIO_set_retry_read(b); });
    });
    BIO_meth_set_ctrl(made, [](BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1L : 0L; });
    return made;
  }();
  return method;
}

}  // namespace

TlsIdentity::TlsIdentity(TlsFiles files) : files_(std::move(files)) {
  if (files_.cert.empty())
    fail(ErrorCode::kInvalidArgument, "A server that speaks TLS needs a certificate and its private key; name both");
  reload();
}

void TlsIdentity::reload() {
  auto read = std::make_shared<TlsCertificates>(read_certificates(files_, true));
  SSL_CTX* context = read->context.get();
  SSL_CTX_set_alpn_select_cb(context, choose_protocol, nullptr);
  constexpr unsigned char kName[] = "slipway";
  SSL_CTX_set_session_id_context(context, kName, sizeof kName);
  if (asks_clients()) SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  const std::lock_guard lock(mutex_);
  current_ = std::move(read);
}

std::shared_ptr<const TlsCertificates> TlsIdentity::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

std::shared_ptr<ssl_ctx_st> tls_client_context(const TlsFiles& files) {
  std::shared_ptr<SSL_CTX> context = read_certificates(files, false).context;
  if (files.ca.empty()) SSL_CTX_set_default_verify_paths(context.get());
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  return context;
}

void tls_expect_host(ssl_st* ssl, const std::string& host) {
  X509_VERIFY_PARAM* expected = SSL_get0_param(ssl);
  if (X509_VERIFY_PARAM_set1_ip_asc(expected, host.c_str()) == 1) return;
  ERR_clear_error();
  X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  SLIPWAY_CHECK(X509_VERIFY_PARAM_set1_host(expected, host.data(), host.size()) == 1);
  SSL_set_tlsext_host_name(ssl, host.c_str());
}

std::string tls_failure(const ssl_st* ssl) {
  if (const long verified = SSL_get_verify_result(ssl); verified != X509_V_OK)
    return std::string("its certificate is not accepted: ") + X509_verify_cert_error_string(verified);
  return last_complaint();
}

void TlsSession::attach(int fd) {
  BIO* bio = ssl_ == nullptr ? nullptr : BIO_new(socket_method());
  if (bio == nullptr) {
    SSL_free(ssl_);
    throw std::bad_alloc();
  }
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
}

TlsSession::TlsSession(const TlsCertificates& certificates, int fd) : ssl_(SSL_new(certificates.context.get())) {
  attach(fd);
  SSL_set_accept_state(ssl_);
}

TlsSession::TlsSession(ssl_ctx_st* context, int fd, const std::string& host) : ssl_(SSL_new(context)) {
  attach(fd);
  tls_expect_host(ssl_, host);
  SSL_set_connect_state(ssl_);
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

TlsSession::Step TlsSession::stopped() {
  switch (SSL_get_error(ssl_, 0)) {
    case SSL_ERROR_WANT_READ:
      return {-1, POLLIN};
    case SSL_ERROR_WANT_WRITE:
      return {-1, POLLOUT};
    case SSL_ERROR_ZERO_RETURN:
      return {0, 0};
  }
  broken_ = true;
  return {-1, 0};
}

TlsSession::Step TlsSession::read(std::span<std::byte> room) {
  const std::lock_guard lock(mutex_);
  if (broken_) return {-1, 0};
  ERR_clear_error();
  size_t done = 0;
  for (int record = 0; record < kRecordsPerRead && done < room.size(); ++record) {
    size_t count = 0;
    if (SSL_read_ex(ssl_, room.data() + done, room.size() - done, &count) != 1) {
      if (done == 0) return stopped();
      break;  // whatever it is, the next call says so
    }
    done += count;
  }
  return {static_cast<ssize_t>(done), 0};
}

TlsSession::Step TlsSession::write(std::span<const iovec> parts) {
  const std::lock_guard lock(mutex_);
  if (broken_) return {-1, 0};
  ERR_clear_error();
  std::array<char, kRecordBytes> record;
  size_t done = 0, skip = 0;  // skip: of the first part, that went out
  while (true) {
    for (; !parts.empty() && skip >= parts[0].iov_len; parts = parts.subspan(1)) skip -= parts[0].iov_len;
    if (parts.empty()) return {static_cast<ssize_t>(done), 0};
    const char* bytes = static_cast<const char*>(parts[0].iov_base) + skip;
    size_t size = std::min(parts[0].iov_len - skip, kRecordBytes);
    if (size < kRecordBytes && parts.size() > 1) {
      std::memcpy(record.data(), bytes, size);
      for (size_t i = 1; i < parts.size() && size < kRecordBytes; ++i) {
        const size_t more = std::min(parts[i].iov_len, kRecordBytes - size);
        std::memcpy(record.data() + size, parts[i].iov_base, more);
        size += more;
      }
      bytes = record.data();
    }
    size_t count = 0;
    if (SSL_write_ex(ssl_, bytes, size, &count) != 1) {
      const Step why = stopped();
      return done > 0 && !why.broken() ? Step{static_cast<ssize_t>(done), 0} : why;
    }
    done += count;
    skip += count;
  }
}

void TlsSession::end() {
  const std::lock_guard lock(mutex_);
  if (broken_ || SSL_is_init_finished(ssl_) == 0) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

bool TlsSession::established() const {
  const std::lock_guard lock(mutex_);
  return SSL_is_init_finished(ssl_) != 0;
}

std::string TlsSession::failure() const {
  const std::lock_guard lock(mutex_);
  return tls_failure(ssl_);
}

}  // namespace slipway
