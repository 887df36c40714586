// ModelInferRequest and ModelInferResponse straight from and to the wire: generated classes would copy every raw tensor
// into a string of its own, and let a small message of empty elements grow to many times its size in memory.
#include "serve/grpc/infer_message.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "serve/grpc/wire_format.h"

namespace slipway {
namespace {
using Type = WireReader::Type;
using Bytes = std::span<const std::byte>;

constexpr size_t kMaxParts = 1024, kMaxRank = 64;  // tensors or parameters of a request, dimensions of a tensor
constexpr int64_t kMaxElements = int64_t{1} << 40;

[[noreturn]] void refuse_parts(const char* what) {
  fail(ErrorCode::kInvalidArgument, "The request has more {} than {}; split it", what, kMaxParts);
}

MessageParameter read_parameter(Bytes entry) {
  MessageParameter parameter;
  for (WireReader reader(entry); reader.next();) {
    if (reader.field() == 1) {
      reader.expect(Type::kBytes);
      parameter.name = reader.text();
    } else if (reader.field() == 2) {
      reader.expect(Type::kBytes);
      for (WireReader choice(reader.bytes()); choice.next();) {
        if (choice.field() == 3) {
          choice.expect(Type::kBytes);
          parameter.value = choice.text();
        } else if (choice.field() == 4) {
          choice.expect(Type::kFixed64);
          double value;
          const uint64_t bits = choice.fixed64();
          std::memcpy(&value, &bits, sizeof value);
          parameter.value = value;
        } else if (choice.field() == 1 || choice.field() == 2 || choice.field() == 5) {
          choice.expect(Type::kVarint);
          const uint64_t value = choice.varint();
          if (choice.field() == 1)
            parameter.value = value != 0;
          else if (choice.field() == 2)
            parameter.value = static_cast<int64_t>(value);
          else
            parameter.value = value;
        } else {
          choice.skip();
        }
      }
    } else {
      reader.skip();
    }
  }
  return parameter;
}

/// What a tensor's parameters may ask for and we have not.
void check_tensor_parameter(const MessageParameter& parameter, std::string_view tensor) {
  if (parameter.name.starts_with("shared_memory"))
    fail(ErrorCode::kUnsupported, "Shared memory is not offered; send the tensor in the message: tensor '{}'", tensor);
  if (parameter.name == "classification")
    fail(ErrorCode::kUnsupported,
         "Classification is not offered over gRPC; rank the output's values, or POST /predict: output '{}'", tensor);
}

struct InputTensor {
  WireTensor tensor;
  std::string_view datatype;
  Bytes contents;
  bool typed = false;
};

InputTensor read_input(Bytes message) {
  InputTensor input;
  std::vector<MessageParameter> parameters;
  for (WireReader reader(message); reader.next();) {
    if (reader.field() > 5) {
      reader.skip();
      continue;
    }
    if (reader.field() == 3) {
      const auto add = [&](WireReader& from) {
        if (input.tensor.dims.size() == kMaxRank)
          fail(ErrorCode::kInvalidArgument, "A tensor has more dimensions than {}; reshape it", kMaxRank);
        input.tensor.dims.push_back(static_cast<int64_t>(from.varint()));
      };
      if (reader.type() == Type::kBytes) {
        for (WireReader packed(reader.bytes()); !packed.empty();) add(packed);
      } else {
        reader.expect(Type::kVarint);
        add(reader);
      }
      continue;
    }
    reader.expect(Type::kBytes);
    if (reader.field() == 1) {
      input.tensor.name = reader.text();
    } else if (reader.field() == 2) {
      input.datatype = reader.text();
    } else if (reader.field() == 4) {
      if (parameters.size() == kMaxParts) refuse_parts("parameters");
      parameters.push_back(read_parameter(reader.bytes()));
    } else {
      if (input.typed) fail(ErrorCode::kInvalidArgument, "An input has contents twice; send them once");
      input.contents = reader.bytes();
      input.typed = !input.contents.empty();
    }
  }
  for (const MessageParameter& p : parameters) check_tensor_parameter(p, input.tensor.name);
  input.tensor.dtype = parse_datatype(input.datatype);
  if (input.tensor.dtype == DType::kUndefined)
    fail(ErrorCode::kInvalidArgument,
         "An input has a datatype that the protocol has not; use BOOL, UINT8 … UINT64, INT8 … INT64, FP16, BF16, FP32, "
         "FP64 or BYTES: input '{}' has '{}'",
         input.tensor.name, input.datatype);
  return input;
}

int64_t checked_elements(const WireTensor& tensor) {
  int64_t count = 1;
  for (int64_t d : tensor.dims)
    if (d < 0 || __builtin_mul_overflow(count, d, &count) || count > kMaxElements)
      fail(ErrorCode::kInvalidArgument,
           "An input's shape is negative or too large; give it as it is: input '{}' has {}", tensor.name,
           to_string(tensor.dims));
  return count;
}

/// Where a type's values are in InferTensorContents, and how they are written.
struct ContentsField {
  uint32_t number;
  Type type;
};
ContentsField contents_field(const WireTensor& tensor) {
  switch (tensor.dtype) {
    case DType::kBool:
      return {1, Type::kVarint};
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
      return {2, Type::kVarint};
    case DType::kInt64:
      return {3, Type::kVarint};
    case DType::kUint8:
    case DType::kUint16:
    case DType::kUint32:
      return {4, Type::kVarint};
    case DType::kUint64:
      return {5, Type::kVarint};
    case DType::kFloat32:
      return {6, Type::kFixed32};
    case DType::kFloat64:
      return {7, Type::kFixed64};
    case DType::kString:
      return {8, Type::kBytes};
    default:
      fail(ErrorCode::kInvalidArgument, "A {} tensor has no typed contents; send it in raw_input_contents: input '{}'",
           datatype_name(tensor.dtype), tensor.name);
  }
}

template <typename Visit>
void visit_values(const WireTensor& tensor, Bytes contents, ContentsField field, Visit&& visit) {
  for (WireReader reader(contents); reader.next();) {
    if (reader.field() != field.number) {
      if (reader.field() <= 8)
        fail(ErrorCode::kInvalidArgument,
             "An input's contents are of another type than its datatype; use the field of {}: input '{}'",
             datatype_name(tensor.dtype), tensor.name);
      reader.skip();
    } else if (reader.type() == Type::kBytes && field.type != Type::kBytes) {
      for (WireReader packed(reader.bytes()); !packed.empty();) visit(packed);
    } else {
      reader.expect(field.type);
      visit(reader);
    }
  }
}

[[noreturn]] void refuse_count(const WireTensor& tensor, int64_t count, int64_t given) {
  fail(ErrorCode::kInvalidArgument,
       "An input's contents are not as many as its shape has elements; send all: input '{}' of {} has {} instead of {}",
       tensor.name, to_string(tensor.dims), given, count);
}

template <typename T>
T read_value(WireReader& reader, const WireTensor& tensor) {
  if constexpr (std::is_floating_point_v<T>) {
    std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t> bits;
    if constexpr (sizeof(T) == 4)
      bits = reader.fixed32();
    else
      bits = reader.fixed64();
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  } else if constexpr (std::is_same_v<T, bool>) {
    return reader.varint() != 0;
  } else {
    using Wide = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
    const auto value = static_cast<Wide>(reader.varint());
    if (value < std::numeric_limits<T>::min() || value > std::numeric_limits<T>::max())
      fail(ErrorCode::kInvalidArgument, "A value is out of its type's range; send what fits {}: input '{}' has {}",
           datatype_name(tensor.dtype), tensor.name, value);
    return static_cast<T>(value);
  }
}

template <typename T>
std::vector<std::byte> read_numbers(const InputTensor& input, ContentsField field, int64_t count) {
  const WireTensor& tensor = input.tensor;
  // A value takes at least one byte of the message, so a lying shape allocates little.
  const int64_t room = std::min(count, static_cast<int64_t>(input.contents.size()));
  std::vector<std::byte> bytes(static_cast<size_t>(room) * sizeof(T));
  int64_t given = 0;
  visit_values(tensor, input.contents, field, [&](WireReader& reader) {
    const T value = read_value<T>(reader, tensor);
    if (given < room) std::memcpy(bytes.data() + static_cast<size_t>(given) * sizeof(T), &value, sizeof value);
    ++given;
  });
  if (given != count) refuse_count(tensor, count, given);
  return bytes;
}

std::vector<std::byte> read_strings(const InputTensor& input, ContentsField field, int64_t count) {
  std::vector<std::byte> bytes;
  int64_t given = 0;
  visit_values(input.tensor, input.contents, field, [&](WireReader& reader) {
    const Bytes element = reader.bytes();
    const auto size = static_cast<uint32_t>(element.size());
    const auto* prefix = reinterpret_cast<const std::byte*>(&size);
    bytes.insert(bytes.end(), prefix, prefix + sizeof size);
    bytes.insert(bytes.end(), element.begin(), element.end());
    ++given;
  });
  if (given != count) refuse_count(input.tensor, count, given);
  return bytes;
}

/// Floats as writers pack them lie in the message as in the tensor; empty when these don't.
Bytes packed_floats(const InputTensor& input, ContentsField field, size_t size) {
  WireReader reader(input.contents);
  if (!reader.next() || reader.field() != field.number || reader.type() != Type::kBytes) return {};
  const Bytes packed = reader.bytes();
  return reader.empty() && packed.size() == size ? packed : Bytes();
}

std::vector<std::byte> read_typed(const InputTensor& input, ContentsField field, int64_t count) {
  switch (input.tensor.dtype) {
    case DType::kBool:
      return read_numbers<bool>(input, field, count);
    case DType::kInt8:
      return read_numbers<int8_t>(input, field, count);
    case DType::kInt16:
      return read_numbers<int16_t>(input, field, count);
    case DType::kInt32:
      return read_numbers<int32_t>(input, field, count);
    case DType::kInt64:
      return read_numbers<int64_t>(input, field, count);
    case DType::kUint8:
      return read_numbers<uint8_t>(input, field, count);
    case DType::kUint16:
      return read_numbers<uint16_t>(input, field, count);
    case DType::kUint32:
      return read_numbers<uint32_t>(input, field, count);
    case DType::kUint64:
      return read_numbers<uint64_t>(input, field, count);
    case DType::kFloat32:
      return read_numbers<float>(input, field, count);
    case DType::kFloat64:
      return read_numbers<double>(input, field, count);
    default:
      return read_strings(input, field, count);
  }
}

/// The message, and the tensors that had to be rewritten.
struct Rewritten {
  std::shared_ptr<const void> message;
  std::vector<std::vector<std::byte>> tensors;
};

/// Replaces the message as the tensors' owner when the first tensor is rewritten.
class Rewriter {
 public:
  explicit Rewriter(InferRequest& request) : request_(request) {}
  void take(WireTensor& tensor, std::vector<std::byte> bytes) {
    if (rewritten_ == nullptr) {
      rewritten_ = std::make_shared<Rewritten>();
      rewritten_->message = std::exchange(request_.owner, rewritten_);
    }
    tensor.bytes = rewritten_->tensors.emplace_back(std::move(bytes));
  }
  /// Kernels may read the bytes as elements, so they lie as elements must.
  void align(WireTensor& tensor) {
    const auto size = static_cast<size_t>(std::max(bits_of(tensor.dtype) / 8, 1));
    if (reinterpret_cast<uintptr_t>(tensor.bytes.data()) % size != 0)
      take(tensor, {tensor.bytes.begin(), tensor.bytes.end()});
  }

