// The Open Inference Protocol v2 from body to body, without sockets: every datatype in every form gives the same
// answer, and every kind of bad request its code. The protocol's own text leaves some of it open; what is held to here
// is in the names of the tests.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "serve/json/infer_codec.h"
#include "serve/json/model_json.h"
#include "serve/serve_testing.h"

namespace slipway {
namespace {

using nlohmann::json;

struct Reply {
  std::optional<ErrorCode> error;
  std::string message;
  json head;
  std::string tail;
};

/// A body as the planes treat it.
Reply ask(Server& server, std::string body, std::optional<size_t> header = std::nullopt, const std::string& model = "m",
          const std::string& version = "") {
  const size_t size = body.size();
  body.append(kBodyPadding, '\0');
  const auto owner = std::make_shared<std::string>(std::move(body));
  try {
    const Target target = server.target(model, version, {});
    DecodedInfer decoded = decode_infer(std::as_bytes(std::span(owner->data(), size)), header, owner, *target.version);
    Answer answer;
    server.infer(target, std::move(decoded.request), answer.done());
    const InferResponse& response = answer.wait();
    if (response.error) return {response.error, response.message, {}, {}};
    const EncodedInfer encoded = encode_infer(response, decoded.encoding);
    Reply reply{.head = json::parse(encoded.json)};
    for (const auto& part : encoded.tail) reply.tail.append(reinterpret_cast<const char*>(part.data()), part.size());
    return reply;
  } catch (const Error& error) {
    return {error.code(), error.what(), {}, {}};
  }
}

struct Sample {
  const char* datatype;
  Tensor tensor;
  const char* data;  ///< as JSON
};

std::vector<Sample> samples() {
  const auto raw16 = [](DType dtype, std::initializer_list<uint16_t> bits) {
    Tensor tensor(dtype, {2, 2});
    std::memcpy(tensor.mutable_raw(), bits.begin(), 8);
    return tensor;
  };
  return {
      {"BOOL", Tensor::of<bool>({2, 2}, {true, false, false, true}), "[true,false,false,true]"},
      {"UINT8", Tensor::of<uint8_t>({2, 2}, {0, 1, 128, 255}), "[0,1,128,255]"},
      {"UINT16", Tensor::of<uint16_t>({2, 2}, {0, 1, 2, 65535}), "[0,1,2,65535]"},
      {"UINT32", Tensor::of<uint32_t>({2, 2}, {0, 1, 2, UINT32_MAX}), "[0,1,2,4294967295]"},
      {"UINT64", Tensor::of<uint64_t>({2, 2}, {0, 1, 9007199254740993, UINT64_MAX}),
       "[0,1,9007199254740993,18446744073709551615]"},
      {"INT8", Tensor::of<int8_t>({2, 2}, {-128, -1, 0, 127}), "[-128,-1,0,127]"},
      {"INT16", Tensor::of<int16_t>({2, 2}, {INT16_MIN, -1, 0, INT16_MAX}), "[-32768,-1,0,32767]"},
      {"INT32", Tensor::of<int32_t>({2, 2}, {INT32_MIN, -1, 0, INT32_MAX}), "[-2147483648,-1,0,2147483647]"},
      {"INT64", Tensor::of<int64_t>({2, 2}, {INT64_MIN, -9007199254740993, 0, INT64_MAX}),
       "[-9223372036854775808,-9007199254740993,0,9223372036854775807]"},
      {"FP16", raw16(DType::kFloat16, {0x3c00, 0xc000, 0x7bff, 0x0001}), "[1,-2,65504,5.9604645e-8]"},
      {"BF16", raw16(DType::kBfloat16, {0x3f80, 0xc000, 0x4049, 0x0000}), "[1,-2,3.140625,0]"},
      {"FP32", Tensor::of<float>({2, 2}, {0.1f, -1e-8f, 3.4028235e38f, 16777216.0f}),
       "[0.1,-1e-8,3.4028235e38,16777216]"},
      {"FP64", Tensor::of<double>({2, 2}, {0.1, -1e-300, 1.7976931348623157e308, 4503599627370497.5}),
       "[0.1,-1e-300,1.7976931348623157e308,4503599627370497.5]"},
      {"BYTES", Tensor::of_strings({2, 2}, {"", "a\"b", "\u00e9", std::string("\0x", 2)}),
       R"(["","a\"b","é","\u0000x"])"},
  };
}

std::string wire_text(const Tensor& tensor) {
  const auto bytes = wire_bytes(tensor);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(Conformance, EveryDatatypeAnswersTheSameToJsonBinaryAndRaw) {
  for (const Sample& sample : samples()) {
    SCOPED_TRACE(sample.datatype);
    const auto server = make_server({make_version(identity_graph(sample.tensor.dtype(), Shape({Dim("N"), Dim(2)})))});
    const std::string bytes = wire_text(sample.tensor);
    const auto head = [&](const std::string& input, const std::string& rest) {
      return fmt::format(R"({{"id":"7","inputs":[{{"name":"x","shape":[2,2],"datatype":"{}",{}}}]{}}})",
                         sample.datatype, input, rest);
    };
    const std::string data = fmt::format("\"data\":{}", sample.data);
    const std::string size = fmt::format(R"("parameters":{{"binary_data_size":{}}})", bytes.size());
    const std::string all_binary = R"(,"parameters":{"binary_data_output":true})";

    const Reply text = ask(*server, head(data, ""));
    ASSERT_FALSE(text.error) << text.message;
    EXPECT_EQ(text.head["model_name"], "m");
    EXPECT_EQ(text.head["model_version"], "1");
    EXPECT_EQ(text.head["id"], "7");
    const json& y = text.head["outputs"][0];
    EXPECT_EQ(y["name"], "y");
    EXPECT_EQ(y["datatype"], sample.datatype);
    EXPECT_EQ(y["shape"], json({2, 2}));
    EXPECT_EQ(y["data"], json::parse(sample.data));

    EXPECT_EQ(ask(*server, head(data, all_binary)).tail, bytes);
    const std::string binary_head = head(size, all_binary), plain_head = head(size, "");
    EXPECT_EQ(ask(*server, binary_head + bytes, binary_head.size()).tail, bytes);
    EXPECT_EQ(ask(*server, plain_head + bytes, plain_head.size()).head, text.head);
    if (sample.tensor.dtype() == DType::kString) continue;  // raw is one element
    const Reply raw = ask(*server, bytes, 0);
    ASSERT_FALSE(raw.error) << raw.message;
    EXPECT_EQ(raw.tail, bytes);
    EXPECT_EQ(raw.head["outputs"][0]["parameters"]["binary_data_size"], bytes.size());
  }
  const auto server = make_server({make_version(identity_graph(DType::kString, Shape({Dim(1)})))});
  const Reply raw = ask(*server, "any bytes", 0);
  ASSERT_FALSE(raw.error) << raw.message;
  EXPECT_EQ(raw.tail, std::string("\x09\0\0\0any bytes", 13));
}

TEST(Conformance, NanAndInfinityTravelInBinaryAndAreNullInJson) {
  const auto server = make_server({make_version(identity_graph(DType::kFloat32, Shape({Dim("N"), Dim(3)})))});
  const std::string bytes = wire_text(Tensor::of<float>({1, 3}, {NAN, INFINITY, -INFINITY}));
  const std::string head =
      R"({"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}]})";
  EXPECT_EQ(ask(*server, head + bytes, head.size()).head["outputs"][0]["data"], json({nullptr, nullptr, nullptr}));
  EXPECT_EQ(ask(*server, bytes, 0).tail, bytes);
}

