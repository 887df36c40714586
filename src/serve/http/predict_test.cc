// /predict for models with several inputs.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "data/image.h"
#include "data/input_recipe.h"
#include "data/npy.h"
#include "serve/http/http_plane.h"
#include "serve/http/http_testing.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

using nlohmann::json;
using Kind = InputRecipe::Kind;

/// means: of each channel of a 3×8×8 photo; all: facts, ids and state behind one another.
std::shared_ptr<ModelVersion> several_inputs(bool described = true) {
  Graph g;
  g.opsets[""] = 13;
  const ValueId photo = g.add_input("photo", DType::kFloat32, Shape({Dim("N"), Dim(3), Dim(8), Dim(8)}));
  const ValueId facts = g.add_input("facts", DType::kFloat32, Shape({Dim("N"), Dim(2)}));
  const ValueId ids = g.add_input("ids", DType::kInt64, Shape({Dim("N"), Dim("T")}));
  const ValueId state = g.add_input("state", DType::kFloat32, Shape({Dim("N"), Dim("T")}));
  const ValueId pooled = g.add_node({.op_type = "GlobalAveragePool", .name = "pool", .inputs = {photo}}, "pooled");
  g.add_output(g.add_node({.op_type = "Flatten", .name = "flatten", .inputs = {pooled}}, "means"));
  NodeSpec to_float{.op_type = "Cast", .name = "cast", .inputs = {ids}};
  to_float.attributes["to"] = int64_t{1};
  const ValueId numbers = g.add_node(std::move(to_float), "numbers");
  NodeSpec concat{.op_type = "Concat", .name = "concat", .inputs = {facts, numbers, state}};
  concat.attributes["axis"] = int64_t{1};
  g.add_output(g.add_node(std::move(concat), "all"));
  infer_shapes(g);
  if (described)
    store_input_recipes(g,
                        {{Kind::kPicture, {.input = "photo", .resize_width = 8, .resize_height = 8}},
                         {Kind::kArray, {.input = "facts", .scale = 2, .mean = {1}}},
                         {Kind::kArray, {.input = "ids", .scale = 1, .dtype = ""}},
                         {.kind = Kind::kConstant, .constant = {"state", 0.5, {}, "ids"}}},
                        {});
  return make_version(std::move(g), "two");
}

struct PredictServer {
  explicit PredictServer(std::shared_ptr<ModelVersion> version = several_inputs())
      : server(make_server({std::move(version)})), http(*server, at_any_port()) {
    http.start();
  }
  static HttpOptions at_any_port() {
    HttpOptions options;
    options.port = 0;
    return options;
  }
  TestResponse post(const std::string& body, const std::string& headers = "") {
    return TestClient(http.port()).post("/predict", body, headers);
  }
  TestResponse post_form(const std::vector<std::pair<std::string, std::string>>& parts) {
    std::string body;
    for (const auto& [name, content] : parts)
      body += "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + content + "\r\n";
    return post(body + "--b--\r\n", "Content-Type: multipart/form-data; boundary=b\r\n");
  }
  std::unique_ptr<Server> server;
  HttpPlane http;
};

std::string photo() {
  const auto png = encode_png({8, 8, 3, std::vector<uint8_t>(192, 51)});
  return {reinterpret_cast<const char*>(png.data()), png.size()};
}

std::string json_request(const std::string& inputs) { return R"({"inputs": {)" + inputs + "}}"; }
std::string json_photo() { return R"("photo": ")" + base64_encode(photo()) + "\""; }

std::vector<double> output(const TestResponse& response, size_t which) {
  EXPECT_EQ(response.status, 200) << response.body;
  if (response.status != 200) return {};
  return json::parse(response.body).at("outputs").at(which).at("data").get<std::vector<double>>();
}

TEST(Predict, SeveralInputsComeAsJsonOrAsAForm) {
  PredictServer plane;
  const std::vector<double> all = {1, 5, 7, 8, 9, 0.5, 0.5, 0.5};
  const TestResponse sent = plane.post(json_request(json_photo() + R"(, "facts": [1, 3.0], "ids": [7, 8, 9])"));
  for (const double mean : output(sent, 0)) EXPECT_NEAR(mean, 0.2, 1e-6);
  EXPECT_EQ(output(sent, 1), all);
  EXPECT_EQ(plane.post_form({{"photo", photo()}, {"ids", " [7,8,9]"}, {"facts", "[1,3]"}}).body, sent.body);
  const std::string facts = npy_bytes(Tensor::of<uint8_t>({2}, {1, 3})),
                    ids = npy_bytes(Tensor::of<int32_t>({3}, {7, 8, 9}));
  EXPECT_EQ(plane.post_form({{"photo", photo()}, {"facts", facts}, {"ids", ids}}).body, sent.body);
  EXPECT_EQ(
      plane.post(json_request(json_photo() + R"(, "facts": ")" + base64_encode(facts) + R"(", "ids": [[7, 8, 9]])"))
          .body,
      sent.body);
  // A constant may be sent, too.
  EXPECT_EQ(output(plane.post(json_request(json_photo() + R"(, "facts": [1, 3], "ids": [7], "state": [4])")), 1),
            (std::vector<double>{1, 5, 7, 4}));
}