 private:
  InferRequest& request_;
  std::shared_ptr<Rewritten> rewritten_;
};

void take_typed(InputTensor& input, Rewriter& rewriter) {
  const int64_t count = checked_elements(input.tensor);
  const ContentsField field = contents_field(input.tensor);
  if (is_float(input.tensor.dtype))
    input.tensor.bytes = packed_floats(input, field, bytes_of(input.tensor.dtype, count));
  if (input.tensor.bytes.empty())
    rewriter.take(input.tensor, read_typed(input, field, count));
  else
    rewriter.align(input.tensor);
}

int64_t read_timeout(const MessageParameter& parameter) {
  int64_t timeout_us = -1;
  if (const auto* v = std::get_if<int64_t>(&parameter.value)) timeout_us = *v;
  if (const auto* v = std::get_if<uint64_t>(&parameter.value))
    timeout_us = static_cast<int64_t>(std::min<uint64_t>(*v, std::numeric_limits<int64_t>::max()));
  if (timeout_us < 0)
    fail(ErrorCode::kInvalidArgument, "The parameter 'timeout' is microseconds; give an int64 of 0 or more");
  return std::min(timeout_us, int64_t{1} << 50);
}
}  // namespace

std::string InferMessage::parameter(std::string_view name) const {
  for (const MessageParameter& p : parameters)
    if (p.name == name)
      return std::visit(
          [](const auto& value) -> std::string {
            if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::monostate>)
              return {};
            else
              return fmt::format("{}", value);
          },
          p.value);
  return {};
}

