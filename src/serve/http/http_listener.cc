// Connections on Asio: each thread has an io_context of its own, the acceptor deals sockets out in turn.
//
// A connection has two sides. The read side belongs to its thread. The write side belongs, between the hand-over of a
// request (kBusy is set) and the end of its response (kBusy is cleared), to whoever answers: a computing thread writes
// the response itself, with one system call and no detour, and no wake-up of the connection's thread unless input waits
// (kInputWaiting) or the socket takes no more. While an answer is under way at most one read is outstanding, so that
// the next request usually finds it armed.
//
// No timers per connection: ten times a second each thread looks over its connections' clocks. A connection that we end
// is half-closed and read empty for a moment: a reset would destroy the response on its way.
//
// With TLS a session stands between connection and socket. Whoever answers encrypts and writes; the session's lock
// keeps it and the reading thread apart. Before the handshake is done a write may wait for input.
#include "serve/http/http_listener.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <limits>
#include <new>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "serve/http/compression.h"

namespace slipway {

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kSweepPeriod = std::chrono::milliseconds(100);
constexpr int64_t kLingerNs = 1'000'000'000;      // for the peer to take a last response
constexpr int64_t kKeepMemoryNs = 1'000'000'000;  // an idle connection keeps its body buffer that long
constexpr int kRefusedConnections = 64;           // over the limit, these still hear why
constexpr int64_t kWarnAgainNs = 10'000'000'000;  // of connections that can't be accepted
constexpr size_t kPackBytes = 1024;               // smaller responses are not packed
constexpr size_t kPartsPerCall = 64;
constexpr int kAcceptedAtOnce = 16;  // so that those who have to go can, in between
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

class Connection;

/// What all threads of a listener share.
struct Shared {
  ListenOptions options;
  HttpListener::Handler handler;
  std::atomic<bool> draining{false}, stopping{false};
  std::atomic<int> connections{0}, in_flight{0};
};

struct IoThread {
  explicit IoThread(std::shared_ptr<Shared> s) : shared(std::move(s)) {}
  std::shared_ptr<Shared> shared;
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
  asio::steady_timer timer{context};
  bool sweeping = false;                              // the timer is set
  std::set<std::shared_ptr<Connection>> connections;  // touched by the thread alone
  std::thread thread;
};

class Connection final : public HttpExchange, public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<IoThread> io, tcp::socket socket)
      : io_(std::move(io)), socket_(std::move(socket)), fd_(socket_.native_handle()), reader_(options().limits) {
    if (options().tls) tls_ = std::make_unique<TlsSession>(*options().tls->current(), fd_);
  }
  ~Connection() { shared().connections.fetch_sub(1); }

  void start(bool refuse);
  void sweep(int64_t now);
  void end();
  template <typename Step>
  void guarded(Step step);
  /// Since when it has waited for a request, or for the rest of one; what is being answered or ends does not wait.
  int64_t waits_since_ns() const;

  const HttpRequest& request() const override { return reader_.request(); }
  void respond(HttpReply&& reply) override;

 private:
  enum : unsigned { kBusy = 1, kInputWaiting = 2, kClosing = 4 };

  Shared& shared() { return *io_->shared; }
  const ListenOptions& options() { return io_->shared->options; }

  // The connection's thread.
  void pump();
  void read(std::span<std::byte> room);
  void read_secure(std::span<std::byte> room);
  void on_read(const error_code& ec, size_t count, bool discard);
  void begin_answer();
  void hand_over();
  void wait_to_write(short direction);

  // Whoever answers.
  TlsSession::Step transmit(std::span<iovec> parts);
  void compose(HttpReply&& reply);
  void flush();
  void finish(bool broken);

  std::shared_ptr<IoThread> io_;
  tcp::socket socket_;
  const int fd_;
  std::unique_ptr<TlsSession> tls_;  // null: plain
  RequestReader reader_;
  std::atomic<unsigned> state_{0};
  std::atomic<int64_t> answered_ns_{now_ns()};

  bool reading_ = false, at_eof_ = false, write_waits_ = false;
  bool answered_ = false;  // the reader still holds a request that was handed over
  bool served_ = false;    // at least one was: a draining server lets new connections ask once
  int64_t request_began_ns_ = 0, write_waits_since_ns_ = 0;
  std::array<std::byte, 512> discarded_;

  HttpReply reply_;
  std::string head_;
  std::vector<iovec> parts_;
  size_t next_part_ = 0;
  bool close_ = false;
};

/// What there is no memory for ends the connection.
template <typename Step>
void Connection::guarded(Step step) {
  try {
    step();
  } catch (const std::bad_alloc&) {
    end();
  }
}

