// Load over HTTP/1.1 from one thread: keep-alive connections on epoll, each with at most one request under way. A
// request goes out by one sendmsg of its prepared head and the sample's own bytes, nothing is copied; a response's body
// is counted and dropped unless someone wants it. A kept connection that the server closes just as the next request
// comes is no failure of the server: that request is sent once more on a new one (RFC 9112, section 9.3.1). With TLS
// the first write carries the handshake on; a session may hold more than the socket tells, so it is read until it
// waits.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/url.h"
#include "load/http_client.h"
#include "load/transport.h"
#include "model/tensor.h"
#include "serve/admin/admin_client.h"

namespace slipway {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kMaxKeptBytes = uint64_t{64} << 20;
constexpr size_t kMaxParts = 64;

std::string infer_path(const LoadOptions& options) {
  return "/v2/models/" + percent_encode(options.model) +
         (options.version.empty() ? "" : "/versions/" + percent_encode(options.version)) + "/infer";
}

/// The request's head, and the JSON in front of binary tensors.
std::string request_head(const Url& url, const LoadOptions& options, const LoadSample& sample) {
  if (options.predict)
    return fmt::format("POST /predict{}{} HTTP/1.1\r\nHost: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
                       options.model.empty() ? "" : "?model=", percent_encode(options.model), url.authority(),
                       sample.picture.starts_with("\x89PNG") ? "image/png" : "image/jpeg", sample.picture.size());
  nlohmann::json j = {{"inputs", nlohmann::json::array()}, {"parameters", {{"binary_data_output", true}}}};
  if (!sample.id.empty()) j["id"] = sample.id;
  size_t bytes = 0;
  for (const WireTensor& t : sample.inputs) {
    j["inputs"].push_back({{"name", t.name},
                           {"shape", t.dims},
                           {"datatype", datatype_name(t.dtype)},
                           {"parameters", {{"binary_data_size", t.bytes.size()}}}});
    bytes += t.bytes.size();
  }
  const std::string json = j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\n"
      "Inference-Header-Content-Length: {}\r\nContent-Length: {}\r\n\r\n{}",
      infer_path(options), url.authority(), json.size(), json.size() + bytes, json);
}

/// The first output of a response with binary tensors; false when it is none.
bool read_scores(const std::string& body, size_t json_bytes, std::vector<float>& scores, int64_t& version) {
  if (json_bytes == 0 || json_bytes > body.size()) return false;
  try {
    const auto j = nlohmann::json::parse(body.data(), body.data() + json_bytes);
    const auto& output = j.at("outputs").at(0);
    const auto size = output.at("parameters").at("binary_data_size").get<size_t>();
    Tensor tensor(parse_datatype(output.at("datatype").get<std::string>()), output.at("shape").get<Dims>());
    if (size > body.size() - json_bytes || tensor.bytes() != size || tensor.dtype() == DType::kString) return false;
    std::memcpy(tensor.mutable_raw(), body.data() + json_bytes, size);
    scores = to_floats(tensor);
    const auto text = j.value("model_version", std::string("0"));
    version = std::strtoll(text.c_str(), nullptr, 10);
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  } catch (const Error&) {
    return false;
  }
}

