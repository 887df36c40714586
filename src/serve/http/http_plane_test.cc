#include "serve/http/http_plane.h"

#include <nlohmann/json.hpp>
#include <thread>

#include "base/base64.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "data/image.h"
#include "serve/http/http_testing.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

using nlohmann::json;

struct Plane {
  explicit Plane(const std::vector<std::shared_ptr<ModelVersion>>& versions, HttpOptions options = {},
                 bool started = true)
      : server(make_server(versions)), http(*server, at_any_port(std::move(options))) {
    if (started) http.start();
  }
  static HttpOptions at_any_port(HttpOptions options) {
    options.port = 0;
    return options;
  }
  uint16_t port() const { return http.port(); }
  std::unique_ptr<Server> server;
  HttpPlane http;
};

const std::string kInfer = R"({"id":"i7","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]})";

std::string binary_request(const std::vector<float>& values, std::string& head, const char* more = "") {
  const size_t bytes = values.size() * sizeof(float);
  head = fmt::format(
      R"({{"inputs":[{{"name":"x","shape":[{},4],"datatype":"FP32","parameters":{{"binary_data_size":{}}}}}],)"
      R"("parameters":{{"binary_data_output":true{}}}}})",
      values.size() / 4, bytes, more);
  return head + std::string(reinterpret_cast<const char*>(values.data()), bytes);
}

std::string json_length(const std::string& head) {
  return fmt::format("Inference-Header-Content-Length: {}\r\n", head.size());
}

/// y = the mean of each channel of a 3×8×8 picture.
std::shared_ptr<ModelVersion> picture_model() {
  Graph g;
  g.opsets[""] = 13;
  const ValueId x = g.add_input("x", DType::kFloat32, Shape({Dim("N"), Dim(3), Dim(8), Dim(8)}));
  const ValueId pooled = g.add_node({.op_type = "GlobalAveragePool", .name = "pool", .inputs = {x}}, "pooled");
  g.add_output(g.add_node({.op_type = "Flatten", .name = "flatten", .inputs = {pooled}}, "y"));
  infer_shapes(g);
  ModelConfig config;
  config.preprocess = Preprocess{.resize_width = 8, .resize_height = 8};
  config.labels = {"red", "green", "blue"};
  return make_version(std::move(g), "colours", 1, config);
}

TEST(HttpPlane, JsonAndBinaryInferenceAgree) {
  Plane plane({make_version(scaling_graph(2))});
  TestClient client(plane.port());
  const TestResponse plain = client.post("/v2/models/m/infer", kInfer);
  ASSERT_EQ(plain.status, 200) << plain.body;
  EXPECT_EQ(plain.headers.at("content-type"), "application/json");
  EXPECT_EQ(plain.headers.at("x-slipway-version"), "1");
  EXPECT_EQ(plain.headers.at("x-slipway-variant"), to_string(Variant::kStable));
  const json answer = json::parse(plain.body);
  EXPECT_EQ(answer.at("id"), "i7");
  EXPECT_EQ(answer.at("outputs").at(0).at("data").get<std::vector<double>>(), (std::vector<double>{3, 5, 7, 9}));

  std::string head;
  const std::string request = binary_request({1, 2, 3, 4, 5, 6, 7, 8}, head);
  for (const char* path : {"/v2/models/m/infer", "/v2/models/m/versions/1/infer"}) {
    const TestResponse binary = client.post(path, request, json_length(head));
    ASSERT_EQ(binary.status, 200) << binary.body;
    EXPECT_EQ(binary.headers.at("content-type"), "application/octet-stream");
    const size_t length = std::stoul(binary.headers.at("inference-header-content-length"));
    EXPECT_EQ(json::parse(binary.body.substr(0, length)).at("outputs").at(0).at("shape"), json({2, 4}));
    ASSERT_EQ(binary.body.size(), length + 32);
    float y[8];
    std::memcpy(y, binary.body.data() + length, sizeof y);
    EXPECT_EQ(std::vector<float>(y, y + 8), (std::vector<float>{3, 5, 7, 9, 11, 13, 15, 17}));
  }
  EXPECT_EQ(client.post("/v2/models/m/versions/1/infer", kInfer).headers.at("x-slipway-variant"),
            to_string(Variant::kPinned));
}