int64_t Connection::waits_since_ns() const {
  if (at_eof_ || (state_.load(std::memory_order_acquire) & (kBusy | kClosing))) return kNever;
  return request_began_ns_ != 0 ? request_began_ns_ : answered_ns_.load(std::memory_order_relaxed);
}

/// Ends the connection of this thread that has waited longest; false when none waits.
bool end_longest_waiting(const IoThread& io) {
  std::shared_ptr<Connection> longest;
  for (const auto& connection : io.connections)
    if (connection->waits_since_ns() < (longest ? longest->waits_since_ns() : kNever)) longest = connection;
  if (longest) longest->end();
  return longest != nullptr;
}

void Connection::start(bool refuse) {
  if (shared().stopping) return;
  if (refuse && options().make_room && end_longest_waiting(*io_)) refuse = false;
  io_->connections.insert(shared_from_this());
  if (refuse) {
    HttpReply reply = error_reply(
        503, fmt::format("The server has no room for another connection; it takes {}", options().max_connections));
    reply.close = true;
    begin_answer();
    respond(std::move(reply));
  }
  pump();
}

void Connection::pump() {
  for (;;) {
    if (state_.load(std::memory_order_acquire) & kBusy) {
      if (!reading_ && !at_eof_ && reader_.idle() && !reader_.room().empty()) return read(reader_.room());
      if (reading_ || (state_.fetch_or(kInputWaiting, std::memory_order_acq_rel) & kBusy)) return;
    }
    state_.fetch_and(~kInputWaiting, std::memory_order_acq_rel);
    if (at_eof_) return end();
    if (reading_) return;
    if (state_.load(std::memory_order_acquire) & kClosing) return read(discarded_);
    if (std::exchange(answered_, false)) reader_.next();
    if (request_began_ns_ == 0 && !reader_.idle()) request_began_ns_ = now_ns();
    switch (reader_.state()) {
      case RequestReader::State::kHead:
      case RequestReader::State::kBody:
        if (reader_.wants_continue()) {
          std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
          iovec part{go_on.data(), go_on.size()};
          if (transmit({&part, 1}).bytes < 0) return end();
        }
        return read(reader_.room());
      case RequestReader::State::kComplete:
      case RequestReader::State::kRefused:
        hand_over();
    }
  }
}

void Connection::begin_answer() {
  answered_ = served_ = true;
  request_began_ns_ = 0;
  shared().in_flight.fetch_add(1);
  state_.fetch_or(kBusy, std::memory_order_acq_rel);
}

void Connection::hand_over() {
  HttpReply reply;
  begin_answer();
  try {
    try {
      if (reader_.state() != RequestReader::State::kRefused) return shared().handler(shared_from_this());
      reply = reader_.refusal();
    } catch (const Error& error) {
      reply = error_reply(http_status(error.code()), error.what());
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      log_error("A request failed inside the server: {}", error.what());
      reply = error_reply(500, fmt::format("The request failed inside the server: {}", error.what()));
    }
  } catch (const std::bad_alloc&) {
    reply = memory_reply();
  }
  respond(std::move(reply));
}

void Connection::read(std::span<std::byte> room) {
  if (tls_) {
    read_secure(room);
    reading_ = true;
    return;
  }
  const bool discard = room.data() == discarded_.data();
  socket_.async_read_some(asio::buffer(room.data(), room.size()),
                          [self = shared_from_this(), discard](const error_code& ec, size_t count) {
                            self->guarded([&] { self->on_read(ec, count, discard); });
                          });
  reading_ = true;
}

void Connection::read_secure(std::span<std::byte> room) {
  const bool discard = room.data() == discarded_.data();
  const TlsSession::Step step = tls_->read(room);
  if (step.waits_for == 0) {
    const error_code ec = step.bytes > 0 ? error_code() : asio::error::eof;
    const auto count = static_cast<size_t>(std::max<ssize_t>(step.bytes, 0));
    return asio::post(io_->context, [self = shared_from_this(), ec, count, discard] {
      self->guarded([&] { self->on_read(ec, count, discard); });
    });
  }
  socket_.async_wait(step.waits_for == POLLIN ? tcp::socket::wait_read : tcp::socket::wait_write,
                     [self = shared_from_this(), room, discard](const error_code& ec) {
                       self->guarded([&] {
                         if (ec) return self->on_read(ec, 0, discard);
                         self->read_secure(room);
                       });
                     });
}

