// The infer messages on the wire, beside generated code; the fuzz target over its corpus and mutations of it.
#include "serve/grpc/infer_message.h"

#include <cmath>

#include "base/replay_corpus.h"
#include "serve/grpc/grpc_testing.h"

#define LLVMFuzzerTestOneInput fuzz_infer_message
#include "serve/grpc/infer_message_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace slipway {
namespace {
using grpc::StatusCode;

constexpr DType kTypes[] = {DType::kBool,    DType::kInt8,   DType::kInt16,   DType::kInt32,   DType::kInt64,
                            DType::kUint8,   DType::kUint16, DType::kUint32,  DType::kUint64,  DType::kFloat32,
                            DType::kFloat64, DType::kString, DType::kFloat16, DType::kBfloat16};

void fill(inference::InferTensorContents& c, DType dtype) {
  switch (dtype) {
    case DType::kBool:
      for (const bool v : {true, false, true}) c.add_bool_contents(v);
      break;
    case DType::kInt8:
      for (const int v : {-128, 0, 127}) c.add_int_contents(v);
      break;
    case DType::kInt16:
      for (const int v : {-32768, 5, 32767}) c.add_int_contents(v);
      break;
    case DType::kInt32:
      for (const int v : {INT32_MIN, -1, INT32_MAX}) c.add_int_contents(v);
      break;
    case DType::kInt64:
      for (const int64_t v : {INT64_MIN, int64_t{-1}, INT64_MAX}) c.add_int64_contents(v);
      break;
    case DType::kUint8:
      for (const unsigned v : {0U, 7U, 255U}) c.add_uint_contents(v);
      break;
    case DType::kUint16:
      for (const unsigned v : {0U, 7U, 65535U}) c.add_uint_contents(v);
      break;
    case DType::kUint32:
      for (const unsigned v : {0U, 7U, UINT32_MAX}) c.add_uint_contents(v);
      break;
    case DType::kUint64:
      for (const uint64_t v : {uint64_t{0}, uint64_t{7}, UINT64_MAX}) c.add_uint64_contents(v);
      break;
    case DType::kFloat32:
      for (const float v : {-1.5f, 0.0f, INFINITY}) c.add_fp32_contents(v);
      break;
    case DType::kFloat64:
      for (const double v : {-1.5, 1e300, 3.0}) c.add_fp64_contents(v);
      break;
    case DType::kString:
      for (const char* v : {"", "two", "a\xff"}) c.add_bytes_contents(v);
      break;
    default:
      FAIL();
  }
}

TEST_F(GrpcPlaneTest, RawAndTypedContentsAreEqual) {
  std::vector<std::shared_ptr<ModelVersion>> versions;
  for (const DType dtype : kTypes)
    versions.push_back(make_version(identity_graph(dtype, Shape({Dim(3)})), std::string(datatype_name(dtype))));
  serve(make_server(versions));
  const auto request_for = [](DType type) {
    inference::ModelInferRequest request;
    request.set_model_name(std::string(datatype_name(type)));
    auto* x = request.add_inputs();
    x->set_name("x");
    x->set_datatype(std::string(datatype_name(type)));
    x->add_shape(3);
    return request;
  };
  for (const DType dtype : kTypes) {
    if (dtype == DType::kFloat16 || dtype == DType::kBfloat16) continue;  // raw only
    SCOPED_TRACE(datatype_name(dtype));
    inference::ModelInferRequest typed = request_for(dtype);
    fill(*typed.mutable_inputs(0)->mutable_contents(), dtype);
    inference::ModelInferResponse answer, again;
    const grpc::Status status = infer(typed, answer);
    ASSERT_TRUE(status.ok()) << status.error_message();
    // What came back, sent raw, comes back the same; and it is what was sent.
    inference::ModelInferRequest raw = request_for(dtype);
    raw.add_raw_input_contents(answer.raw_output_contents(0));
    ASSERT_TRUE(infer(raw, again).ok());
    EXPECT_EQ(again.raw_output_contents(0), answer.raw_output_contents(0));
    if (dtype == DType::kInt16) {
      EXPECT_EQ(answer.raw_output_contents(0), std::string("\x00\x80\x05\x00\xff\x7f", 6));
    } else if (dtype == DType::kString) {
      EXPECT_EQ(answer.raw_output_contents(0), std::string("\0\0\0\0\3\0\0\0two\2\0\0\0a\xff", 17));
    } else if (dtype == DType::kFloat64) {
      double value = 0;
      std::memcpy(&value, answer.raw_output_contents(0).data() + 8, sizeof value);
      EXPECT_EQ(value, 1e300);
    } else if (dtype == DType::kUint64) {
      EXPECT_EQ(answer.raw_output_contents(0).substr(16), std::string(8, '\xff'));
    }
  }
  for (const DType dtype : {DType::kFloat16, DType::kBfloat16}) {
    inference::ModelInferRequest request = request_for(dtype);
    expect_refused(request, StatusCode::INVALID_ARGUMENT, "raw_input_contents");
    request.add_raw_input_contents("\x01\x02\x03\x04\x05\x06");
    inference::ModelInferResponse answer;
    ASSERT_TRUE(infer(request, answer).ok());
    EXPECT_EQ(answer.raw_output_contents(0), "\x01\x02\x03\x04\x05\x06");
  }
  for (const auto& [dtype, value] : {std::pair{DType::kInt8, 128}, {DType::kInt8, -129}, {DType::kInt16, 1 << 15}}) {
    inference::ModelInferRequest request = request_for(dtype);
    for (int v : {0, value, 0}) request.mutable_inputs(0)->mutable_contents()->add_int_contents(v);
    expect_refused(request, StatusCode::INVALID_ARGUMENT, std::to_string(value));
  }
  for (const auto& [dtype, value] : {std::pair{DType::kUint8, 256U}, {DType::kUint16, 1U << 16}}) {
    inference::ModelInferRequest request = request_for(dtype);
    for (unsigned v : {0U, value, 0U}) request.mutable_inputs(0)->mutable_contents()->add_uint_contents(v);
    expect_refused(request, StatusCode::INVALID_ARGUMENT, std::to_string(value));
  }
}

std::span<const std::byte> bytes_of_text(const std::string& text) { return std::as_bytes(std::span(text)); }

TEST(InferMessage, ViewsRawTensorsThatAreAligned) {
  inference::ModelInferRequest request;
  request.set_model_name("m");
  auto* x = request.add_inputs();
  x->set_name("x");
  x->set_datatype("FP32");
  x->add_shape(2);
  request.add_raw_input_contents("12345678");
  const std::string encoded = request.SerializeAsString();
  const auto buffer = std::make_shared<std::vector<std::byte>>(encoded.size() + 4);
  int views = 0;
  for (size_t shift = 0; shift < 4; ++shift) {
    std::byte* begin = buffer->data() + shift;
    std::memcpy(begin, encoded.data(), encoded.size());
    const InferMessage message = decode_infer_message({begin, encoded.size()}, buffer);
    const WireTensor& tensor = message.request.inputs.at(0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % 4, 0U);
    EXPECT_EQ(std::memcmp(tensor.bytes.data(), "12345678", 8), 0);
    EXPECT_EQ(tensor.dims, (Dims{2}));
    views += tensor.bytes.data() > begin && tensor.bytes.data() < begin + encoded.size();
  }
  EXPECT_EQ(views, 1);
}

TEST(InferMessage, ReadsParametersOfEveryType) {
  inference::ModelInferRequest request;
  auto& parameters = *request.mutable_parameters();
  parameters["bool"].set_bool_param(true);
  parameters["int"].set_int64_param(-5);
  parameters["text"].set_string_param("t");
  parameters["double"].set_double_param(1.5);
  parameters["uint"].set_uint64_param(UINT64_MAX);
  parameters["timeout"].set_int64_param(1500);
  const std::string encoded = request.SerializeAsString();
  const InferMessage message = decode_infer_message(bytes_of_text(encoded), nullptr);
  EXPECT_EQ(message.timeout_us, 1500);
  EXPECT_EQ(message.parameter("bool"), "true");
  EXPECT_EQ(message.parameter("int"), "-5");
  EXPECT_EQ(message.parameter("text"), "t");
  EXPECT_EQ(message.parameter("double"), "1.5");
  EXPECT_EQ(message.parameter("uint"), "18446744073709551615");
  EXPECT_EQ(message.parameter("none"), "");
}

TEST(InferMessage, ReadsUnpackedNumbers) {
  // x: INT32 [2]; contents {int_contents: 7, int_contents: -1}, each with a key of its own; the shape unpacked too.
  const std::string contents = std::string("\x10\x07\x10") + std::string(9, '\xff') + "\x01";
  const std::string input =
      "\x0a\x01x\x12\x05INT32\x18\x02\x2a" + std::string(1, static_cast<char>(contents.size())) + contents;
  const std::string encoded = "\x2a" + std::string(1, static_cast<char>(input.size())) + input;
  const InferMessage message = decode_infer_message(bytes_of_text(encoded), nullptr);
  const WireTensor& tensor = message.request.inputs.at(0);
  ASSERT_EQ(tensor.bytes.size(), 8U);
  EXPECT_EQ(std::memcmp(tensor.bytes.data(), "\x07\0\0\0\xff\xff\xff\xff", 8), 0);
}

TEST(InferMessage, AShapeThatLiesTakesNoMemory) {
  inference::ModelInferRequest request;
  auto* x = request.add_inputs();
  x->set_name("x");
  x->set_datatype("INT64");
  x->add_shape(int64_t{1} << 39);
  x->mutable_contents()->add_int64_contents(1);
  const std::string encoded = request.SerializeAsString();
  EXPECT_THROW(decode_infer_message(bytes_of_text(encoded), nullptr), Error);
}

TEST(InferMessage, Corpus) { replay_corpus("infer_message_fuzz", fuzz_infer_message); }

}  // namespace
}  // namespace slipway