TEST(Conformance, OutputsAreThoseAskedForInThatOrderAndForm) {
  Graph graph = parse_text(R"(graph "g" ir 8 opset {"": 13} {
  input %x : f32[N,2]
  %y = Neg(%x)
  %z = Relu(%x)
  output %y, %z
})");
  infer_shapes(graph);
  const auto server = make_server({make_version(std::move(graph))});
  const auto ask_for = [&](const std::string& rest) {
    return ask(*server, R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,-2]}])" + rest + "}");
  };
  const Reply all = ask_for("");
  ASSERT_FALSE(all.error) << all.message;
  ASSERT_EQ(all.head["outputs"].size(), 2u);
  EXPECT_EQ(all.head["outputs"][0]["name"], "y");
  EXPECT_EQ(all.head["outputs"][0]["data"], json({-1, 2}));
  const Reply two = ask_for(R"(,"outputs":[{"name":"z","parameters":{"binary_data":true}},{"name":"y"}])");
  EXPECT_EQ(two.head["outputs"][0]["name"], "z");
  EXPECT_EQ(two.head["outputs"][0]["parameters"]["binary_data_size"], 8);
  EXPECT_EQ(two.tail, wire_text(Tensor::of<float>({1, 2}, {1, 0})));
  EXPECT_EQ(two.head["outputs"][1]["data"], json({-1, 2}));
  const Reply one = ask_for(R"(,"outputs":[{"name":"z","parameters":{"classification":1}}])");
  ASSERT_EQ(one.head["outputs"].size(), 1u);
  EXPECT_EQ(one.head["outputs"][0]["data"], json({"1.000000:0"}));
}

