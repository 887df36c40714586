#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace slipway {

/// A file's contents, kept alive by `owner`: a mapping, or the unpacked bytes of a gzipped file.
struct FileBytes {
  std::shared_ptr<const void> owner;
  std::span<const std::byte> bytes;
};

inline constexpr uint64_t kMaxUnpackedBytes = uint64_t{8} << 30;

/// Maps a file, or unpacks it when it is gzipped (told by its first bytes, not its name). Fails with kNotFound, kIo
/// (also when the stream is truncated or damaged), and kInvalidArgument beyond `max_bytes` unpacked.
FileBytes open_bytes(const std::string& path, uint64_t max_bytes = kMaxUnpackedBytes);

/// Unpacks a gzip stream of one or more members. `name` is for messages.
std::vector<std::byte> gunzip(std::span<const std::byte> packed, const std::string& name,
                              uint64_t max_bytes = kMaxUnpackedBytes);

/// One member of a zip archive.
struct ZipMember {
  std::string name;
  bool deflated = false;
  uint64_t offset = 0;  ///< of its local header
  uint64_t packed_bytes = 0, unpacked_bytes = 0;
  uint32_t crc32 = 0;
};

/// The archive's directory. Fails with kInvalidArgument when it is no zip file, damaged, encrypted, or above 4 GiB.
std::vector<ZipMember> zip_members(std::span<const std::byte> archive, const std::string& name);
/// A member's contents, its checksum verified.
std::vector<std::byte> zip_read(std::span<const std::byte> archive, const ZipMember& member, const std::string& name);

/// Reverses the bytes of each `width`-byte element: big-endian to little-endian.
void swap_byte_order(std::span<std::byte> bytes, size_t width);

}  // namespace slipway