InferMessage decode_infer_message(Bytes bytes, std::shared_ptr<const void> owner) {
  InferMessage message;
  InferRequest& request = message.request;
  request.owner = std::move(owner);
  std::vector<InputTensor> inputs;
  std::vector<Bytes> raw;
  for (WireReader reader(bytes); reader.next();) {
    if (reader.field() > 7) {
      reader.skip();
      continue;
    }
    reader.expect(Type::kBytes);
    switch (reader.field()) {
      case 1:
        message.model = reader.text();
        break;
      case 2:
        message.version = reader.text();
        break;
      case 3:
        request.id = reader.text();
        break;
      case 4:
        if (message.parameters.size() == kMaxParts) refuse_parts("parameters");
        message.parameters.push_back(read_parameter(reader.bytes()));
        break;
      case 5:
        if (inputs.size() == kMaxParts) refuse_parts("inputs");
        inputs.push_back(read_input(reader.bytes()));
        break;
      case 6: {
        if (request.outputs.size() == kMaxParts) refuse_parts("outputs");
        std::string name;
        for (WireReader output(reader.bytes()); output.next();) {
          if (output.field() > 2) {
            output.skip();
            continue;
          }
          output.expect(Type::kBytes);
          if (output.field() == 1)
            name = output.text();
          else
            check_tensor_parameter(read_parameter(output.bytes()), name);
        }
        request.outputs.push_back(std::move(name));
        break;
      }
      default:
        if (raw.size() == kMaxParts) refuse_parts("raw contents");
        raw.push_back(reader.bytes());
    }
  }
  for (const MessageParameter& p : message.parameters) {
    if (p.name == "timeout") message.timeout_us = read_timeout(p);
    if (p.name.starts_with("sequence_"))
      fail(ErrorCode::kUnsupported, "Sequences are not offered; send requests that stand alone: parameter '{}'",
           p.name);
  }
  Rewriter rewriter(request);
  if (raw.empty()) {
    for (InputTensor& input : inputs) take_typed(input, rewriter);
  } else {
    const auto typed = std::find_if(inputs.begin(), inputs.end(), [](const InputTensor& i) { return i.typed; });
    if (typed != inputs.end())
      fail(ErrorCode::kInvalidArgument,
           "The request has raw_input_contents and an input with contents of its own; send one of them: input '{}'",
           typed->tensor.name);
    if (raw.size() != inputs.size())
      fail(ErrorCode::kInvalidArgument, "The request has {} raw_input_contents for {} inputs; send one for each",
           raw.size(), inputs.size());
    for (size_t i = 0; i < raw.size(); ++i) {
      inputs[i].tensor.bytes = raw[i];
      rewriter.align(inputs[i].tensor);
    }
  }
  for (InputTensor& input : inputs) request.inputs.push_back(std::move(input.tensor));
  return message;
}

