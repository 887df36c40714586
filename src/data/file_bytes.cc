// Files as bytes: mapped, gunzipped, or taken out of a zip archive (stored or deflated, no zip64, no encryption).
// The zip directory is found from the end-of-central-directory record (PKWARE APPNOTE 4.3.16) and every offset and
// size is checked against the archive before use; unpacked sizes are bounded by what the caller or the directory says.
#include "data/file_bytes.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/file.h"

namespace slipway {
namespace {

constexpr int kGzip = 15 + 16, kRawDeflate = -15;
constexpr size_t kChunk = size_t{1} << 30;  // zlib counts in 32 bits

struct Inflate {
  explicit Inflate(int window_bits) {
    if (inflateInit2(&stream, window_bits) != Z_OK) fail(ErrorCode::kInternal, "zlib could not start");
  }
  ~Inflate() { inflateEnd(&stream); }
  Inflate(const Inflate&) = delete;
  Inflate& operator=(const Inflate&) = delete;
  z_stream stream{};
};

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

/// Appends one stream's contents to `out` and returns the packed bytes it took.
size_t inflate_into(std::vector<std::byte>& out, std::span<const std::byte> packed, int window_bits, uint64_t max_bytes,
                    const std::string& name) {
  Inflate inflater(window_bits);
  z_stream& z = inflater.stream;
  size_t taken = 0, made = out.size();
  for (int status = Z_OK; status != Z_STREAM_END;) {
    if (made == out.size()) {
      if (made > max_bytes)
        fail(ErrorCode::kInvalidArgument, "The packed data unpack to more than {} bytes; use a smaller file: {}",
             max_bytes, name);
      out.resize(
          static_cast<size_t>(std::min<uint64_t>(max_bytes + 1, std::max<size_t>(made * 2, packed.size() * 4 + 256))));
    }
    const size_t room = std::min(out.size() - made, kChunk), fed = std::min(packed.size() - taken, kChunk);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data() + taken));
    z.avail_in = static_cast<uInt>(fed);
    z.next_out = reinterpret_cast<Bytef*>(out.data() + made);
    z.avail_out = static_cast<uInt>(room);
    status = inflate(&z, Z_NO_FLUSH);
    taken += fed - z.avail_in;
    made += room - z.avail_out;
    if (status == Z_BUF_ERROR && taken == packed.size())
      fail(ErrorCode::kIo, "The packed data end too early; copy or download the file again: {}", name);
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
      fail(ErrorCode::kIo, "The packed data are damaged ({}); copy or download the file again: {}",
           z.msg != nullptr ? z.msg : "zlib", name);
  }
  out.resize(made);
  if (made > max_bytes)
    fail(ErrorCode::kInvalidArgument, "The packed data unpack to more than {} bytes; use a smaller file: {}", max_bytes,
         name);
  return taken;
}

/// Little-endian fields at checked offsets.
struct Fields {
  std::span<const std::byte> bytes;
  uint64_t get(uint64_t offset, int width, const std::string& name) const {
    if (offset > bytes.size() || bytes.size() - offset < static_cast<uint64_t>(width))
      fail(ErrorCode::kInvalidArgument, "The zip archive is damaged; write it again: {}", name);
    uint64_t value = 0;
    for (int i = 0; i < width; ++i) value |= std::to_integer<uint64_t>(bytes[offset + static_cast<size_t>(i)]) << 8 * i;
    return value;
  }
};

}  // namespace

FileBytes open_bytes(const std::string& path, uint64_t max_bytes) {
  auto mapped = std::make_shared<MappedFile>(path);
  const auto bytes = mapped->bytes();
  if (!is_gzip(bytes)) return {mapped, bytes};
  auto unpacked = std::make_shared<std::vector<std::byte>>(gunzip(bytes, path, max_bytes));
  return {unpacked, *unpacked};
}

std::vector<std::byte> gunzip(std::span<const std::byte> packed, const std::string& name, uint64_t max_bytes) {
  std::vector<std::byte> out;
  if (packed.size() >= 18) {  // the last four bytes say the size modulo 2^32; deflate shrinks at most 1032 times
    uint32_t hint = 0;
    std::memcpy(&hint, packed.data() + packed.size() - 4, 4);
    if (hint / 1032 <= packed.size()) out.reserve(std::min<uint64_t>(hint, max_bytes));
  }
  size_t at = 0;
  do {
    at += inflate_into(out, packed.subspan(at), kGzip, max_bytes, name);
  } while (is_gzip(packed.subspan(at)));
  return out;
}

