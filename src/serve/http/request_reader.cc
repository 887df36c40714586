// Reads requests with Beast's parser (RFC 9112). The head is parsed where it landed and stays there, since the
// request's strings point into it; a body of known length bypasses the parser, a chunked one goes through it.
//
//   in_:  [ head | bytes not yet looked at | room ]
//         0   head_end_   parsed_ … end_
//
// What two parsers might understand differently is refused: Content-Length beside Transfer-Encoding, any coding but
// chunked alone, chunks in HTTP/1.0, folded headers.
#include "serve/http/request_reader.h"

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "serve/http/body_buffer.h"
#include "serve/http/compression.h"

namespace slipway {

namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using beast::error_code;

constexpr size_t kSlackBytes = 4096;        // beyond a head: small bodies arrive with it in one read
constexpr size_t kKeptBodyBytes = 1 << 20;  // a larger buffer is not kept for the next request
constexpr std::string_view kChunked = "chunked";

std::string_view view(beast::string_view s) { return {s.data(), s.size()}; }

bool same_word(std::string_view a, std::string_view b) {
  return beast::iequals({a.data(), a.size()}, {b.data(), b.size()});
}

class Parser final : public http::basic_parser<true> {
 public:
  Parser(HttpRequest& request, BodyBuffer& body, const HttpLimits& limits) : request_(request), body_(body) {
    header_limit(limits.max_header_bytes);
    body_limit(limits.max_body_bytes);
  }

 private:
  void on_request_impl(http::verb, beast::string_view method, beast::string_view target, int version,
                       error_code&) override {
    request_.method = view(method);
    request_.target = view(target);
    request_.http_1_0 = version == 10;
  }
  void on_field_impl(http::field, beast::string_view name, beast::string_view value, error_code&) override {
    if (head_done_) return;  // a trailer
    request_.headers.push_back({view(name), view(value)});
  }
  void on_header_impl(error_code&) override { head_done_ = true; }
  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view bytes, error_code&) override {
    body_.append(std::as_bytes(std::span(bytes.data(), bytes.size())));
    return bytes.size();
  }
  std::size_t on_body_impl(beast::string_view bytes, error_code&) override { return bytes.size(); }
  void on_response_impl(int, beast::string_view, int, error_code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) override {}
  void on_chunk_header_impl(std::uint64_t, beast::string_view, error_code&) override {}
  void on_finish_impl(error_code&) override {}

  HttpRequest& request_;
  BodyBuffer& body_;
  bool head_done_ = false;
};

}  // namespace

struct RequestReader::Impl {
  HttpLimits limits;
  size_t capacity = limits.max_header_bytes + kSlackBytes;
  std::unique_ptr<std::byte[]> in = std::make_unique_for_overwrite<std::byte[]>(capacity);
  size_t head_end = 0, parsed = 0, end = 0;
  State state = State::kHead;
  HttpRequest request;
  HttpReply refusal;
  BodyBuffer body;
  uint64_t body_bytes = 0;
  bool chunked = false, expects_continue = false;
  ContentCoding coding = ContentCoding::kIdentity;
  std::optional<Parser> parser;

  void refuse(int status, std::string_view message) {
    state = State::kRefused;
    request.keep_alive = false;
    refusal = error_reply(status, message);
    refusal.close = true;
  }

  void refuse(error_code ec) {
    if (ec == http::error::body_limit)
      return refuse(413,
                    fmt::format("The body is too large; the server takes at most {} bytes", limits.max_body_bytes));
    if (ec == http::error::header_limit) return refuse_head();
    refuse(400, fmt::format("This is no HTTP/1.1 request that can be understood: {}", ec.message()));
  }

  void refuse_head() {
    refuse(431, fmt::format("The request's head is too large; the server takes at most {} bytes of headers",
                            limits.max_header_bytes));
  }

  void start() {
    head_end = parsed = 0;
    state = State::kHead;
    request.method = request.target = {};
    request.headers.clear();
    request.body = {};
    request.body_owner.reset();
    request.keep_alive = false;
    chunked = expects_continue = false;
    body_bytes = 0;
    parser.emplace(request, body, limits);
  }

  void parse() {
    // An empty line before a request is forgiven (RFC 9112, section 2.2).
    while (!parser->got_some() && parsed < end && (in[parsed] == std::byte{'\r'} || in[parsed] == std::byte{'\n'}))
      ++parsed;
    while (parsed < end && state != State::kComplete && state != State::kRefused) {
      error_code ec;
      parsed += parser->put({in.get() + parsed, end - parsed}, ec);
      if (ec == http::error::need_more) break;
      if (ec) return refuse(ec);
      if (state == State::kHead && parser->is_header_done()) {
        on_head();
        if (!chunked) return;
      } else if (chunked && parser->is_done()) {
        on_body();
      }
    }
    if (state == State::kHead && end >= limits.max_header_bytes) return refuse_head();
    if (state != State::kBody) return;
    std::memmove(in.get() + head_end, in.get() + parsed, end - parsed);
    end -= parsed - head_end;
    parsed = head_end;
    if (end == capacity) refuse(400, "A chunk's header or the trailer is too long; leave out extensions and trailers");
  }

