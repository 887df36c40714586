// Files as bytes: mapped, gunzipped, or taken out of a zip archive. Unpacked sizes are bounded, whatever a file says.
#include "data/file_bytes.h"

#include <zip.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/file.h"

namespace slipway {
namespace {

constexpr int kGzip = 15 + 16;
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
size_t gunzip_into(std::vector<std::byte>& out, std::span<const std::byte> packed, uint64_t max_bytes,
                   const std::string& name) {
  Inflate inflater(kGzip);
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

/// An archive in memory, opened to be read.
class ZipArchive {
 public:
  ZipArchive(std::span<const std::byte> bytes, const std::string& name) {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
    if (source != nullptr) zip_ = zip_open_from_source(source, ZIP_RDONLY, &error);
    if (zip_ != nullptr) return;
    zip_source_free(source);
    const std::string why = zip_error_strerror(&error);
    zip_error_fini(&error);
    fail(ErrorCode::kInvalidArgument, "This is no zip archive, or a damaged one; write it with numpy.savez: {} ({})",
         name, why);
  }
  ~ZipArchive() { zip_discard(zip_); }
  ZipArchive(const ZipArchive&) = delete;
  ZipArchive& operator=(const ZipArchive&) = delete;
  zip_t* get() const { return zip_; }

 private:
  zip_t* zip_ = nullptr;
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
    at += gunzip_into(out, packed.subspan(at), max_bytes, name);
  } while (is_gzip(packed.subspan(at)));
  return out;
}

std::vector<std::string> zip_members(std::span<const std::byte> archive, const std::string& name) {
  const ZipArchive zip(archive, name);
  std::vector<std::string> members;
  for (zip_int64_t i = 0; i < zip_get_num_entries(zip.get(), 0); ++i) {
    const char* member = zip_get_name(zip.get(), static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW);
    members.emplace_back(member == nullptr ? "" : member);
  }
  return members;
}

std::vector<std::byte> zip_read(std::span<const std::byte> archive, size_t member, const std::string& name) {
  const ZipArchive zip(archive, name);
  const auto damaged = [&](const char* why) {
    fail(ErrorCode::kIo, "A zip member can't be unpacked; write it again with numpy.savez: member {} of {} ({})",
         member, name, why);
  };
  zip_file_t* file = zip_fopen_index(zip.get(), member, 0);
  if (file == nullptr) damaged(zip_strerror(zip.get()));
  const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> closed(file, zip_fclose);
  zip_stat_t said;
  zip_stat_init(&said);
  zip_stat_index(zip.get(), member, 0, &said);
  if (said.size > kMaxUnpackedBytes) damaged("it is larger than 8 GiB");
  // Deflate shrinks at most 1032 times; one more byte, so that the end is seen.
  std::vector<std::byte> out(std::min<size_t>(said.size, archive.size() * 1032) + 1);
  for (size_t made = 0;;) {
    if (made == out.size()) damaged("it is larger than it says");
    const zip_int64_t n = zip_fread(file, out.data() + made, out.size() - made);
    if (n < 0) damaged(zip_file_strerror(file));  // its checksum is compared at the end
    made += static_cast<size_t>(n);
    if (n == 0) {
      out.resize(made);
      return out;
    }
  }
}

void swap_byte_order(std::span<std::byte> bytes, size_t width) {
  for (size_t at = 0; at + width <= bytes.size(); at += width)
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                 bytes.begin() + static_cast<std::ptrdiff_t>(at + width));
}

}  // namespace slipway
