// Bodies of the protocol in and out: all types in all forms agree, and what is wrong is said in one sentence.
#include "serve/json/infer_codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "base/random.h"
#include "base/replay_corpus.h"
#include "serve/serve_testing.h"

#define LLVMFuzzerTestOneInput fuzz_infer_codec
#include "serve/json/infer_codec_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace slipway {
namespace {

using nlohmann::json;

constexpr DType kJsonTypes[] = {DType::kBool,     DType::kUint8,   DType::kUint16,  DType::kUint32, DType::kUint64,
                                DType::kInt8,     DType::kInt16,   DType::kInt32,   DType::kInt64,  DType::kFloat16,
                                DType::kBfloat16, DType::kFloat32, DType::kFloat64, DType::kString};

std::shared_ptr<ModelVersion> version_of(Graph graph, const std::string& sticky = "") {
  VersionSource source{.model = "m", .graph = std::move(graph)};
  infer_shapes(source.graph);
  source.config.sticky_parameter = sticky;
  source.config.labels = {"cat", "dog"};
  return std::make_shared<ModelVersion>(std::move(source));
}

const ModelVersion& two_outputs() {
  static const auto version = version_of(parse_text(R"(graph "g" ir 8 opset {"": 13} {
  input %x : f32[N,2]
  %y = Identity(%x)
  %z = Neg(%x)
  output %y, %z
})"),
                                         "user");
  return *version;
}

DecodedInfer decode(std::string text, std::optional<size_t> header = std::nullopt,
                    const ModelVersion& version = two_outputs()) {
  const size_t size = text.size();
  text.append(kBodyPadding, ']');
  const auto owner = std::make_shared<std::string>(std::move(text));
  return decode_infer(std::as_bytes(std::span(owner->data(), size)), header, owner, version);
}

std::string bytes_of(const WireTensor& tensor) {
  return {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()};
}

/// `data` of one input named x.
std::string request(std::string_view datatype, std::string_view shape, std::string_view data) {
  return fmt::format(R"({{"inputs":[{{"name":"x","datatype":"{}","shape":{},"data":{}}}]}})", datatype, shape, data);
}