void Connection::on_read(const error_code& ec, size_t count, bool discard) {
  reading_ = false;
  at_eof_ = ec || shared().stopping;
  if (!ec && !discard) reader_.received(count);
  pump();
}

void Connection::end() {
  if (state_.load(std::memory_order_acquire) & kBusy) {
    ::shutdown(fd_, SHUT_RDWR);  // what is being answered is thrown away when it is done
  } else if (reading_) {
    error_code ignored;
    socket_.cancel(ignored);
    at_eof_ = true;
  } else {
    if (tls_) tls_->end();
    ::shutdown(fd_, SHUT_RDWR);  // somebody may still hold the exchange
    io_->connections.erase(shared_from_this());
  }
}

void Connection::sweep(int64_t now) {
  const unsigned state = state_.load(std::memory_order_acquire);
  const int64_t answered = answered_ns_.load(std::memory_order_relaxed);
  if (!(state & kBusy) && (state & kInputWaiting)) {
    guarded([this] { pump(); });  // finish() had no memory to
  } else if (state & kBusy) {
    if (write_waits_ && now - write_waits_since_ns_ > options().read_timeout_ms * 1'000'000) end();
  } else if (state & kClosing) {
    if (now - answered > kLingerNs) end();
  } else if (request_began_ns_ == 0) {
    if (!reader_.idle()) return;
    const int64_t limit_ms = tls_ && !tls_->established() ? options().read_timeout_ms : options().idle_timeout_ms;
    if (now - answered > limit_ms * 1'000'000 || (shared().draining && (served_ || now - answered > kLingerNs))) {
      end();
    } else if (now - answered > kKeepMemoryNs) {
      reader_.release_memory();
    }
  } else if (now - request_began_ns_ > options().read_timeout_ms * 1'000'000) {
    HttpReply reply = error_reply(408, fmt::format("The request took too long to arrive; it must be here within {} ms",
                                                   options().read_timeout_ms));
    reply.close = true;
    begin_answer();
    respond(std::move(reply));
  }
}

void Connection::respond(HttpReply&& reply) {
  try {
    compose(std::move(reply));
  } catch (const std::bad_alloc&) {
    return finish(true);
  }
  flush();
}

void Connection::compose(HttpReply&& reply) {
  reply_ = std::move(reply);
  const HttpRequest& asked = request();
  close_ = reply_.close || !asked.keep_alive || shared().draining.load(std::memory_order_relaxed);
  parts_.clear();
  next_part_ = 0;
  uint64_t bytes = reply_.body.size();
  for (const auto part : reply_.tail) bytes += part.size();
  if (bytes > kPackBytes) {
    const ContentCoding coding = accepted_coding(asked.header("accept-encoding"));
    if (coding != ContentCoding::kIdentity) {
      std::vector<std::span<const std::byte>> plain{std::as_bytes(std::span(reply_.body))};
      plain.insert(plain.end(), reply_.tail.begin(), reply_.tail.end());
      reply_.body = pack(coding, plain);
      reply_.tail.clear();
      reply_.headers += fmt::format("Content-Encoding: {}\r\nVary: Accept-Encoding\r\n", to_string(coding));
      bytes = reply_.body.size();
    }
  }
  head_ = reply_head(reply_, bytes, close_ ? "close" : asked.http_1_0 ? "keep-alive" : "");
  parts_.push_back({head_.data(), head_.size()});
  if (asked.method == "HEAD") return;
  if (!reply_.body.empty()) parts_.push_back({reply_.body.data(), reply_.body.size()});
  for (const auto part : reply_.tail)
    if (!part.empty()) parts_.push_back({const_cast<std::byte*>(part.data()), part.size()});
}

TlsSession::Step Connection::transmit(std::span<iovec> parts) {
  if (tls_) return tls_->write(parts);
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  while (true) {
    const ssize_t sent = ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return {sent, 0};
    if (errno != EINTR) return {-1, errno == EAGAIN || errno == EWOULDBLOCK ? short{POLLOUT} : short{0}};
  }
}

void Connection::flush() {
  while (next_part_ < parts_.size()) {
    const TlsSession::Step step =
        transmit(std::span(parts_).subspan(next_part_, std::min(kPartsPerCall, parts_.size() - next_part_)));
    if (step.broken()) return finish(true);
    if (step.bytes < 0) {
      try {
        asio::post(io_->context,
                   [self = shared_from_this(), direction = step.waits_for] { self->wait_to_write(direction); });
      } catch (const std::bad_alloc&) {
        finish(true);
      }
      return;
    }
    size_t left = static_cast<size_t>(step.bytes);
    while (next_part_ < parts_.size() && left >= parts_[next_part_].iov_len) left -= parts_[next_part_++].iov_len;
    if (left) {
      parts_[next_part_].iov_base = static_cast<char*>(parts_[next_part_].iov_base) + left;
      parts_[next_part_].iov_len -= left;
    }
  }
  finish(false);
}