std::vector<ZipMember> zip_members(std::span<const std::byte> archive, const std::string& name) {
  constexpr uint64_t kEndRecord = 22, kEntry = 46;
  const Fields fields{archive};
  const auto get = [&](uint64_t offset, int width) { return fields.get(offset, width, name); };
  if (archive.size() < kEndRecord || get(0, 2) != 0x4b50)
    fail(ErrorCode::kInvalidArgument, "This is not a zip archive; write it with numpy.savez: {}", name);
  uint64_t end = archive.size() - kEndRecord;
  const uint64_t lowest = end > 65535 ? end - 65535 : 0;
  while (get(end, 4) != 0x06054b50) {
    if (end == lowest) fail(ErrorCode::kInvalidArgument, "The zip archive has no directory; write it again: {}", name);
    --end;
  }
  const uint64_t count = get(end + 10, 2);
  uint64_t at = get(end + 16, 4);
  if (at == 0xffffffff || count == 0xffff)
    fail(ErrorCode::kUnsupported, "Zip archives above 4 GiB are not read; store the arrays as .npy files: {}", name);
  std::vector<ZipMember> members;
  for (uint64_t i = 0; i < count; ++i) {
    if (get(at, 4) != 0x02014b50)
      fail(ErrorCode::kInvalidArgument, "The zip archive's directory is damaged; write it again: {}", name);
    ZipMember member;
    const uint64_t method = get(at + 10, 2), name_bytes = get(at + 28, 2);
    member.deflated = method == 8;
    member.crc32 = static_cast<uint32_t>(get(at + 16, 4));
    member.packed_bytes = get(at + 20, 4);
    member.unpacked_bytes = get(at + 24, 4);
    member.offset = get(at + 42, 4);
    get(at + kEntry + name_bytes, 0);
    member.name.assign(reinterpret_cast<const char*>(archive.data() + at + kEntry), name_bytes);
    if ((method != 0 && method != 8) || (get(at + 8, 2) & 1) != 0 || member.unpacked_bytes == 0xffffffff)
      fail(ErrorCode::kUnsupported, "A zip member is neither stored nor deflated; write it with numpy.savez: {} in {}",
           member.name, name);
    members.push_back(std::move(member));
    at += kEntry + name_bytes + get(at + 30, 2) + get(at + 32, 2);
  }
  return members;
}

std::vector<std::byte> zip_read(std::span<const std::byte> archive, const ZipMember& member, const std::string& name) {
  const Fields fields{archive};
  const std::string place = member.name + " in " + name;
  if (fields.get(member.offset, 4, place) != 0x04034b50)
    fail(ErrorCode::kInvalidArgument, "The zip archive is damaged; write it again: {}", place);
  const uint64_t start =
      member.offset + 30 + fields.get(member.offset + 26, 2, place) + fields.get(member.offset + 28, 2, place);
  fields.get(start, 0, place);
  if (archive.size() - start < member.packed_bytes ||
      (!member.deflated && member.packed_bytes != member.unpacked_bytes))
    fail(ErrorCode::kInvalidArgument, "The zip archive is cut short; write it again: {}", place);
  const auto packed = archive.subspan(start, member.packed_bytes);
  std::vector<std::byte> out;
  if (member.deflated)
    inflate_into(out, packed, kRawDeflate, member.unpacked_bytes, place);
  else
    out.assign(packed.begin(), packed.end());
  uLong sum = ::crc32(0, nullptr, 0);
  for (size_t at = 0; at < out.size(); at += kChunk)
    sum = ::crc32(sum, reinterpret_cast<const Bytef*>(out.data() + at),
                  static_cast<uInt>(std::min(kChunk, out.size() - at)));
  if (out.size() != member.unpacked_bytes || sum != member.crc32)
    fail(ErrorCode::kIo, "A zip member is damaged (its checksum differs); write it again: {}", place);
  return out;
}

void swap_byte_order(std::span<std::byte> bytes, size_t width) {
  for (size_t at = 0; at + width <= bytes.size(); at += width)
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                 bytes.begin() + static_cast<std::ptrdiff_t>(at + width));
}

}  // namespace slipway