std::string refusal(const std::string& text, std::optional<size_t> header = std::nullopt,
                    ErrorCode code = ErrorCode::kInvalidArgument) {
  try {
    decode(text, header);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "accepted: " + text.substr(0, 200);
}

Tensor any_tensor(DType dtype, const Dims& dims, Random& random) {
  const auto elements = static_cast<size_t>(element_count(dims));
  if (dtype == DType::kString) {
    std::vector<std::string> texts(elements);
    for (std::string& text : texts)
      for (uint64_t i = random.below(12); i > 0; --i) {
        constexpr const char* kPieces[] = {"a", "\"", "\\", "\n", "\u00e9", "\u20ac", "\U0001f600", "\x01", "/", ""};
        text += kPieces[random.below(10)];
      }
    return Tensor::of_strings(dims, std::move(texts));
  }
  Tensor tensor(dtype, dims);
  std::byte* raw = tensor.mutable_raw();
  for (size_t i = 0; i < tensor.bytes(); ++i)
    raw[i] = static_cast<std::byte>(dtype == DType::kBool ? random.below(2) : random.below(256));
  if (is_float(dtype)) {  // no NaN or infinity: clear a bit of the exponent
    const size_t size = tensor.bytes() / std::max<size_t>(elements, 1);
    for (size_t i = 0; i < elements; ++i) raw[i * size + size - 1] &= std::byte{0xbf};
  }
  return tensor;
}

/// Flat data nested as `dims` say, at random with spaces.
json nested(const json& flat, const Dims& dims, size_t axis, size_t& at) {
  json list = json::array();
  for (int64_t i = 0; i < dims[axis]; ++i)
    list.push_back(axis + 1 == dims.size() ? flat[at++] : nested(flat, dims, axis + 1, at));
  return list;
}

TEST(InferCodec, EveryTypeIsTheSameAsJsonFlatNestedAndBinary) {
  Random random(1);
  for (int round = 0; round < 40; ++round)
    for (const DType dtype : kJsonTypes) {
      Dims dims;
      for (uint64_t i = random.below(4); i > 0; --i) dims.push_back(static_cast<int64_t>(random.below(5)));
      const Tensor tensor = any_tensor(dtype, dims, random);
      InferResponse response{.model = "m", .version = 3};
      response.outputs = {wire_of("x", tensor, response.owner)};
      const std::string expected = bytes_of(response.outputs[0]);
      const std::string where = fmt::format("{} {}", datatype_name(dtype), to_string(dims));

      const EncodedInfer text = encode_infer(response, {});
      EXPECT_FALSE(text.binary);
      const json flat = json::parse(text.json)["outputs"];
      const std::string as_flat = R"({"inputs":)" + flat.dump() + "}";
      const DecodedInfer from_flat = decode(as_flat);
      EXPECT_EQ(bytes_of(from_flat.request.inputs.at(0)), expected) << where << as_flat;
      EXPECT_EQ(from_flat.request.inputs[0].dims, dims);
      EXPECT_EQ(from_flat.request.inputs[0].dtype, dtype);

      if (!dims.empty()) {
        json tree = flat;
        size_t at = 0;
        tree[0]["data"] = nested(flat[0]["data"], dims, 0, at);
        const std::string as_nested = json{{"inputs", tree}}.dump(round % 2 == 0 ? 3 : -1);  // with spaces
        EXPECT_EQ(bytes_of(decode(as_nested).request.inputs.at(0)), expected) << as_nested;
      }

      const EncodedInfer binary = encode_infer(response, {.all_binary = true});
      EXPECT_TRUE(binary.binary);
      ASSERT_EQ(binary.tail.size(), 1u);
      const std::string head = R"({"inputs":)" + json::parse(binary.json)["outputs"].dump() + "}";
      std::string body = head;
      for (const auto& part : binary.tail) body.append(reinterpret_cast<const char*>(part.data()), part.size());
      EXPECT_EQ(bytes_of(decode(body, head.size()).request.inputs.at(0)), expected) << where;
    }
}

TEST(InferCodec, MayNameTheDataFirst) {
  const DecodedInfer decoded =
      decode(R"({"inputs":[{"data":[1,2.5],"parameters":{},"shape":[1,2],"datatype":"FP32","name":"x"}],"id":"q"})");
  EXPECT_EQ(decoded.request.inputs.at(0).name, "x");
  EXPECT_EQ(bytes_of(decoded.request.inputs[0]), std::string("\0\0\x80\x3f\0\0\x20\x40", 8));
  EXPECT_EQ(decoded.request.id, "q");
}

TEST(InferCodec, ReadsStringsAsJsonMeansThem) {
  const DecodedInfer decoded =
      decode(request("BYTES", "[6]",
                     R"(["", "a\"\\\/\b\f\n\r\t", "\u0041\u00e9\u20AC\ud83d\ude00", "é€", "\u0000", "\u07ff\uffff"])"));
  EXPECT_EQ(to_tensor(decoded.request.inputs.at(0)).strings(),
            (std::vector<std::string>{"", "a\"\\/\b\f\n\r\t", "A\u00e9\u20ac\U0001f600", "\u00e9\u20ac",
                                      std::string(1, '\0'), "\u07ff\uffff"}));
  for (const char* bad : {R"(["\ud800"])", R"(["\udc00"])", R"(["\ud800\u0041"])", R"(["\u12"])", R"(["\x"])",
                          R"(["\u 123"])", "[\"a\nb\"]", "[\"\xff\"]", "[\"\xed\xa0\x80\"]", R"(["a)", R"(["a\"])"})
    EXPECT_EQ(refusal(request("BYTES", "[1]", bad)).find("accepted"), std::string::npos) << bad;
}

TEST(InferCodec, ReadsParametersAndOutputs) {
  const DecodedInfer decoded = decode(R"({"id":"7","parameters":{"timeout":2500,"user":"anna","priority":1,"other":"x",
    "binary_data_output":true,"flag":false,"nothing":null},"outputs":[{"name":"z","parameters":{"binary_data":false}},
    {"name":"y","parameters":{"classification":2}}],"inputs":[],"unknown":{"a":[1,{}]}})");
  EXPECT_EQ(decoded.request.id, "7");
  EXPECT_EQ(decoded.timeout_us, 2500);
  EXPECT_EQ(decoded.sticky_parameter, "anna");
  EXPECT_TRUE(decoded.encoding.all_binary);
  EXPECT_FALSE(decoded.encoding.binary.at("z"));
  EXPECT_FALSE(decoded.encoding.binary.contains("y"));
  EXPECT_EQ(decoded.encoding.classes.at("y").count, 2);
  EXPECT_TRUE(decoded.encoding.classes.at("y").by_row);
  EXPECT_EQ(decoded.encoding.labels, (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(decoded.request.outputs, (std::vector<std::string>{"z", "y"}));

  EXPECT_EQ(decode(R"({"inputs":[],"parameters":{"user": 42 }})").sticky_parameter, "42");
  const DecodedInfer bare = decode(R"( {"inputs":[],"id":null,"parameters":null,"outputs":null} )");
  EXPECT_EQ(bare.request.id, "");
  EXPECT_EQ(bare.timeout_us, 0);
}

TEST(InferCodec, SaysInOneSentenceWhatIsWrong) {
  const std::string good = R"("name":"x","datatype":"FP32","shape":[1])";
  const auto with = [&](const std::string& rest) { return R"({"inputs":[{)" + good + "," + rest + "}]}"; };
  for (const auto& [body, sentence] : std::initializer_list<std::pair<std::string, const char*>>{
           {"", "no JSON found"},
           {"   ", "no JSON found"},
           {"[]", "must be an object"},
           {"5", "must be an object"},
           {"nonsense", "must be an object"},
           {"{\"a\xff\":1}", "not valid UTF-8"},
           {R"({"inputs":[]} {})", "end after its object"},
           {R"({"inputs":[]}])", ""},
           {R"({"inputs":[)", ""},
           {R"({"inputs":[{"name":"x")", ""},
           {R"({"inputs":[}])", ""},
           {R"({"inputs" []})", "broken"},
           {R"({"inputs":[] "id":"a"})", "broken"},
           {R"({inputs:[]})", "broken"},
           {"{}", "must have an array of inputs"},
           {R"({"inputs":{}})", "must be an array: inputs"},
           {R"({"inputs":null})", "must be an array: inputs"},
           {R"({"inputs":[5]})", "must be an object: inputs"},
           {R"({"inputs":[],"inputs":[]})", "inputs once"},
           {R"({"inputs":[],"outputs":[],"outputs":[]})", "outputs once"},
           {R"({"inputs":[],"id":5})", "must be a string: id"},
           {R"({"inputs":[],"outputs":[{"name":"w"}]})", "it gives y, z: 'w'"},
           {R"({"inputs":[],"outputs":[{}]})", "no such output"},
           {R"({"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]})", "asked for once: 'y'"},
           {R"({"inputs":[],"outputs":[{"name":"y","parameters":{"binary_data":1}}]})", "true or false: outputs"},
           {R"({"inputs":[],"outputs":[{"name":"y","parameters":{"classification":-1}}]})", "0 or more: outputs"},
           {R"({"inputs":[],"parameters":{"timeout":-1}})", "timeout (in microseconds)"},
           {R"({"inputs":[],"parameters":{"timeout":1.5}})", "timeout (in microseconds)"},
           {R"({"inputs":[],"parameters":{"timeout":"5"}})", "timeout (in microseconds)"},
           {R"({"inputs":[],"parameters":{"list":[1]}})", "a number, true or false: 'list'"},
           {R"({"inputs":[],"parameters":{"n":1x}})", "broken"},
           {R"({"inputs":[],"parameters":{"n":truth}})", "broken"},
           {R"({"inputs":[],"parameters":[]})", "must be an object: parameters"},
           {R"({"inputs":[{"datatype":"FP32","shape":[1],"data":[1]}]})", "must have a name"},
           {R"({"inputs":[{"name":"x","datatype":"FP32","data":[1]}]})", "must have a shape: 'x'"},
           {R"({"inputs":[{"name":"x","shape":[1],"data":[1]}]})", "must have a datatype"},
           {R"({"inputs":[{"name":"x","datatype":"FP31","shape":[1],"data":[1]}]})", "'x', 'FP31'"},
           {R"({"inputs":[{"name":"x","datatype":"FP32","shape":1,"data":[1]}]})", "array: inputs, shape"},
           {R"({"inputs":[{"name":"x","datatype":"FP32","shape":["1"],"data":[1]}]})", "whole numbers: input 'x'"},
           {R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1.5],"data":[1]}]})", "whole numbers: input 'x'"},
           {R"({"inputs":[{"name":"x","datatype":"FP32","shape":[-1],"data":[1]}]})",
            "no negative dimension: input 'x', -1"},
           {R"({"inputs":[{"name":"x","datatype":"FP32","shape":[99999999999999999999],"data":[1]}]})",
            "whole numbers"},
           {R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data":[1]}]})",
            "16 axes"},
           {request("FP32", "[4294967296,4294967296,4294967296]", "[1]"), "fewer elements"},
           {request("FP32", "[1000000000000]", "[1]"), "fewer elements"},
           {request("BYTES", "[1000000000000]", R"(["a"])"), "fewer elements"},
           {request("FP32", "[3]", "[1,2]"), "fewer elements than its shape says: input 'x', 2 of 3"},
           {request("FP32", "[1]", "[1,2]"), "more elements"},
           {request("FP32", "[0]", "[1]"), "more elements"},
           {request("FP32", "[2,2]", "[[1,2],[3]]"), "fewer elements"},
           {request("FP32", "[2,2]", "[[1,2],[3,4],[5,6]]"), "more elements"},
           {request("FP32", "[2,2]", "[[1,2,3],[4]]"), "more elements"},
           {request("FP32", "[2,2]", "[[1,2],3]"), "nested as its shape says"},
           {request("FP32", "[2,2]", "[1,[2,3],4]"), "must be a number"},
           {request("FP32", "[2]", "[[1,2]]"), "must be a number"},
           {request("FP32", "[2]", "[1,]"), "must be a number"},
           {request("FP32", "[2]", "[1 2]"), "separated by commas"},
           {request("FP32", "[1]", "[1}"), ""},
           {request("FP32", "[1]", "5"), "must be an array: inputs, data"},
           {request("FP32", "[1]", "null"), "must be an array: inputs, data"},
           {request("INT8", "[2]", "[1,300]"), "out of range for its type: input 'x', INT8, element 1, '300'"},
           {with(R"("parameters":{})"), "either data or the parameter binary_data_size: 'x'"},
           {with(R"("data":[1],"parameters":{"binary_data_size":4})"), "either data or"},
           {with(R"("parameters":{"binary_data_size":4})"), "more than the body has left"},
           {with(R"("parameters":{"binary_data_size":-4})"), "0 or more: inputs, binary_data_size"},
       }) {
    const std::string said = refusal(body);
    EXPECT_NE(said.find(sentence), said.npos) << body << "\n  " << said;
    EXPECT_EQ(said.find("accepted"), said.npos) << said;
  }
  const std::string one = "{" + good + R"(,"data":[1]})";
  EXPECT_NE(refusal(R"({"inputs":[)" + one + "," + one + "]}").find("came twice: 'x'"), std::string::npos);
  EXPECT_NE(refusal(with(R"("parameters":{"shared_memory_region":"r"})"), {}, ErrorCode::kUnsupported)
                .find("Shared memory is not offered"),
            std::string::npos);
}