void Connection::wait_to_write(short direction) {
  if (direction == POLLIN && tls_->established()) return flush();  // the reading side has taken the peer's part
  const auto event = direction == POLLIN ? tcp::socket::wait_read : tcp::socket::wait_write;
  try {
    socket_.async_wait(event, [self = shared_from_this()](const error_code&) {
      self->write_waits_ = false;
      self->flush();
    });
  } catch (const std::bad_alloc&) {
    return finish(true);
  }
  write_waits_ = true;
  write_waits_since_ns_ = now_ns();
}

void Connection::finish(bool broken) {
  reply_ = {};
  answered_ns_.store(now_ns(), std::memory_order_relaxed);
  if (broken || close_) {
    if (tls_ && !broken) tls_->end();
    ::shutdown(fd_, broken ? SHUT_RDWR : SHUT_WR);
    state_.fetch_or(kClosing, std::memory_order_acq_rel);
  }
  Shared& all = shared();
  if (state_.fetch_and(~kBusy, std::memory_order_acq_rel) & kInputWaiting) {
    try {
      asio::post(io_->context, [self = shared_from_this()] { self->guarded([&] { self->pump(); }); });
    } catch (const std::bad_alloc&) {  // the sweep finds it
    }
  }
  all.in_flight.fetch_sub(1, std::memory_order_acq_rel);
}

void sweep(const std::shared_ptr<IoThread>& io, const std::function<void()>& also) {
  io->timer.expires_after(kSweepPeriod);
  io->timer.async_wait([io, also](const error_code& ec) {
    io->sweeping = false;
    if (ec || io->shared->stopping) return;
    const std::vector<std::shared_ptr<Connection>> all(io->connections.begin(), io->connections.end());
    const int64_t now = now_ns();
    for (const auto& connection : all) connection->sweep(now);
    if (also) also();
    sweep(io, also);
  });
  io->sweeping = true;
}

/// What there is no memory for is given up; the thread goes on.
void run(const std::shared_ptr<IoThread>& io, const std::function<void()>& also) {
  for (;;) try {
      if (!io->sweeping && !io->shared->stopping) sweep(io, also);
      io->context.run();
      return;
    } catch (const std::bad_alloc&) {
      log_error("There was no memory for a connection; its request is given up");
      std::this_thread::sleep_for(kSweepPeriod);
    }
}

tcp::endpoint resolve(asio::io_context& context, const ListenOptions& options) {
  tcp::resolver resolver(context);
  error_code ec;
  const auto found = resolver.resolve(options.host, std::to_string(options.port),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, ec);
  if (ec || found.empty())
    fail(ErrorCode::kInvalidArgument,
         "The host to listen on is no address of this machine; give one like 127.0.0.1: {}", options.host);
  return found.begin()->endpoint();
}

}  // namespace

struct HttpListener::Impl {
  std::shared_ptr<Shared> shared;
  std::vector<std::shared_ptr<IoThread>> threads;
  std::unique_ptr<tcp::acceptor> acceptor;
  uint16_t port = 0;
  size_t next_thread = 0;
  bool accepting = false, started = false;
  int64_t warned_ns = -kWarnAgainNs;

  void listen() {
    const ListenOptions& options = shared->options;
    const tcp::endpoint endpoint = resolve(threads[0]->context, options);
    acceptor = std::make_unique<tcp::acceptor>(threads[0]->context);
    error_code ec;
    acceptor->open(endpoint.protocol(), ec);
    if (!ec) acceptor->set_option(tcp::acceptor::reuse_address(true), ec);
    if (!ec) acceptor->bind(endpoint, ec);
    if (!ec) acceptor->listen(asio::socket_base::max_listen_connections, ec);
    if (ec == asio::error::address_in_use)
      fail(ErrorCode::kIo, "The port is in use; choose another one, or 0 for any that is free: {}:{}", options.host,
           options.port);
    if (ec)
      fail(ErrorCode::kIo, "The server can't listen there; choose another host or port: {}:{}: {}", options.host,
           options.port, ec.message());
    acceptor->non_blocking(true);
    port = acceptor->local_endpoint().port();
  }

