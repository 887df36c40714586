// What the data plane answers: routes of the Open Inference Protocol v2 over REST with Triton's extensions, and
// POST /predict. Everything but inference, loading and pictures is answered on the connection's thread. Pictures are
// decoded by threads of their own, for one of them may take a second.
#include "serve/http/http_plane.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <charconv>
#include <exception>
#include <functional>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/url.h"
#include "serve/admin/admin_client.h"
#include "serve/http/form_data.h"
#include "serve/http/http_listener.h"
#include "serve/json/infer_codec.h"
#include "serve/json/model_json.h"
#include "serve/predict.h"
#include "serve/server.h"

namespace slipway {

namespace {

using nlohmann::ordered_json;
using Segments = std::vector<std::string>;

constexpr int kPictureThreads = 2, kMaxWaitingPictures = 64;
constexpr int64_t kMaxShownElements = 4096;  ///< of the outputs that /predict answers with as numbers

template <typename Json>
HttpReply json_reply(const Json& json) {
  return {.body = json.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

HttpReply not_ready(const char* what) { return error_reply(400, fmt::format("The {} is not ready", what)); }

HttpReply reply_of(const Error& error) { return error_reply(http_status(error.code()), error.what()); }

HttpReply response_error(const InferResponse& response) {
  HttpReply reply = error_reply(http_status(*response.error), response.message);
  if (reply.status == 503)
    reply.headers = fmt::format("Retry-After: {}\r\n", std::max<int64_t>(1, response.retry_after_s));
  return reply;
}

/// A request that never reached its version's queue counts as one of its errors all the same: as its caller's, unless
/// the server is full or lacks memory.
void count_refused(const Target& target, ErrorCode code) {
  if (code != ErrorCode::kOverloaded && code != ErrorCode::kOutOfMemory) code = ErrorCode::kInvalidArgument;
  VariantMetrics& metrics = target.version->metrics().variants[static_cast<size_t>(target.variant)];
  metrics.requests.fetch_add(1, std::memory_order_relaxed);
  metrics.errors[static_cast<size_t>(code)].fetch_add(1, std::memory_order_relaxed);
}

std::string version_headers(int64_t version, Variant variant) {
  return fmt::format("X-Slipway-Version: {}\r\nX-Slipway-Variant: {}\r\n", version, to_string(variant));
}

/// Answers from a computing thread, where nothing may be thrown.
template <typename Make>
void answer(HttpExchange& exchange, Make make) noexcept {
  const auto guarded = [&]() -> HttpReply {
    try {
      return make();
    } catch (const Error& error) {
      return reply_of(error);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      log_error("A response could not be written: {}", error.what());
      return error_reply(500, "The response could not be written; see the server's log");
    }
  };
  try {
    exchange.respond(guarded());
  } catch (const std::bad_alloc&) {
    exchange.respond(memory_reply());
  }
}

std::optional<size_t> json_bytes(const HttpRequest& http) {
  constexpr const char* kName = "Inference-Header-Content-Length";
  if (!http.has_header(kName)) return std::nullopt;
  const std::string_view text = http.header(kName);
  size_t bytes = 0;
  const auto end = text.data() + text.size();
  if (std::from_chars(text.data(), end, bytes) != std::from_chars_result{end, std::errc()})
    fail(ErrorCode::kInvalidArgument, "{} must be the number of bytes of the JSON part: '{}'", kName, text);
  if (bytes > http.body.size())
    fail(ErrorCode::kInvalidArgument, "{} is larger than the body: {} of {} bytes", kName, bytes, http.body.size());
  return bytes;
}

/// What the canary's assignment hashes, from the header that the configuration names.
std::string_view sticky_header(const HttpRequest& http, const Target& target) {
  const std::string& name = target.version->config().sticky_header;
  return name.empty() ? std::string_view() : http.header(name);
}

/// The version by what the caller is known by, once it is: by chance until then.
void assign(const Server& server, std::string_view model, Target& target, const InferRequest& request) {
  if (target.variant == Variant::kPinned || request.sticky.empty()) return;
  target = server.target(model, {}, request.sticky);
}

/// A classifier's best classes; of another model the outputs, as in an infer response. Of large ones the names and
/// shapes, and where they are to be had.
ordered_json prediction_json(const Prediction& prediction) {
  const InferResponse& response = prediction.response;
  ordered_json json{{"model", response.model}, {"version", response.version}};
  if (!prediction.top.empty()) {
    ordered_json top = ordered_json::array();
    for (const ClassConfidence& c : prediction.top)
      top.push_back({{"class", c.index}, {"label", c.label}, {"confidence", c.confidence}});
    json["label"] = top[0]["label"];
    json["class"] = top[0]["class"];
    json["confidence"] = top[0]["confidence"];
    json["top"] = std::move(top);
  } else {
    int64_t elements = 0;
    for (const WireTensor& t : response.outputs) elements += element_count(t.dims);
    if (elements <= kMaxShownElements) {
      json["outputs"] = ordered_json::parse(encode_infer(response, {}).json).at("outputs");
    } else {
      for (const WireTensor& t : response.outputs)
        json["outputs"].push_back({{"name", t.name}, {"datatype", datatype_name(t.dtype)}, {"shape", t.dims}});
      json["data"] =
          fmt::format("POST /v2/models/{}/versions/{}/infer", percent_encode(response.model), response.version);
    }
  }
  if (!response.id.empty()) json["id"] = response.id;
  return json;
}

/// A picture alone, in a form or in JSON; of a model with several inputs each part of a form is one, by its name.
DecodedPredict predict_body(const HttpRequest& http, bool several) {
  DecodedPredict decoded;
  const std::span<const std::byte> body = http.body;
  const auto first = std::find_if(body.begin(), body.end(), [](std::byte b) { return b > std::byte{' '}; });
  if (const auto parts = form_parts(http.header("content-type"), body); parts && several) {
    for (const FormPart& part : *parts) {
      PredictValue value{.input = std::string(part.name), .file = part.content};
      if (const auto array = json_array(part.content)) value.array = *array;
      decoded.values.push_back(std::move(value));
    }
  } else if (parts) {
    decoded.values.push_back({.file = form_file(*parts)});
  } else if (first != body.end() && *first == std::byte{'{'}) {
    decoded = decode_predict(body);
  } else {
    decoded.values.push_back({.file = body});
  }
  return decoded;
}

std::string query_value(const RequestTarget& target, const char* key) {
  const auto found = target.query.find(key);
  return found == target.query.end() ? std::string() : found->second;
}

void wrong_method(HttpExchange& exchange, std::string_view allowed) {
  HttpReply reply = error_reply(405, fmt::format("This address takes {} only", allowed));
  reply.headers = fmt::format("Allow: {}\r\n", allowed);
  exchange.respond(std::move(reply));
}

void unknown_path(HttpExchange& exchange, const RequestTarget& target) {
  exchange.respond(error_reply(
      404, fmt::format("There is nothing at this address; {}: {}",
                       target.path.starts_with("/api/") ? "this is the HTTP port, rollouts are the admin port's"
                                                        : "see GET /v2 and /v2/models/NAME",
                       target.path)));
}

/// The JSON object of a control request's body; an empty body is an empty object.
nlohmann::json control_body(const HttpRequest& request) {
  if (request.body.empty()) return nlohmann::json::object();
  const auto* text = reinterpret_cast<const char*>(request.body.data());
  // The parser recurses into brackets no further than this.
  constexpr int kMaxDepth = 16;
  bool too_deep = false;
  nlohmann::json body = nlohmann::json::parse(
      text, text + request.body.size(),
      [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) { return !(too_deep |= depth > kMaxDepth); },
      false);
  if (too_deep || !body.is_object())
    fail(ErrorCode::kInvalidArgument, "The body must be a JSON object, nested no deeper than {}", kMaxDepth);
  return body;
}

}  // namespace

struct HttpPlane::Impl {
  Impl(Server& s, HttpOptions o)
      : server(s),
        admin_token(o.admin_token),
        loopback(is_loopback(o.host)),
        listener({.host = o.host,
                  .port = o.port,
                  .threads = o.threads,
                  .limits = {.max_body_bytes = o.max_body_bytes, .max_header_bytes = o.max_header_bytes},
                  .max_connections = o.max_connections,
                  .idle_timeout_ms = o.idle_timeout_ms,
                  .read_timeout_ms = o.read_timeout_ms,
                  .tls = o.tls},
                 [this](std::shared_ptr<HttpExchange> exchange) { route(std::move(exchange)); }) {}

  void route(std::shared_ptr<HttpExchange> exchange);
  void get(HttpExchange& exchange, const std::function<HttpReply()>& make);
  void infer(std::shared_ptr<HttpExchange> exchange, const std::string& model, const std::string& version);
  void predict_picture(std::shared_ptr<HttpExchange> exchange, const RequestTarget& target);
  void answer_picture(const std::shared_ptr<HttpExchange>& exchange, const Target& target,
                      InferRequest&& request) noexcept;
  void repository_index(HttpExchange& exchange);
  void change_repository(std::shared_ptr<HttpExchange> exchange, const std::string& model, bool load);
  bool post_only(HttpExchange& exchange);

  Server& server;
  std::string admin_token;
  bool loopback;
  boost::asio::thread_pool control{4};  // loads and unloads, of several models at once
  boost::asio::thread_pool pictures{kPictureThreads};
  std::atomic<int> waiting_pictures{0};
  HttpListener listener;
};

void HttpPlane::Impl::get(HttpExchange& exchange, const std::function<HttpReply()>& make) {
  const std::string_view method = exchange.request().method;
  if (method != "GET" && method != "HEAD") return wrong_method(exchange, "GET, HEAD");
  exchange.respond(make());
}

bool HttpPlane::Impl::post_only(HttpExchange& exchange) {
  if (exchange.request().method == "POST") return true;
  wrong_method(exchange, "POST");
  return false;
}

void HttpPlane::Impl::route(std::shared_ptr<HttpExchange> exchange) {
  const RequestTarget target = parse_target(exchange->request().target);
  const Segments& s = target.segments;
  const auto is = [&](size_t i, std::string_view name) { return i < s.size() && s[i] == name; };
  if (s.size() == 1 && is(0, "predict")) {
    if (post_only(*exchange)) predict_picture(std::move(exchange), target);
  } else if (!is(0, "v2")) {
    unknown_path(*exchange, target);
  } else if (s.size() == 1) {
    get(*exchange, [] { return json_reply(server_metadata_json()); });
  } else if (s.size() == 3 && is(1, "health") && is(2, "live")) {
    get(*exchange, [&] { return server.live() ? HttpReply() : not_ready("server"); });
  } else if (s.size() == 3 && is(1, "health") && is(2, "ready")) {
    get(*exchange, [&] { return server.ready() ? HttpReply() : not_ready("server"); });
  } else if (s.size() == 3 && is(1, "models") && is(2, "stats")) {
    get(*exchange, [&] { return json_reply(statistics_json(server)); });
  } else if (s.size() == 3 && is(1, "repository") && is(2, "index")) {
    if (post_only(*exchange)) repository_index(*exchange);
  } else if (s.size() == 5 && is(1, "repository") && is(2, "models") && (is(4, "load") || is(4, "unload"))) {
    if (post_only(*exchange)) change_repository(std::move(exchange), s[3], is(4, "load"));
  } else if (s.size() >= 3 && is(1, "models")) {
    std::span<const std::string> rest = std::span(s).subspan(3);
    std::string version;
    if (rest.size() >= 2 && rest[0] == "versions") {
      version = rest[1];
      rest = rest.subspan(2);
    }
    const std::string& model = s[2];
    const std::string_view verb = rest.empty() ? std::string_view() : rest[0];
    if (rest.size() == 1 && verb == "infer") {
      if (post_only(*exchange)) infer(std::move(exchange), model, version);
    } else if (rest.empty()) {
      get(*exchange, [&] { return json_reply(model_metadata_json(server, model, version)); });
    } else if (rest.size() == 1 && verb == "ready") {
      get(*exchange, [&] { return server.ready(model, version) ? HttpReply() : not_ready("model"); });
    } else if (rest.size() == 1 && verb == "config") {
      get(*exchange, [&] { return json_reply(model_config_json(server, model, version)); });
    } else if (rest.size() == 1 && verb == "stats") {
      get(*exchange, [&] { return json_reply(statistics_json(server, model, version)); });
    } else {
      unknown_path(*exchange, target);
    }
  } else {
    unknown_path(*exchange, target);
  }
}

void HttpPlane::Impl::infer(std::shared_ptr<HttpExchange> exchange, const std::string& model,
                            const std::string& version) {
  const HttpRequest& http = exchange->request();
  Target target = server.target(model, version, {});
  DecodedInfer decoded;
  try {
    // By what the live version takes: where a candidate takes less, that is its fault and shows when it is asked.
    decoded = decode_infer(http.body, json_bytes(http), http.body_owner, target.live ? *target.live : *target.version);
  } catch (const Error& error) {
    count_refused(target, error.code());
    throw;
  } catch (const std::bad_alloc&) {
    count_refused(target, ErrorCode::kOutOfMemory);
    throw;
  }
  InferRequest& request = decoded.request;
  request.arrival_ns = http.arrival_ns;
  if (decoded.timeout_us > 0)
    request.deadline_ns = http.arrival_ns + std::min<int64_t>(decoded.timeout_us, INT64_MAX / 4000) * 1000;
  request.sticky = sticky_header(http, target);
  if (request.sticky.empty()) request.sticky = decoded.sticky_parameter;
  if (request.sticky.empty()) request.sticky = request.id;
  assign(server, model, target, request);
  server.infer(target, std::move(request),
               [exchange = std::move(exchange), encoding = std::move(decoded.encoding),
                variant = target.variant](InferResponse&& response) {
                 answer(*exchange, [&] {
                   if (response.error) {
                     HttpReply reply = response_error(response);
                     if (response.version) reply.headers += version_headers(response.version, variant);
                     return reply;
                   }
                   EncodedInfer encoded = encode_infer(response, encoding);
                   HttpReply reply{.headers = version_headers(response.version, variant),
                                   .body = std::move(encoded.json),
                                   .tail = std::move(encoded.tail),
                                   .owner = std::move(encoded.owner)};
                   if (encoded.binary) {
                     reply.content_type = "application/octet-stream";
                     reply.headers += fmt::format("Inference-Header-Content-Length: {}\r\n", reply.body.size());
                   }
                   return reply;
                 });
               });
}

void HttpPlane::Impl::predict_picture(std::shared_ptr<HttpExchange> exchange, const RequestTarget& address) {
  const HttpRequest& http = exchange->request();
  const std::string model = query_value(address, "model");
  Target target = server.target(model, query_value(address, "version"), {});
  InferRequest request{.id = query_value(address, "id"), .arrival_ns = http.arrival_ns};
  request.sticky = sticky_header(http, target);
  if (request.sticky.empty()) request.sticky = request.id;
  assign(server, model, target, request);
  if (waiting_pictures.fetch_add(1) >= kMaxWaitingPictures) {
    waiting_pictures.fetch_sub(1);
    count_refused(target, ErrorCode::kOverloaded);
    fail(ErrorCode::kOverloaded, "Too many pictures wait to be decoded; retry later ({} do)", kMaxWaitingPictures);
  }
  try {
    boost::asio::post(pictures, [this, exchange = std::move(exchange), target = std::move(target),
                                 request = std::move(request)]() mutable noexcept {
      answer_picture(exchange, target, std::move(request));
      waiting_pictures.fetch_sub(1);
    });
  } catch (const std::bad_alloc&) {
    waiting_pictures.fetch_sub(1);
    throw;
  }
}

void HttpPlane::Impl::answer_picture(const std::shared_ptr<HttpExchange>& exchange, const Target& target,
                                     InferRequest&& request) noexcept {
  std::exception_ptr failure;
  try {
    const HttpRequest& http = exchange->request();
    DecodedPredict decoded = predict_body(http, target.version->inputs().size() > 1);
    return predict(server, target, decoded.values, std::move(request),
                   [exchange, variant = target.variant](Prediction&& prediction) {
                     answer(*exchange, [&] {
                       if (prediction.response.error) return response_error(prediction.response);
                       HttpReply reply = json_reply(prediction_json(prediction));
                       reply.headers = version_headers(prediction.response.version, variant);
                       return reply;
                     });
                   });
  } catch (const Error& error) {
    count_refused(target, error.code());
    failure = std::current_exception();
  } catch (const std::bad_alloc&) {
    count_refused(target, ErrorCode::kOutOfMemory);
    failure = std::current_exception();
  } catch (const std::exception&) {
    failure = std::current_exception();
  }
  answer(*exchange, [&]() -> HttpReply { std::rethrow_exception(failure); });
}

void HttpPlane::Impl::repository_index(HttpExchange& exchange) {
  const nlohmann::json body = control_body(exchange.request());
  const auto ready = body.find("ready");
  if (ready != body.end() && !ready->is_boolean()) fail(ErrorCode::kInvalidArgument, "\"ready\" must be true or false");
  exchange.respond(json_reply(repository_index_json(server, ready != body.end() && ready->get<bool>())));
}

void HttpPlane::Impl::change_repository(std::shared_ptr<HttpExchange> exchange, const std::string& model, bool load) {
  const HttpRequest& http = exchange->request();
  if (!server.options().explicit_control && !bearer_matches(http, admin_token))
    return exchange->respond(error_reply(
        403,
        admin_token.empty()
            ? "Models are not loaded or unloaded from here; start the server with --model-control explicit or with "
              "an admin token"
            : "Loading and unloading need the header Authorization: Bearer and the server's admin token"));
  // Programs send no Origin; what a page of another site can send unasked has one, and is never JSON.
  if (is_foreign(http, loopback && admin_token.empty()))
    return exchange->respond(error_reply(403, "Models are not loaded or unloaded for another site's pages"));
  if (http.has_header("content-type") ? !has_json(http) : http.has_header("origin"))
    return exchange->respond(error_reply(415, "Loading and unloading need the header Content-Type: application/json"));
  const nlohmann::json body = control_body(http);
  if (const auto parameters = body.find("parameters"); parameters != body.end()) {
    if (!parameters->is_object()) fail(ErrorCode::kInvalidArgument, "\"parameters\" must be an object");
    for (const auto& [name, value] : parameters->items())
      if (name == "config" || name.starts_with("file:"))
        fail(ErrorCode::kInvalidArgument,
             "A model is never taken from a request; put its files into the repository and leave out: {}",
             name.substr(0, 64));
  }
  boost::asio::post(control, [this, exchange = std::move(exchange), model, load] {
    answer(*exchange, [&] {
      if (load)
        server.load(model);
      else
        server.unload(model);
      return HttpReply();
    });
  });
}

HttpPlane::HttpPlane(Server& server, HttpOptions options) : impl_(new Impl(server, std::move(options))) {}
HttpPlane::~HttpPlane() { stop(); }
void HttpPlane::start() { impl_->listener.start(); }
void HttpPlane::drain() { impl_->listener.drain(); }
bool HttpPlane::finish(int64_t until_ns) { return impl_->listener.finish(until_ns); }
void HttpPlane::stop() {
  impl_->listener.stop();
  impl_->control.join();
  impl_->pictures.join();
}
uint16_t HttpPlane::port() const { return impl_->listener.port(); }

}  // namespace slipway