TEST(HttpPlane, EachAddressAnswers) {
  Plane plane({make_version(scaling_graph(2), "a model/x")});
  TestClient client(plane.port());
  for (const char* path : {"/v2/health/live", "/v2/health/ready", "/v2/models/a%20model%2Fx/ready"}) {
    const TestResponse response = client.get(path);
    EXPECT_EQ(response.status, 200) << path;
    EXPECT_EQ(response.body, "") << path;
  }
  EXPECT_TRUE(json::parse(client.get("/v2").body).contains("extensions"));
  EXPECT_EQ(client.get("/v2/").status, 200);
  for (const std::string model : {"/v2/models/a%20model%2Fx", "/v2/models/a%20model%2Fx/versions/1"}) {
    EXPECT_EQ(json::parse(client.get(model).body).at("name"), "a model/x");
    EXPECT_EQ(json::parse(client.get(model + "/config").body).at("name"), "a model/x");
    EXPECT_EQ(json::parse(client.get(model + "/stats").body).at("model_stats").size(), 1u);
    EXPECT_EQ(client.get(model + "/ready").status, 200);
  }
  EXPECT_EQ(json::parse(client.get("/v2/models/stats").body).at("model_stats").size(), 1u);
  EXPECT_EQ(json::parse(client.post("/v2/repository/index", "").body).size(), 1u);
  EXPECT_EQ(json::parse(client.post("/v2/repository/index", R"({"ready":true})").body).at(0).at("state"), "READY");
}

