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

/// The names of a zip archive's members. Fails with kInvalidArgument when it is none or damaged.
std::vector<std::string> zip_members(std::span<const std::byte> archive, const std::string& name);
/// The contents of the member at that place, its checksum verified. Fails with kIo when it is damaged, encrypted or
/// larger than kMaxUnpackedBytes.
std::vector<std::byte> zip_read(std::span<const std::byte> archive, size_t member, const std::string& name);

/// Reverses the bytes of each `width`-byte element: big-endian to little-endian.
void swap_byte_order(std::span<std::byte> bytes, size_t width);

}  // namespace slipway
