// Protocol Buffers' wire format: a message is a row of (key, value); a key is a varint of field number and type.
#include "serve/grpc/wire_format.h"

#include <bit>
#include <cstring>

#include "base/error.h"

namespace slipway {
static_assert(std::endian::native == std::endian::little);

bool WireReader::next() {
  if (rest_.empty()) return false;
  const uint64_t key = varint();
  field_ = static_cast<uint32_t>(key >> 3);
  type_ = static_cast<Type>(key & 7);
  if (field_ == 0 || key >> 32 != 0 ||
      (type_ != Type::kVarint && type_ != Type::kFixed64 && type_ != Type::kBytes && type_ != Type::kFixed32))
    fail(ErrorCode::kInvalidArgument, "The message has a field that can't be read; encode it with Protocol Buffers");
  return true;
}

void WireReader::expect(Type type) const {
  if (type_ != type)
    fail(ErrorCode::kInvalidArgument,
         "The message has a field of another type than the protocol's; compare the client's schema: field {}", field_);
}

void WireReader::skip() {
  switch (type_) {
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
  for (size_t i = 0; i < 10 && i < rest_.size(); ++i) {
    const auto byte = static_cast<uint64_t>(rest_[i]);
    value |= (byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      rest_ = rest_.subspan(i + 1);
      return value;
    }
  }
  fail(ErrorCode::kInvalidArgument, "The message has a number without an end; encode it with Protocol Buffers");
}

std::span<const std::byte> WireReader::take(size_t size) {
  if (size > rest_.size())
    fail(ErrorCode::kInvalidArgument,
         "The message ends inside a field; send it whole: {} bytes are announced, {} are left", size, rest_.size());
  const std::span<const std::byte> taken = rest_.first(size);
  rest_ = rest_.subspan(size);
  return taken;
}

uint32_t WireReader::fixed32() {
  uint32_t value;
  std::memcpy(&value, take(sizeof value).data(), sizeof value);
  return value;
}

uint64_t WireReader::fixed64() {
  uint64_t value;
  std::memcpy(&value, take(sizeof value).data(), sizeof value);
  return value;
}

std::span<const std::byte> WireReader::bytes() { return take(varint()); }

std::string_view WireReader::text() {
  const std::span<const std::byte> view = bytes();
  return {reinterpret_cast<const char*>(view.data()), view.size()};
}

void WireWriter::varint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) message_.push_back(static_cast<char>(value | 0x80));
  message_.push_back(static_cast<char>(value));
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