  /// A header's line that goes on in the next one (obs-fold).
  bool is_folded() const {
    const std::string_view head(reinterpret_cast<const char*>(in.get()), head_end);
    for (size_t at = head.find('\n'); at != std::string_view::npos; at = head.find('\n', at + 1))
      if (at + 1 < head.size() && (head[at + 1] == ' ' || head[at + 1] == '\t')) return true;
    return false;
  }

  void on_head() {
    head_end = parsed;
    if (head_end > limits.max_header_bytes) return refuse_head();
    if (is_folded()) return refuse(400, "A header goes on in the next line; write each in one line");
    request.keep_alive = parser->keep_alive();
    chunked = parser->chunked();
    if (request.has_header("transfer-encoding") &&
        (!chunked || request.http_1_0 || !same_word(request.header("transfer-encoding"), kChunked)))
      return refuse(400, "The only transfer coding taken is chunked, alone and over HTTP/1.1");
    const std::optional<ContentCoding> given = parse_content_coding(request.header("content-encoding"));
    if (!given)
      return refuse(415, fmt::format("The body's coding is unknown; send gzip, deflate or none, not {}",
                                     request.header("content-encoding")));
    coding = *given;
    if (request.has_header("expect")) {
      if (!same_word(request.header("expect"), "100-continue"))
        return refuse(417, "The only expectation met is 100-continue");
      expects_continue = true;
    }
    state = State::kBody;
    if (chunked) return body.start(0);
    body_bytes = parser->content_length().value_or(0);
    body.start(body_bytes);
    const size_t here = std::min<uint64_t>(body_bytes, end - parsed);
    if (here) std::memcpy(body.bytes.get(), in.get() + parsed, here);
    parsed += here;
    if (parsed == end) parsed = end = head_end;  // makes room for the next request beside this one's head
    body.size = here;
    if (body.size == body_bytes) on_body();
  }

  void on_body() {
    if (coding != ContentCoding::kIdentity && body.size) {
      std::optional<BodyBuffer> unpacked = unpack(coding, body.view(), limits.max_body_bytes);
      if (!unpacked)
        return refuse(413, fmt::format("The body is too large once unpacked; the server takes at most {} bytes",
                                       limits.max_body_bytes));
      body = std::move(*unpacked);
    }
    request.body = body.view();
    request.body_owner = body.bytes;
    request.arrival_ns = now_ns();
    state = State::kComplete;
  }

  template <typename Step>
  void guarded(Step step) {
    try {
      step();
    } catch (const Error& error) {
      refuse(http_status(error.code()), error.what());
    } catch (const std::bad_alloc&) {
      refuse(503, "There is no memory for the request now; try again later");
    }
  }
};

RequestReader::RequestReader(HttpLimits limits) : impl_(new Impl{.limits = limits}) { impl_->start(); }
RequestReader::~RequestReader() = default;

std::span<std::byte> RequestReader::room() {
  Impl& r = *impl_;
  if (r.state == State::kBody && !r.chunked) return {r.body.bytes.get() + r.body.size, r.body_bytes - r.body.size};
  return {r.in.get() + r.end, r.capacity - r.end};
}

void RequestReader::received(size_t count) {
  Impl& r = *impl_;
  if (r.state == State::kBody && !r.chunked) {
    r.body.size += count;
    if (r.body.size == r.body_bytes) r.guarded([&] { r.on_body(); });
    return;
  }
  r.end += count;
  if (r.state == State::kHead || r.state == State::kBody) r.guarded([&] { r.parse(); });
}

RequestReader::State RequestReader::state() const { return impl_->state; }
const HttpRequest& RequestReader::request() const { return impl_->request; }
const HttpReply& RequestReader::refusal() const { return impl_->refusal; }
bool RequestReader::idle() const {
  return (impl_->state == State::kHead || impl_->state == State::kComplete) && impl_->parsed == impl_->end &&
         (impl_->state == State::kComplete || !impl_->parser->got_some());
}

bool RequestReader::wants_continue() {
  return impl_->state == State::kBody && std::exchange(impl_->expects_continue, false);
}

void RequestReader::next() {
  Impl& r = *impl_;
  std::memmove(r.in.get(), r.in.get() + r.parsed, r.end - r.parsed);
  r.end -= r.parsed;
  if (r.body.capacity > kKeptBodyBytes) r.body = {};
  r.start();
  r.guarded([&] { r.parse(); });
}

void RequestReader::release_memory() {
  impl_->request.body = {};
  impl_->request.body_owner.reset();
  impl_->body = {};
}

}  // namespace slipway