TEST(Conformance, EveryBadRequestHasItsCodeAndNoneIsTheServersFault) {
  const auto server = make_server({make_version(scaling_graph(2))});
  const auto input = [](const std::string& members) { return R"({"inputs":[{)" + members + "}]}"; };
  const std::string x = R"("name":"x","shape":[1,4],"datatype":"FP32",)";
  for (const auto& [body, code] : std::initializer_list<std::pair<std::string, ErrorCode>>{
           {"", ErrorCode::kInvalidArgument},
           {"{", ErrorCode::kInvalidArgument},
           {"{}", ErrorCode::kInvalidArgument},
           {R"({"inputs":[]})", ErrorCode::kInvalidArgument},
           {input(x + R"("data":[1,2,3])"), ErrorCode::kInvalidArgument},
           {input(x + R"("data":[1,2,3,4,5])"), ErrorCode::kInvalidArgument},
           {input(x + R"("data":[1,2,3,1e39])"), ErrorCode::kInvalidArgument},
           {input(x + R"("data":[1,2,3,NaN])"), ErrorCode::kInvalidArgument},
           {input(x + R"("data":[1,2,3,"4"])"), ErrorCode::kInvalidArgument},
           {input(x + "\"data\":" + std::string(100'000, '[')), ErrorCode::kInvalidArgument},
           {input(R"("name":"w","shape":[1,4],"datatype":"FP32","data":[1,2,3,4])"), ErrorCode::kInvalidArgument},
           {input(R"("name":"x","shape":[1,4],"datatype":"FP64","data":[1,2,3,4])"), ErrorCode::kInvalidArgument},
           {input(R"("name":"x","shape":[1,4],"datatype":"FLOAT","data":[1,2,3,4])"), ErrorCode::kInvalidArgument},
           {input(R"("name":"x","shape":[4],"datatype":"FP32","data":[1,2,3,4])"), ErrorCode::kInvalidArgument},
           {input(R"("name":"x","shape":[2,2],"datatype":"FP32","data":[1,2,3,4])"), ErrorCode::kInvalidArgument},
           {input(R"("name":"x","shape":[0,4],"datatype":"FP32","data":[])"), ErrorCode::kInvalidArgument},
           {input(R"("name":"x","shape":[-1,4],"datatype":"FP32","data":[1,2,3,4])"), ErrorCode::kInvalidArgument},
           {input(R"("name":"x","shape":[4611686018427387904,4],"datatype":"FP32","data":[1])"),
            ErrorCode::kInvalidArgument},
           {input(x + R"("parameters":{"binary_data_size":16})"), ErrorCode::kInvalidArgument},
           {input(x + R"("parameters":{"shared_memory_region":"r"})"), ErrorCode::kUnsupported},
       }) {
    const Reply reply = ask(*server, body);
    ASSERT_TRUE(reply.error) << body.substr(0, 200);
    EXPECT_EQ(*reply.error, code) << body.substr(0, 200) << ": " << reply.message;
    EXPECT_LT(http_status(*reply.error), 500);
    EXPECT_FALSE(reply.message.empty());
  }
  const std::string good = input(x + R"("data":[1,2,3,4])");
  EXPECT_EQ(ask(*server, good, {}, "other").error, ErrorCode::kNotFound);
  EXPECT_EQ(ask(*server, good, {}, "m", "9").error, ErrorCode::kNotFound);
  EXPECT_EQ(ask(*server, good, {}, "m", "one").error, ErrorCode::kInvalidArgument);
  for (const int64_t size : {12, 20}) {  // a length that agrees with the body but not with the shape
    const std::string head = input(x + fmt::format(R"("parameters":{{"binary_data_size":{}}})", size));
    EXPECT_EQ(ask(*server, head + std::string(static_cast<size_t>(size), '\0'), head.size()).error,
              ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(ask(*server, std::string(15, '\0'), 0).error, ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask(*server, good).head["outputs"][0]["data"], json({3, 5, 7, 9}));
}

TEST(Conformance, BytesWhoseInnerLengthsLieAreRefused) {
  const auto server = make_server({make_version(identity_graph(DType::kString, Shape({Dim(2)})))});
  const auto ask_with = [&](const std::string& bytes) {
    const std::string head = fmt::format(
        R"({{"inputs":[{{"name":"x","shape":[2],"datatype":"BYTES","parameters":{{"binary_data_size":{}}}}}]}})",
        bytes.size());
    return ask(*server, head + bytes, head.size());
  };
  const std::string a("\1\0\0\0a", 5);
  EXPECT_EQ(ask_with(a + a).head["outputs"][0]["data"], json({"a", "a"}));
  for (const std::string& bytes : {a, a + a + a, a + std::string("\xff\xff\xff\xff", 4),
                                   a + std::string("\2\0\0\0a", 5), a + std::string("\0\0", 2), std::string()})
    EXPECT_EQ(ask_with(bytes).error, ErrorCode::kInvalidArgument) << bytes.size();
}

TEST(Conformance, RandomBodiesNeverBlameTheServer) {
  const auto server = make_server({make_version(scaling_graph(2))});
  const std::string good =
      R"({"id":"1","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2.5,-3e0,4]}],)"
      R"("outputs":[{"name":"y","parameters":{"binary_data":true}}],"parameters":{"timeout":5000000}})";
  Random random(1);
  for (int i = 0; i < 5000; ++i) {
    std::string body = good;
    for (uint64_t edits = 1 + random.below(3); edits > 0; --edits)
      body[random.below(body.size())] = R"([]{}",:0123456789eE.-+x)"[random.below(23)];
    const Reply reply = ask(*server, body);
    if (reply.error) {
      ASSERT_LT(http_status(*reply.error), 500) << body << reply.message;
    }
  }
}

}  // namespace
}  // namespace slipway
