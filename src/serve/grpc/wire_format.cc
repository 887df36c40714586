#include "serve/grpc/wire_format.h"

#include <limits>

#include "base/error.h"

namespace slipway {
namespace {

using google::protobuf::io::CodedOutputStream;

[[noreturn]] void refuse_end() {
  fail(ErrorCode::kInvalidArgument, "The message ends inside a field; send it whole, encoded with Protocol Buffers");
}

int size_of(std::span<const std::byte> message) {
  if (message.size() > static_cast<size_t>(std::numeric_limits<int>::max()))
    fail(ErrorCode::kInvalidArgument, "The message is larger than Protocol Buffers allow; send less than 2 GiB");
  return static_cast<int>(message.size());
}

}  // namespace

WireReader::WireReader(std::span<const std::byte> message)
    : in_(reinterpret_cast<const uint8_t*>(message.data()), size_of(message)), size_(size_of(message)) {}

bool WireReader::next() {
  if (empty()) return false;
  tag_ = in_.ReadTag();
  if (field() == 0 ||
      (type() != Type::kVarint && type() != Type::kFixed64 && type() != Type::kBytes && type() != Type::kFixed32))
    fail(ErrorCode::kInvalidArgument, "The message has a field that can't be read; encode it with Protocol Buffers");
  return true;
}

void WireReader::expect(Type type) const {
  if (this->type() != type)
    fail(ErrorCode::kInvalidArgument,
         "The message has a field of another type than the protocol's; compare the client's schema: field {}", field());
}

void WireReader::skip() {
  switch (type()) {
    case Type::kVarint:
      varint();
      break;
    case Type::kFixed64:
      fixed64();
      break;
    case Type::kBytes:
      bytes();
      break;
    case Type::kFixed32:
      fixed32();
      break;
  }
}

uint64_t WireReader::varint() {
  uint64_t value = 0;
  if (!in_.ReadVarint64(&value)) refuse_end();
  return value;
}

uint32_t WireReader::fixed32() {
  uint32_t value = 0;
  if (!in_.ReadLittleEndian32(&value)) refuse_end();
  return value;
}

uint64_t WireReader::fixed64() {
  uint64_t value = 0;
  if (!in_.ReadLittleEndian64(&value)) refuse_end();
  return value;
}

std::span<const std::byte> WireReader::bytes() {
  const uint64_t size = varint();
  const void* rest = nullptr;
  int left = 0;
  in_.GetDirectBufferPointer(&rest, &left);
  if (size > static_cast<uint64_t>(left)) refuse_end();
  in_.Skip(static_cast<int>(size));
  return {static_cast<const std::byte*>(rest), static_cast<size_t>(size)};
}

std::string_view WireReader::text() {
  const std::span<const std::byte> view = bytes();
  return {reinterpret_cast<const char*>(view.data()), view.size()};
}

void WireWriter::varint(uint64_t value) {
  uint8_t bytes[10];
  const uint8_t* end = CodedOutputStream::WriteVarint64ToArray(value, bytes);
  message_.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(end - bytes));
}

void WireWriter::text(uint32_t field, std::string_view value) {
  if (value.empty()) return;
  bytes_follow(field, value.size());
  message_ += value;
}

void WireWriter::bytes_follow(uint32_t field, uint64_t size) {
  key(field, WireReader::Type::kBytes);
  varint(size);
}

}  // namespace slipway