std::vector<MessagePiece> encode_infer_message(const InferResponse& response, Variant variant, bool in_stream) {
  std::vector<MessagePiece> pieces(1);
  pieces[0].text.reserve(256);
  WireWriter head(pieces[0].text);
  head.text(1, response.model);
  if (response.version != 0) head.text(2, std::to_string(response.version));
  head.text(3, response.id);
  std::string part, value;
  if (!response.error) {
    WireWriter(value).text(3, to_string(variant));
    WireWriter entry(part);
    entry.text(1, "slipway_variant");
    entry.text(2, value);
    head.text(4, part);
    for (const WireTensor& output : response.outputs) {
      part.clear();
      value.clear();
      for (int64_t d : output.dims) WireWriter(value).varint(static_cast<uint64_t>(d));
      entry.text(1, output.name);
      entry.text(2, datatype_name(output.dtype));
      entry.text(3, value);
      head.text(5, part);
    }
    for (const WireTensor& output : response.outputs) {
      WireWriter(pieces.back().text).bytes_follow(6, output.bytes.size());
      pieces.back().bytes = output.bytes;
      pieces.emplace_back();
    }
    if (pieces.size() > 1) pieces.pop_back();
  }
  if (in_stream) {
    uint64_t size = 0;
    for (const MessagePiece& piece : pieces) size += piece.text.size() + piece.bytes.size();
    std::string prefix;
    WireWriter writer(prefix);
    if (response.error) writer.text(1, response.message);
    writer.bytes_follow(2, size);
    pieces[0].text.insert(0, prefix);
  }
  return pieces;
}

}  // namespace slipway