TEST(InferCodec, BinaryLengthsThatLieAreRefused) {
  const auto body = [](const std::string& sizes, size_t bytes, std::optional<size_t> header = {}) {
    const std::string text =
        R"({"inputs":[{"name":"a","datatype":"INT8","shape":[2],"parameters":{"binary_data_size":)" + sizes +
        R"(}},{"name":"b","datatype":"FP32","shape":[1],"data":[1]},)" +
        R"({"name":"c","datatype":"INT8","shape":[3],"parameters":{"binary_data_size":3}}]})";
    return std::pair(text + std::string(bytes, '\7'), header.value_or(text.size()));
  };
  const auto [good, header] = body("2", 5);
  const DecodedInfer decoded = decode(good, header);
  EXPECT_EQ(bytes_of(decoded.request.inputs.at(0)), "\7\7");
  EXPECT_EQ(bytes_of(decoded.request.inputs.at(2)), "\7\7\7");
  const auto says = [](const std::pair<std::string, size_t>& b, const char* sentence) {
    const std::string said = refusal(b.first, b.second);
    EXPECT_NE(said.find(sentence), said.npos) << said;
  };
  says(body("2", 4),
       "more than the body has left behind its JSON; is the header Inference-Header-Content-Length right? 'c'");
  says(body("2", 6), "1 bytes left");
  says(body("3", 5), "more than the body has left");
  says(body("1", 5), "1 bytes left");
  says(body("9223372036854775807", 5), "more than the body has left");
  says(body("2", 5, 10'000), "more than the whole body");
  says(body("2", 5, 20), "");
  EXPECT_EQ(refusal(good, 20).find("accepted"), std::string::npos);
}

TEST(InferCodec, RawBodiesFillTheOnlyInput) {
  const auto shape = [](const std::string& type, const std::string& dims, const std::string& body) -> std::string {
    const auto version = version_of(parse_text("graph \"g\" ir 8 opset {\"\": 13} {\n  input %x : " + type + dims +
                                               "\n  %y = Identity(%x)\n  output %y\n}"));
    try {
      const DecodedInfer decoded = decode(body, 0, *version);
      EXPECT_TRUE(decoded.encoding.all_binary);
      const WireTensor& x = decoded.request.inputs.at(0);
      return fmt::format("{} {} {}", x.name, to_string(x.dims), x.bytes.size());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
  };
  const std::string bytes(24, '\1');
  EXPECT_EQ(shape("f32", "[N,3]", bytes), "x [2,3] 24");
  EXPECT_EQ(shape("f32", "[N,K]", bytes), "x [1,6] 24");
  EXPECT_EQ(shape("i16", "[3,K,2]", bytes), "x [3,2,2] 24");
  EXPECT_EQ(shape("u8", "[24]", bytes), "x [24] 24");
  EXPECT_EQ(shape("string", "[N]", bytes), "x [1] 28");
  EXPECT_NE(shape("f32", "[N,5]", bytes).find("multiple of the input's row"), std::string::npos);
  EXPECT_NE(shape("f32", "[2,K,L]", bytes).find("several free dimensions"), std::string::npos);
  const auto two = version_of(parse_text(R"(graph "g" ir 8 opset {"": 13} {
  input %a : f32[1]
  input %b : f32[1]
  %y = Add(%a, %b)
  output %y
})"));
  EXPECT_THROW(decode(bytes, 0, *two), Error);
}

TEST(InferCodec, NestingIsBoundedWhereverItStands) {
  const std::string deep(100'000, '['), closed = deep + std::string(100'000, ']');
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  for (const std::string& body :
       {deep, closed, objects, request("FP32", "[1]", closed), request("FP32", "[1]", deep),
        request("FP32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", closed), request("FP32", closed, "[1]"),
        R"({"inputs":)" + closed + "}", R"({"inputs":[],"parameters":{"a":)" + closed + "}}",
        R"({"inputs":[],"id":)" + closed + "}", R"({"other":)" + objects})
    EXPECT_EQ(refusal(body).find("accepted"), std::string::npos) << body.substr(0, 60);
}

TEST(InferCodec, MessagesHoldNothingThatTheCallerCanAbuse) {
  const std::string name = R"(evil\u001b[31m\nline\u00e9)" + std::string(1000, 'a');
  const std::string said =
      refusal(R"({"inputs":[{"name":")" + name + R"(","datatype":"FP32","shape":[2],"data":[1]}]})");
  EXPECT_NE(said.find("'evil?[31m?line??aaa"), said.npos) << said;
  EXPECT_LT(said.size(), 300u);
  for (const char c : said) EXPECT_TRUE(c >= ' ' && c <= '~');
}

TEST(InferCodec, ResponsesAreJsonWithTensorsBehind) {
  InferResponse response{.model = "a\"b", .id = "i\\\x01\u00e9", .version = 12};
  std::shared_ptr<const void> owners[3];
  const Tensor y = Tensor::of<float>({1, 3}, {1.5f, NAN, -INFINITY});
  response.outputs = {wire_of("y", y, owners[0]), wire_of("z", Tensor::of<bool>({2}, {true, false}), owners[1]),
                      wire_of("e", Tensor::of<int64_t>({0}, std::vector<int64_t>{}), owners[2])};
  const EncodedInfer mixed = encode_infer(response, {.all_binary = false, .binary = {{"z", true}}});
  EXPECT_EQ(json::parse(mixed.json),
            json::parse(R"({"model_name":"a\"b","model_version":"12","id":"i\\\u0001é","outputs":[
    {"name":"y","datatype":"FP32","shape":[1,3],"data":[1.5,null,null]},
    {"name":"z","datatype":"BOOL","shape":[2],"parameters":{"binary_data_size":2}},
    {"name":"e","datatype":"INT64","shape":[0],"data":[]}]})"));
  EXPECT_TRUE(mixed.binary);
  ASSERT_EQ(mixed.tail.size(), 1u);
  EXPECT_EQ(mixed.tail[0].data(), response.outputs[1].bytes.data());
}

TEST(InferCodec, RanksTheOutputsThatAskForClasses) {
  InferResponse response{.model = "m", .version = 1};
  response.outputs = {wire_of("y", Tensor::of<float>({2, 2}, {0.25f, 0.75f, 1, 0}), response.owner)};
  const OutputEncoding encoding{.classes = {{"y", {1, true}}}, .labels = {"cat", "dog"}};
  const json said = json::parse(encode_infer(response, encoding).json)["outputs"][0];
  EXPECT_EQ(said["datatype"], "BYTES");
  EXPECT_EQ(said["shape"], json({2, 1}));
  EXPECT_EQ(said["data"], json({"0.750000:1:dog", "1.000000:0:cat"}));

  OutputEncoding in_binary = encoding;
  in_binary.all_binary = true;
  const EncodedInfer binary = encode_infer(response, in_binary);
  ASSERT_EQ(binary.tail.size(), 1u);
  EXPECT_EQ(binary.tail[0].size(), 2 * (4 + 14u));
  EXPECT_NE(binary.owner, nullptr);
}

TEST(InferCodec, StringsThatAreNoTextGoOutBinaryOnly) {
  InferResponse response{.model = "m", .version = 1};
  response.outputs = {wire_of("y", Tensor::of_strings({1}, {"\xff\xfe"}), response.owner)};
  EXPECT_THROW(encode_infer(response, {}), Error);
  EXPECT_EQ(encode_infer(response, {.all_binary = true}).tail.at(0).size(), 6u);
}

TEST(InferCodec, LongTensorsGrowTheText) {
  Random random(5);
  const Tensor tensor = any_tensor(DType::kFloat32, {3, 7001}, random);
  InferResponse response{.model = "m", .version = 1};
  response.outputs = {wire_of("x", tensor, response.owner)};
  const std::string text = R"({"inputs":)" + json::parse(encode_infer(response, {}).json)["outputs"].dump() + "}";
  EXPECT_EQ(bytes_of(decode(text).request.inputs.at(0)), bytes_of(response.outputs[0]));
}

TEST(InferCodec, BlanksMayFollowATensorsData) {
  const DecodedInfer pretty = decode(
      "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [1, 4], \"data\": [1, 2, 3, 4]\n  }]\n}");
  EXPECT_EQ(bytes_of(pretty.request.inputs.at(0)).size(), 16u);
}

TEST(InferCodec, DecodesPictures) {
  const auto picture = [](std::string text) {
    const size_t size = text.size();
    text.append(kBodyPadding, 'x');
    const DecodedPredict decoded = decode_predict(std::as_bytes(std::span(text.data(), size)));
    const std::span<const std::byte> bytes = decoded.values.at(0).file;
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  EXPECT_EQ(picture(R"({"model":"m","image":")" + base64_encode(std::string_view("\xff\xd8 a picture")) + "\"}"),
            "\xff\xd8 a picture");
  for (const char* bad :
       {"{}", R"({"image":5})", R"({"image":"a"})", R"({"image":"!!!!"})", "[]", "", R"({"image":"QUJD")"})
    EXPECT_THROW(picture(bad), Error) << bad;
}

TEST(InferCodec, CorpusAndItsMutations) { replay_corpus("infer_codec_fuzz", fuzz_infer_codec); }

}  // namespace
}  // namespace slipway