  void admit(tcp::socket socket, const std::shared_ptr<IoThread>& io) {
    const int now_open = shared->connections.fetch_add(1) + 1;
    if (now_open > shared->options.max_connections + kRefusedConnections) {
      shared->connections.fetch_sub(1);
      return;
    }
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.non_blocking(true, ignored);
    std::shared_ptr<Connection> connection;
    try {
      connection = std::make_shared<Connection>(io, std::move(socket));
    } catch (const std::bad_alloc&) {
      shared->connections.fetch_sub(1);
      return;
    }
    const bool refuse = now_open > shared->options.max_connections;
    asio::dispatch(io->context, [connection, refuse] { connection->guarded([&] { connection->start(refuse); }); });
  }

  void warn(const error_code& ec) {
    if (now_ns() - warned_ns < kWarnAgainNs) return;
    warned_ns = now_ns();
    log_warning("No connection can be accepted now; raise the limit of open files: {}", ec.message());
  }

  /// Lets in those who wait; why no more are.
  error_code accept_waiting(int most) {
    error_code ec;
    for (int i = 0; i < most && !ec; ++i) {
      const std::shared_ptr<IoThread>& io = threads[next_thread++ % threads.size()];
      tcp::socket socket = acceptor->accept(io->context, ec);
      if (!ec) admit(std::move(socket), io);
      if (ec == asio::error::connection_aborted) ec.clear();
    }
    return ec == asio::error::would_block ? error_code() : ec;
  }

  // Not async_accept: what that has no memory for when a connection comes is lost without a word to its handler.
  void accept() {
    acceptor->async_wait(tcp::acceptor::wait_read, [this](const error_code& ec) {
      accepting = false;
      if (ec || !acceptor->is_open() || shared->draining) return;
      if (const error_code why = accept_waiting(kAcceptedAtOnce)) return warn(why);  // the next sweep tries again
      accept();
    });
    accepting = true;
  }

  void end_accepting() {
    if (!acceptor->is_open()) return;
    accept_waiting(SOMAXCONN);  // those whom the kernel has already let in get their answer
    error_code ignored;
    acceptor->close(ignored);
  }
};

HttpListener::HttpListener(ListenOptions options, Handler handler) : impl_(new Impl) {
  impl_->shared = std::make_shared<Shared>();
  impl_->shared->options = std::move(options);
  impl_->shared->handler = std::move(handler);
  for (int i = 0; i < std::max(1, impl_->shared->options.threads); ++i)
    impl_->threads.push_back(std::make_shared<IoThread>(impl_->shared));
  impl_->listen();
}

HttpListener::~HttpListener() { stop(); }

void HttpListener::start() {
  Impl* impl = impl_.get();
  SLIPWAY_CHECK(!std::exchange(impl->started, true));
  impl->accept();
  for (const auto& io : impl->threads) {
    std::function<void()> also;
    if (io == impl->threads[0])
      also = [impl] {
        if (!impl->accepting && !impl->shared->draining) impl->accept();
      };
    sweep(io, also);
    io->thread = std::thread([io, also] { run(io, also); });
  }
}

void HttpListener::drain() {
  Impl* impl = impl_.get();
  if (!impl->started || impl->shared->draining.exchange(true)) return;
  asio::post(impl->threads[0]->context, [impl] { impl->end_accepting(); });
  for (const auto& io : impl->threads)
    asio::post(io->context, [io] {
      const std::vector<std::shared_ptr<Connection>> all(io->connections.begin(), io->connections.end());
      for (const auto& connection : all) connection->sweep(now_ns());
    });
}

bool HttpListener::finish(int64_t until_ns) {
  while (connections() > 0 && now_ns() < until_ns) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return connections() == 0;
}

void HttpListener::stop() {
  Impl* impl = impl_.get();
  if (!impl->started || impl->shared->stopping.exchange(true)) return;
  impl->shared->draining = true;
  const auto end_all = [impl](bool last) {
    for (const auto& io : impl->threads)
      asio::post(io->context, [impl, io, last] {
        error_code ignored;
        if (io == impl->threads[0]) impl->acceptor->close(ignored);
        const std::vector<std::shared_ptr<Connection>> all(io->connections.begin(), io->connections.end());
        for (const auto& connection : all) connection->end();
        if (last) {
          io->timer.cancel();
          io->work.reset();
        }
      });
  };
  end_all(false);
  while (impl->shared->in_flight.load(std::memory_order_acquire) > 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  end_all(true);
  for (const auto& io : impl->threads) {
    io->thread.join();
    io->connections.clear();
  }
}

uint16_t HttpListener::port() const { return impl_->port; }
int HttpListener::connections() const { return impl_->shared->connections.load(); }

}  // namespace slipway
