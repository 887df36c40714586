#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace slipway {

/// Protocol Buffers' wire format (its "Encoding" page), read in place: nothing is copied or allocated, so a message
/// takes no more memory than its bytes. Everything fails with kInvalidArgument on bytes that are no message.
class WireReader {
 public:
  enum class Type : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  explicit WireReader(std::span<const std::byte> message) : rest_(message) {}
  /// The next field's key; false at the end of the message.
  bool next();
  uint32_t field() const { return field_; }
  Type type() const { return type_; }
  /// The next field is of this type, or the message is refused.
  void expect(Type type) const;
  void skip();  ///< the value of the field whose key was read

  // Values: of a field whose key was read, or of the elements of a packed field one after the other until empty().
  bool empty() const { return rest_.empty(); }
  uint64_t varint();
  uint32_t fixed32();
  uint64_t fixed64();
  std::span<const std::byte> bytes();
  std::string_view text();

 private:
  std::span<const std::byte> take(size_t size);
  std::span<const std::byte> rest_;
  uint32_t field_ = 0;
  Type type_ = Type::kVarint;
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
