#pragma once
#include <google/protobuf/io/coded_stream.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace slipway {

/// A message read in place, by Protocol Buffers' own reader: nothing is copied or allocated, so a message takes no more
/// memory than its bytes. Everything fails with kInvalidArgument on bytes that are no message.
class WireReader {
 public:
  enum class Type : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  /// At most 2 GiB.
  explicit WireReader(std::span<const std::byte> message);
  /// The next field's key; false at the end of the message.
  bool next();
  uint32_t field() const { return tag_ >> 3; }
  Type type() const { return static_cast<Type>(tag_ & 7); }
  /// The next field is of this type, or the message is refused.
  void expect(Type type) const;
  void skip();  ///< the value of the field whose key was read

  // Values: of a field whose key was read, or of the elements of a packed field one after the other until empty().
  bool empty() const { return in_.CurrentPosition() == size_; }
  uint64_t varint();
  uint32_t fixed32();
  uint64_t fixed64();
  std::span<const std::byte> bytes();
  std::string_view text();

 private:
  google::protobuf::io::CodedInputStream in_;
  int size_;
  uint32_t tag_ = 0;
};

/// Appends fields to a message. Empty and zero values are left out, as proto3 does.
class WireWriter {
 public:
  explicit WireWriter(std::string& message) : message_(message) {}
  void varint(uint64_t value);
  void key(uint32_t field, WireReader::Type type) { varint(uint64_t{field} << 3 | static_cast<uint64_t>(type)); }
  void text(uint32_t field, std::string_view value);
  /// The key and the length of `size` bytes that the caller appends.
  void bytes_follow(uint32_t field, uint64_t size);

 private:
  std::string& message_;
};

}  // namespace slipway