TEST(HttpPlane, ClientErrorsAreNeverTheServers) {
  Plane plane({make_version(scaling_graph(2)), make_version(scaling_graph(3), "n")});
  TestClient client(plane.port());
  const auto expect = [](const TestResponse& response, int status) {
    EXPECT_EQ(response.status, status) << response.body;
    EXPECT_TRUE(json::parse(response.body).at("error").is_string());
  };
  expect(client.get("/"), 404);
  expect(client.get("/v2/models"), 404);
  expect(client.get("/v2/models/m/nothing"), 404);
  expect(client.get("/v2/models/m/ready/more"), 404);
  expect(client.get("/v2/models/none"), 404);
  expect(client.get("/v2/models/m/versions/9"), 404);
  expect(client.get("/v2/models/m/versions/first"), 400);
  expect(client.get("/v2/models/none/ready"), 404);
  expect(client.get("/v2/%zz"), 400);
  expect(client.get("/v2/models/m/infer"), 405);
  expect(client.post("/v2/models/m", ""), 405);
  EXPECT_EQ(client.post("/v2/health/live", "").headers.at("allow"), "GET, HEAD");
  expect(client.post("/v2/models/none/infer", kInfer), 404);
  expect(client.post("/v2/models/m/infer", ""), 400);
  expect(client.post("/v2/models/m/infer", "{"), 400);
  expect(client.post("/v2/models/m/infer", std::string(100'000, '[')), 400);
  expect(client.post("/v2/models/m/infer", kInfer, "Inference-Header-Content-Length: x\r\n"), 400);
  expect(client.post("/v2/models/m/infer", kInfer, "Inference-Header-Content-Length: 99999\r\n"), 400);
  std::string head;
  const std::string request = binary_request({1, 2, 3, 4}, head);
  expect(client.post("/v2/models/m/infer", request.substr(0, request.size() - 1), json_length(head)), 400);
  expect(client.post("/v2/models/m/infer", request + "x", json_length(head)), 400);
  expect(client.post("/v2/repository/index", "[]"), 400);
  expect(client.post("/v2/repository/index", R"({"ready":1})"), 400);
  expect(client.post("/v2/repository/index", "{\"a\":" + std::string(100'000, '[')), 400);
  expect(client.post("/predict", "x"), 400);
  expect(client.post("/predict?model=m", "x"), 422);
  EXPECT_GE(plane.server->versions("m")[0]->metrics().variants[0].errors[static_cast<int>(ErrorCode::kInvalidArgument)],
            7);
  EXPECT_EQ(client.post("/v2/models/m/infer", kInfer).status, 200);
}

TEST(HttpPlane, PicturesArePredicted) {
  Plane plane({picture_model()});
  TestClient client(plane.port());
  const auto png = read_file(SLIPWAY_SOURCE_DIR "/tests/corpus/image_fuzz/rgb.png");
  const std::string bytes(reinterpret_cast<const char*>(png.data()), png.size());
  const TestResponse raw = client.post("/predict", bytes, "Content-Type: image/png\r\n");
  ASSERT_EQ(raw.status, 200) << raw.body;
  EXPECT_EQ(raw.headers.at("x-slipway-version"), "1");
  const json answer = json::parse(raw.body);
  EXPECT_EQ(answer.at("model"), "colours");
  EXPECT_EQ(answer.at("version"), 1);
  ASSERT_EQ(answer.at("top").size(), 3u);
  EXPECT_EQ(answer.at("top").at(0).at("label"), answer.at("label"));
  EXPECT_EQ(answer.at("top").at(0).at("class"), answer.at("class"));
  EXPECT_GT(answer.at("confidence"), 0.3);
  EXPECT_FALSE(answer.contains("id"));
  const std::string in_json = R"( {"image":")" + base64_encode(bytes) + R"("})";
  EXPECT_EQ(client.post("/predict?model=colours", in_json).body, raw.body);
  EXPECT_EQ(json::parse(client.post("/predict?version=1&id=p%207", in_json).body).at("id"), "p 7");
  EXPECT_EQ(client.post("/predict", bytes.substr(0, bytes.size() / 2)).status, 400);
  EXPECT_EQ(client.post("/predict", R"({"image":"?"})").status, 400);
  EXPECT_EQ(client.post("/predict", R"({"picture":1})").status, 400);
  EXPECT_EQ(client.get("/predict").status, 405);
}

TEST(HttpPlane, PicturesComeAsFormsToo) {
  Plane plane({picture_model()});
  TestClient client(plane.port());
  const auto png = read_file(SLIPWAY_SOURCE_DIR "/tests/corpus/image_fuzz/rgb.png");
  const std::string bytes(reinterpret_cast<const char*>(png.data()), png.size());
  const std::string form =
      "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--b\r\nContent-Disposition: form-data; "
      "name=\"file\"; filename=\"rgb.png\"\r\nContent-Type: image/png\r\n\r\n" +
      bytes + "\r\n--b--\r\n";
  const TestResponse sent = client.post("/predict", form, "Content-Type: multipart/form-data; boundary=b\r\n");
  EXPECT_EQ(sent.status, 200) << sent.body;
  EXPECT_EQ(sent.body, client.post("/predict", bytes).body);
  EXPECT_EQ(client.post("/predict", form, "Content-Type: multipart/form-data; boundary=c\r\n").status, 400);
  EXPECT_EQ(client.post("/predict", form, "Content-Type: multipart/form-data\r\n").status, 400);
  EXPECT_EQ(snapshot(plane.server->versions("")[0]->metrics().variants[0]).faults(), 0);
}

TEST(HttpPlane, OfAModelThatIsNoClassifierThereAreTheOutputs) {
  for (const int64_t side : {8, 64}) {
    Graph g = identity_graph(DType::kFloat32, Shape({Dim("N"), Dim(3), Dim(side), Dim(side)}));
    ModelConfig config;
    config.preprocess = Preprocess{.resize_width = side, .resize_height = side};
    Plane plane({make_version(std::move(g), "m/1", 1, config)});
    TestClient client(plane.port());
    const auto png = read_file(SLIPWAY_SOURCE_DIR "/tests/corpus/image_fuzz/rgb.png");
    const TestResponse r =
        client.post("/predict?id=p", std::string(reinterpret_cast<const char*>(png.data()), png.size()));
    ASSERT_EQ(r.status, 200) << r.body;
    const json answer = json::parse(r.body);
    EXPECT_FALSE(answer.contains("top"));
    EXPECT_EQ(answer.at("id"), "p");
    const json& y = answer.at("outputs").at(0);
    EXPECT_EQ(y.at("name"), "y");
    EXPECT_EQ(y.at("datatype"), "FP32");
    EXPECT_EQ(y.at("shape"), json({1, 3, side, side}));
    if (side == 8) {
      EXPECT_EQ(y.at("data").size(), 192u);
    } else {
      EXPECT_FALSE(y.contains("data"));
      EXPECT_NE(answer.at("data").get<std::string>().find("/v2/models/m%2F1/versions/1/infer"), std::string::npos);
    }
  }
}

TEST(HttpPlane, PicturesHoldNoConnectionUp) {
  Plane plane({picture_model()});
  const std::vector<std::byte> png = encode_png({3000, 3000, 3, std::vector<uint8_t>(27'000'000, 9)});
  const std::string bytes(reinterpret_cast<const char*>(png.data()), png.size());
  std::vector<std::unique_ptr<TestClient>> callers;
  for (int i = 0; i < 6; ++i) {
    callers.push_back(std::make_unique<TestClient>(plane.port()));
    callers.back()->send(fmt::format("POST /predict HTTP/1.1\r\nContent-Length: {}\r\n\r\n{}", bytes.size(), bytes));
  }
  TestClient other(plane.port());
  EXPECT_EQ(other.get("/v2/health/live").status, 200);
  EXPECT_LT(plane.server->versions("")[0]->metrics().variants[0].requests, 6) << "the pictures were waited for";
  for (const auto& caller : callers) EXPECT_EQ(caller->receive().status, 200);
}

TEST(HttpPlane, TooManyPicturesAreRefused) {
  Plane plane({picture_model()});
  const std::vector<std::byte> png = encode_png({3000, 3000, 3, std::vector<uint8_t>(27'000'000, 9)});
  const std::string bytes(reinterpret_cast<const char*>(png.data()), png.size());
  std::vector<std::unique_ptr<TestClient>> callers;
  for (int i = 0; i < 80; ++i) {
    callers.push_back(std::make_unique<TestClient>(plane.port()));
    callers.back()->send(fmt::format("POST /predict HTTP/1.1\r\nContent-Length: {}\r\n\r\n{}", bytes.size(), bytes));
  }
  int answered = 0, refused = 0;
  for (const auto& caller : callers) {
    const int status = caller->receive().status;
    answered += status == 200;
    refused += status == 503;
  }
  EXPECT_EQ(answered + refused, 80);
  EXPECT_GE(answered, 64);
}

TEST(HttpPlane, DeadlinesAndFullQueuesAreSaid) {
  ModelConfig config;
  config.batching = {.max_rows = 1, .max_queue = 1};
  Plane plane({make_version(scaling_graph(2), "m", 1, config)}, {}, false);
  std::atomic<bool> computing{false}, release{false};
  // An observer that blocks holds the only instance.
  plane.server->observe([&](const Served& served) {
    if (served.response.error) return;
    computing = true;
    while (!release) std::this_thread::yield();
  });
  plane.http.start();
  TestClient first(plane.port()), waiting(plane.port()), rejected(plane.port());
  const std::string request = "POST /v2/models/m/infer HTTP/1.1\r\nContent-Length: ";
  const std::string late = R"({"parameters":{"timeout":300000},)" + kInfer.substr(1);
  first.send(fmt::format("{}{}\r\n\r\n{}", request, kInfer.size(), kInfer));
  while (!computing) std::this_thread::yield();
  waiting.send(fmt::format("{}{}\r\n\r\n{}", request, late.size(), late));
  const int64_t expired = now_ns() + 350'000'000;
  while (plane.server->in_flight() < 2 && now_ns() < expired) std::this_thread::yield();
  const TestResponse full = rejected.post("/v2/models/m/infer", kInfer);
  EXPECT_EQ(full.status, 503) << full.body;
  EXPECT_GE(std::stoi(full.headers.at("retry-after")), 1);
  while (now_ns() < expired) std::this_thread::yield();
  release = true;
  EXPECT_EQ(first.receive().status, 200);
  EXPECT_EQ(waiting.receive().status, 504);
}

TEST(HttpPlane, LoadingNeedsControl) {
  Plane closed({make_version(scaling_graph(2))});
  TestClient client(closed.port());
  const TestResponse refused = client.post("/v2/repository/models/m/unload", "");
  EXPECT_EQ(refused.status, 403);
  EXPECT_NE(refused.body.find("--model-control explicit"), std::string::npos);

  Plane plane({make_version(scaling_graph(2))}, {.admin_token = "key"});
  TestClient other(plane.port());
  EXPECT_EQ(other.post("/v2/repository/models/m/unload", "").status, 403);
  EXPECT_EQ(other.post("/v2/repository/models/m/unload", "", "Authorization: Bearer kez\r\n").status, 403);
  const std::string key = "Authorization: Bearer key\r\n";
  for (const char* name : {"config", "file:1/model.onnx"}) {
    const TestResponse never =
        other.post("/v2/repository/models/m/load", fmt::format(R"({{"parameters":{{"{}":"AAAA"}}}})", name), key);
    EXPECT_EQ(never.status, 400) << never.body;
  }
  EXPECT_EQ(other.get("/v2/repository/models/m/load", key).status, 405);
  EXPECT_EQ(other.post("/v2/repository/models/none/load", "", key).status, 404);
  EXPECT_EQ(other.post("/v2/repository/models/m/unload", R"({"parameters":{"unload_dependents":true}})", key).status,
            200);
  EXPECT_EQ(other.post("/v2/models/m/infer", kInfer).status, 404);
  EXPECT_EQ(other.post("/v2/repository/models/m/unload", "", key).status, 404);
}

TEST(HttpPlane, PagesOfOtherSitesLoadAndUnloadNothing) {
  auto server = std::make_unique<Server>(ServerOptions{.explicit_control = true});
  server->add(make_version(scaling_graph(2)));
  HttpPlane plane(*server, {.port = 0});
  plane.start();
  TestClient client(plane.port());
  const auto status = [&](const std::string& headers) {
    return client.ask("POST /v2/repository/models/m/unload HTTP/1.1\r\nContent-Length: 2\r\n" + headers + "\r\n{}")
        .status;
  };
  const std::string typed = "Content-Type: application/json\r\n", host = "Host: 127.0.0.1:8000\r\n";
  EXPECT_EQ(status(host + typed + "Origin: http://evil.example\r\n"), 403);
  EXPECT_EQ(status(host + typed + "Origin: null\r\n"), 403);
  EXPECT_EQ(status("Host: rebound.example:8000\r\n" + typed), 403);
  EXPECT_EQ(status("Host: rebound.example\r\nOrigin: http://rebound.example\r\n" + typed), 403);
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", ""})
    EXPECT_EQ(status(host + "Content-Type: " + type + "\r\n"), 415) << type;
  EXPECT_EQ(status(host + "Origin: http://127.0.0.1:8000\r\n"), 415);
  EXPECT_EQ(status(host + "Origin: http://127.0.0.1:8000\r\n" + typed), 200);
  server->add(make_version(scaling_graph(2)));
  EXPECT_EQ(status("Host: LOCALHOST\r\nContent-Type: Application/JSON ; charset=utf-8\r\n"), 200);
  server->add(make_version(scaling_graph(2)));
  EXPECT_EQ(status(host), 200) << "Triton's clients send no type";
}

TEST(HttpPlane, TheCanaryStaysWithItsCaller) {
  ModelConfig config;
  config.sticky_header = "X-User";
  config.sticky_parameter = "user";
  Plane plane({make_version(scaling_graph(2), "m", 1, config), make_version(scaling_graph(3), "m", 2, config)});
  plane.server->route("m", {.stable = 1, .candidate = 2, .candidate_share = 5000});
  TestClient client(plane.port());
  const auto variant = [&](const std::string& body, const std::string& headers) {
    const TestResponse r = client.post("/v2/models/m/infer", body, headers);
    EXPECT_EQ(r.status, 200) << r.body;
    return r.headers.at("x-slipway-variant");
  };
  int candidates = 0;
  for (int user = 0; user < 40; ++user) {
    const std::string name = fmt::format("user{}", user);
    const std::string expected = to_string(sticky_bucket("m", name) < 5000 ? Variant::kCandidate : Variant::kStable);
    candidates += expected == to_string(Variant::kCandidate);
    const std::string inputs = kInfer.substr(kInfer.find("\"inputs"));
    EXPECT_EQ(variant(kInfer, "x-user: " + name + "\r\n"), expected);
    EXPECT_EQ(variant(R"({"id":"other","parameters":{"user":")" + name + R"("},)" + inputs, ""), expected);
    EXPECT_EQ(variant(R"({"id":")" + name + R"(",)" + inputs, ""), expected);
  }
  EXPECT_GT(candidates, 5);
  EXPECT_LT(candidates, 35);
}

TEST(HttpPlane, AClientThatLeavesDuringItsInferenceHarmsNobody) {
  Plane plane({make_version(scaling_graph(2))});
  std::string head;
  const std::string body = binary_request(std::vector<float>(40'000, 1.5f), head);
  for (int i = 0; i < 50; ++i) {
    TestClient client(plane.port());
    client.send("POST /v2/models/m/infer HTTP/1.1\r\n" + json_length(head) +
                fmt::format("Content-Length: {}\r\n\r\n", body.size()) + body);
    if (i % 2) client.reset();
  }
  TestClient client(plane.port());
  EXPECT_EQ(client.post("/v2/models/m/infer", kInfer).status, 200);
  plane.http.stop();
  EXPECT_TRUE(plane.server->drain(10'000));
}

TEST(HttpPlane, DrainingUnderLoadFailsNobody) {
  Plane plane({make_version(scaling_graph(2))}, {.threads = 2});
  std::atomic<int> answered{0}, wrong{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      TestClient client(plane.port());
      for (;;) {
        const TestResponse r = client.post("/v2/models/m/infer", kInfer);
        if (r.status == 0) return;  // ended between two requests
        if (r.status != 200) ++wrong;
        ++answered;
        if (r.headers.contains("connection")) return;
      }
    });
  while (answered < 100) std::this_thread::yield();
  plane.http.drain();
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(plane.server->drain(10'000));
  plane.http.stop();
}

TEST(HttpPlane, DrainingFinishesWhatHasBegunToArriveOrToLeave) {
  Plane plane({make_version(scaling_graph(2))});
  std::string head;
  const std::string large = binary_request(std::vector<float>(4'000'000, 1.5f), head);
  TestClient arriving(plane.port()), leaving(plane.port(), 4096), idle(plane.port()), used(plane.port());
  EXPECT_EQ(used.get("/v2/health/live").status, 200);
  arriving.send(fmt::format("POST /v2/models/m/infer HTTP/1.1\r\nContent-Length: {}\r\n\r\n", kInfer.size()));
  arriving.send(kInfer.substr(0, 20));
  leaving.send(
      fmt::format("POST /v2/models/m/infer HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n", json_length(head), large.size()));
  leaving.send(large);
  while (plane.server->versions("m")[0]->metrics().variants[0].requests < 1) std::this_thread::yield();
  plane.http.drain();
  EXPECT_TRUE(used.ended());
  EXPECT_TRUE(idle.ended()) << "it never asked";
  EXPECT_FALSE(plane.http.finish(now_ns())) << "two requests are under way";
  arriving.send(kInfer.substr(20));
  EXPECT_EQ(arriving.receive().status, 200);
  const TestResponse whole = leaving.receive();
  EXPECT_EQ(whole.status, 200);
  EXPECT_GT(whole.body.size(), 16'000'000u);
  EXPECT_TRUE(plane.http.finish(now_ns() + 20'000'000'000));
  EXPECT_EQ(TestClient(plane.port()).get("/v2").status, 0);
  plane.http.stop();
}

TEST(HttpPlane, APortInUseIsNamed) {
  Plane plane({make_version(scaling_graph(2))});
  HttpOptions options;
  options.port = plane.port();
  try {
    HttpPlane second(*plane.server, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
  }
}

}  // namespace
}  // namespace slipway