TEST(Predict, WhatIsWrongWithAnInputIsSaid) {
  PredictServer plane;
  const auto refusal = [&](const TestResponse& response) {
    EXPECT_EQ(response.status, 400) << response.body;
    return response.body;
  };
  const auto says = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  says(refusal(plane.post(json_request(json_photo()))), "'facts', 'ids'");
  says(refusal(plane.post(json_request(json_photo() + R"(, "fact": [1, 2], "ids": [1])"))),
       "'photo', 'facts', 'ids', 'state'");
  says(refusal(plane.post(json_request(json_photo() + ", " + json_photo()))), "stands twice");
  says(refusal(plane.post(json_request(R"("photo": [1], "facts": [1, 2], "ids": [1])"))), "JPEG or PNG: 'photo'");
  says(refusal(plane.post(json_request(json_photo() + R"(, "facts": "AAAA", "ids": [1])"))),
       "JSON array, or a .npy file: 'facts'");
  says(refusal(plane.post(json_request(R"("photo": "AAAA", "facts": [1, 2], "ids": [1])"))), "photo");
  says(refusal(plane.post(json_request(json_photo() + R"(, "facts": [1, 2], "ids": [1.5])"))), "ids");
  says(refusal(plane.post(json_request(json_photo() + R"(, "facts": [[1], [2, 3]], "ids": [1])"))), "facts");
  says(refusal(plane.post(json_request(json_photo() + R"(, "facts": [1, 2, 3], "ids": [1])"))), "facts");
  says(refusal(plane.post(json_request(json_photo() + R"(, "facts": {}, "ids": [1])"))), "an array of numbers");
  says(refusal(plane.post_form({{"photo", photo()}, {"facts", "[1,2"}, {"ids", "[1]"}})), "facts");
  says(refusal(plane.post_form({{"photo", photo()}, {"facts", "[1,2]]"}, {"ids", "[1]"}})), "");
  says(refusal(plane.post_form(
           {{"photo", photo()}, {"facts", npy_bytes(Tensor::of<float>({2}, {1, 2})).substr(0, 70)}, {"ids", "[1]"}})),
       "facts");
  says(refusal(plane.post(photo())), "'facts', 'ids'");  // it can only be the photo
  says(refusal(plane.post("{}")), "inputs by name");
}

TEST(Predict, InputsWithoutADescriptionAreArraysAsTheModelHasThem) {
  PredictServer plane(several_inputs(false));
  const std::string zeros =
      "[" + json(std::vector<std::vector<std::vector<int>>>(3, {8, std::vector<int>(8, 2)})).dump() + "]";
  const TestResponse sent =
      plane.post(json_request(R"("photo": )" + zeros + R"(, "facts": [[1, 3]], "ids": [[7, 8]], "state": [0, 1])"));
  EXPECT_EQ(output(sent, 0), (std::vector<double>{2, 2, 2}));
  EXPECT_EQ(output(sent, 1), (std::vector<double>{1, 3, 7, 8, 0, 1}));
  EXPECT_EQ(plane.post(json_request(json_photo() + R"(, "facts": [1, 3], "ids": [7, 8], "state": [0, 1])")).status,
            422);
  EXPECT_EQ(plane.post(photo()).status, 400);
}

TEST(Predict, OneInputMayBeAnArrayToo) {
  PredictServer plane(make_version(scaling_graph(2), "one"));
  const std::string npy = npy_bytes(Tensor::of<float>({4}, {1, 2, 3, 4}));
  const TestResponse sent = plane.post(json_request(R"("x": [1, 2, 3, 4])"));
  EXPECT_EQ(sent.status, 200) << sent.body;
  EXPECT_EQ(json::parse(sent.body).at("class"), 3);
  EXPECT_EQ(plane.post(npy).body, sent.body);
  EXPECT_EQ(plane.post(json_request(R"("y": [1, 2, 3, 4])")).status, 400);
}

}  // namespace
}  // namespace slipway