class HttpLoad {
 public:
  HttpLoad(const Url& url, const LoadOptions& options, const std::vector<LoadSample>& samples, LoadRun& run)
      : options_(options), samples_(samples), run_(run), host_(url.host), address_(reach(url)) {
    if (url.tls()) tls_context_ = tls_client_context(options.tls);
    for (const LoadSample& sample : samples) heads_.push_back(request_head(url, options, sample));
    connections_.resize(static_cast<size_t>(options.concurrency));
    for (size_t i = connections_.size(); i-- > 0;) free_.push_back(i);
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) fail(ErrorCode::kIo, "The system gives no epoll: {}", std::strerror(errno));
    rlimit files{};
    const rlim_t wanted = connections_.size() + 64;
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < wanted) {
      files.rlim_cur = std::min(wanted, files.rlim_max);
      ::setrlimit(RLIMIT_NOFILE, &files);
    }
    slack_ = ::prctl(PR_GET_TIMERSLACK);
    ::prctl(PR_SET_TIMERSLACK, 1);
  }
  ~HttpLoad() {
    for (Connection& c : connections_) close(c);
    ::close(epoll_);
    ::prctl(PR_SET_TIMERSLACK, slack_);
  }
  HttpLoad(const HttpLoad&) = delete;
  HttpLoad& operator=(const HttpLoad&) = delete;

  void run() {
    std::array<epoll_event, 128> events;
    int64_t swept_ns = 0, give_up_ns = INT64_MAX;
    while (true) {
      int64_t now = now_ns();
      run_.tick(now);
      if (interrupted() && give_up_ns == INT64_MAX) {
        run_.interrupt(now);
        give_up_ns = now + kSecondNs;
      }
      while (!free_.empty()) {
        const auto ticket = run_.take(now);
        if (!ticket) break;
        const size_t index = free_.back();
        free_.pop_back();
        begin(index, *ticket);
        now = now_ns();
      }
      if (run_.over(now) && (in_flight_ == 0 || now >= give_up_ns)) return;
      const int n = wait(events, std::min(run_.wake_ns(!free_.empty()), now + kSweepNs) - now);
      for (int i = 0; i < n; ++i) handle(events[static_cast<size_t>(i)]);
      if (now - swept_ns > kSweepNs) sweep(swept_ns = now);
    }
  }

 private:
  struct Connection {
    int fd = -1;
    std::unique_ptr<TlsSession> tls;  ///< once connected; null: plain
    bool connecting = false, busy = false, kept = false, retried = false, have_head = false, keep_body = false;
    uint32_t interest = 0;
    LoadRun::Ticket ticket;
    size_t sent = 0;
    std::string head_bytes, body;
    ResponseHead head;
    uint64_t body_left = 0;
    int64_t deadline_ns = 0, rests_until_ns = 0;
  };

  int wait(std::array<epoll_event, 128>& events, int64_t timeout_ns) const {
    timeout_ns = std::max<int64_t>(0, timeout_ns);
    const timespec timeout{timeout_ns / kSecondNs, timeout_ns % kSecondNs};
    int n = ::epoll_pwait2(epoll_, events.data(), events.size(), &timeout, nullptr);
    if (n < 0 && errno == ENOSYS)  // Linux before 5.11: to the millisecond
      n = ::epoll_wait(epoll_, events.data(), events.size(), static_cast<int>((timeout_ns + 999'999) / 1'000'000));
    return n;
  }

  void want(size_t index, uint32_t interest) {
    Connection& c = connections_[index];
    if (c.interest == interest) return;
    epoll_event event{interest, {.u64 = index}};
    ::epoll_ctl(epoll_, c.interest == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c.fd, &event);
    c.interest = interest;
  }

  void begin(size_t index, const LoadRun::Ticket& ticket) {
    Connection& c = connections_[index];
    ++in_flight_;
    c.busy = true;
    c.retried = false;
    c.ticket = ticket;
    c.deadline_ns = ticket.sent_ns + static_cast<int64_t>(options_.timeout_seconds * 1e9);
    transmit(index);
  }

  void transmit(size_t index) {
    Connection& c = connections_[index];
    c.sent = 0;
    c.have_head = false;
    c.head_bytes.clear();
    c.body.clear();
    if (c.fd >= 0) return send(index);
    c.kept = false;
    c.fd = address_.connect();
    if (c.fd < 0) return broken(index, "connect", std::strerror(errno));
    c.interest = 0;
    c.connecting = true;
    want(index, EPOLLIN | EPOLLOUT);
  }

  void send(size_t index) {
    Connection& c = connections_[index];
    const LoadSample& sample = samples_[c.ticket.sample];
    const std::string& head = heads_[c.ticket.sample];
    while (true) {
      std::array<iovec, kMaxParts> parts;
      size_t count = 0, skip = c.sent;
      const auto add = [&](const void* data, size_t size) {
        const size_t gone = std::min(skip, size);
        skip -= gone;
        if (gone < size && count < kMaxParts)
          parts[count++] = {const_cast<char*>(static_cast<const char*>(data)) + gone, size - gone};
      };
      add(head.data(), head.size());
      add(sample.picture.data(), options_.predict ? sample.picture.size() : 0);
      if (!options_.predict)
        for (const WireTensor& t : sample.inputs) add(t.bytes.data(), t.bytes.size());
      if (count == 0) return want(index, EPOLLIN);
      if (c.tls) {
        const TlsSession::Step step = c.tls->write({parts.data(), count});
        if (step.broken() && !c.tls->established()) return broken(index, "tls", c.tls->failure());
        if (step.bytes < 0) return want(index, step.waits_for == POLLOUT ? EPOLLIN | EPOLLOUT : EPOLLIN);
        c.sent += static_cast<size_t>(step.bytes);
        continue;
      }
      msghdr message{};
      message.msg_iov = parts.data();
      message.msg_iovlen = count;
      const ssize_t n = ::sendmsg(c.fd, &message, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return want(index, EPOLLIN | EPOLLOUT);
      // A server that refuses early may have answered before it closed: the response tells more.
      if (n < 0) return want(index, EPOLLIN);
      c.sent += static_cast<size_t>(n);
    }
  }

  void handle(const epoll_event& event) {
    const auto index = static_cast<size_t>(event.data.u64);
    Connection& c = connections_[index];
    if (c.fd < 0) return;
    if (c.connecting) {
      int error = 0;
      socklen_t length = sizeof error;
      ::getsockopt(c.fd, SOL_SOCKET, SO_ERROR, &error, &length);
      if (error != 0) return broken(index, "connect", std::strerror(error));
      if ((event.events & EPOLLOUT) == 0) return;
      c.connecting = false;
      if (tls_context_) c.tls = std::make_unique<TlsSession>(tls_context_.get(), c.fd, host_);
      return send(index);
    }
    if (c.busy && c.tls && !c.tls->established()) return send(index);
    if ((event.events & EPOLLOUT) != 0 && c.busy) send(index);
    if (c.fd >= 0 && (event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive(index);
  }

  void receive(size_t index) {
    Connection& c = connections_[index];
    if (!c.tls) {
      const ssize_t n = ::recv(c.fd, buffer_.data(), buffer_.size(), 0);
      if (n >= 0 || (errno != EAGAIN && errno != EINTR)) take(index, n);
      return;
    }
    while (c.tls) {
      const TlsSession::Step step = c.tls->read(std::as_writable_bytes(std::span(buffer_)));
      if (step.waits_for != 0) return;
      if (step.bytes < 0) errno = ECONNRESET;
      take(index, step.bytes);
    }
  }

  /// `n` bytes came, or as recv says.
  void take(size_t index, ssize_t n) {
    Connection& c = connections_[index];
    if (!c.busy) return close(c);  // an idle connection that the server ends
    if (n == 0 && c.have_head && c.head.until_close) return complete(index);
    if (n <= 0) return broken(index, "closed", n == 0 ? "the connection was closed" : std::strerror(errno));
    std::string_view bytes(buffer_.data(), static_cast<size_t>(n));
    if (!c.have_head) {
      const bool first = c.head_bytes.empty();
      if (!first) bytes = c.head_bytes.append(bytes);
      const HeadState state = parse_response_head(bytes, c.head);
      if (state == HeadState::kMalformed) return broken(index, "malformed", "the answer is no HTTP with a length");
      if (state == HeadState::kIncomplete) {
        if (first) c.head_bytes = bytes;
        return;
      }
      c.have_head = true;
      c.body_left = c.head.body_bytes;
      c.keep_body = c.head.status != 200 || options_.on_scores;
      if (c.keep_body && c.body_left > kMaxKeptBytes) return broken(index, "malformed", "the answer is too long");
      bytes.remove_prefix(c.head.head_bytes);
    }
    if (c.head.until_close) {
      if (c.body.size() < kMaxKeptBytes) c.body += bytes;
      return;
    }
    if (bytes.size() > c.body_left) return broken(index, "malformed", "bytes follow the answer");
    if (c.keep_body) c.body += bytes;
    c.body_left -= bytes.size();
    if (c.body_left == 0) complete(index);
  }

  void complete(size_t index) {
    Connection& c = connections_[index];
    const int64_t now = now_ns();
    LoadOutcome outcome;
    std::string kind;
    std::vector<float> scores;
    if (c.head.status != 200) {
      kind = std::to_string(c.head.status);
      outcome.text = c.body;
    } else if (options_.on_scores) {
      if (read_scores(c.body, c.head.inference_header_bytes, scores, outcome.version)) {
        outcome.scores = scores;
      } else {
        kind = "malformed";
        outcome.text = "the answer holds no binary output";
      }
    }
    outcome.error = kind;
    c.kept = true;
    const bool sending = (c.interest & EPOLLOUT) != 0;  // it answered before it had the whole request
    if (!c.head.keep_alive || sending) close(c);
    finish(index, now, outcome);
  }

  void broken(size_t index, std::string_view kind, std::string_view text) {
    Connection& c = connections_[index];
    const bool stale = c.kept && !c.retried && !c.have_head && c.head_bytes.empty() && kind == "closed";
    close(c);
    if (stale) {
      c.retried = true;
      return transmit(index);
    }
    const int64_t now = now_ns();
    if ((kind == "connect" || kind == "tls") && options_.rate <= 0) c.rests_until_ns = now + kRestNs;
    finish(index, now, {.error = kind, .text = text});
  }

  void finish(size_t index, int64_t now, const LoadOutcome& outcome) {
    Connection& c = connections_[index];
    c.busy = false;
    --in_flight_;
    run_.finish(c.ticket, now, outcome);
    if (c.rests_until_ns == 0) free_.push_back(index);
  }

  void close(Connection& c) {
    if (c.tls) c.tls->end();
    c.tls.reset();
    if (c.fd >= 0) ::close(c.fd);
    c.fd = -1;
    c.interest = 0;
    c.connecting = false;
  }

  void sweep(int64_t now) {
    for (size_t i = 0; i < connections_.size(); ++i) {
      Connection& c = connections_[i];
      if (c.busy && now >= c.deadline_ns) {
        broken(i, "timeout", "no answer in time");
      } else if (c.rests_until_ns != 0 && now >= c.rests_until_ns) {
        c.rests_until_ns = 0;
        free_.push_back(i);
      }
    }
  }

  const LoadOptions& options_;
  const std::vector<LoadSample>& samples_;
  LoadRun& run_;
  std::string host_;
  SocketAddress address_;
  std::shared_ptr<ssl_ctx_st> tls_context_;  ///< null: plain
  std::vector<std::string> heads_;
  std::vector<Connection> connections_;
  std::vector<size_t> free_;  ///< last in, first out: a low rate keeps few connections warm
  std::vector<char> buffer_ = std::vector<char>(256 << 10);
  int epoll_ = -1, slack_ = 0;
  int64_t in_flight_ = 0;
};

}  // namespace

void load_over_http(const Url& url, const LoadOptions& options, const std::vector<LoadSample>& samples, LoadRun& run) {
  HttpLoad(url, options, samples, run).run();
}

}  // namespace slipway
