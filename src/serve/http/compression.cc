// Content codings of HTTP (RFC 9110, section 8.4.1) with zlib. "deflate" means the zlib format; clients that send bare
// deflate are understood too. Unpacking stops at the limit, so that a bomb costs no more than an honest body.
#include "serve/http/compression.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <memory>
#include <new>

#include "base/error.h"

namespace slipway {

namespace {

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

bool same(std::string_view a, std::string_view lower) {
  return std::equal(a.begin(), a.end(), lower.begin(), lower.end(),
                    [](char x, char y) { return std::tolower(static_cast<unsigned char>(x)) == y; });
}

struct EndInflate {
  void operator()(z_stream* stream) const {
    inflateEnd(stream);
    delete stream;
  }
};
struct EndDeflate {
  void operator()(z_stream* stream) const {
    deflateEnd(stream);
    delete stream;
  }
};

constexpr int kGzipBits = 15 + 16, kZlibBits = 15, kRawBits = -15;

int inflate_bits(ContentCoding coding, std::span<const std::byte> packed) {
  if (coding == ContentCoding::kGzip) return kGzipBits;
  if (packed.size() < 2) return kZlibBits;
  const unsigned first = std::to_integer<unsigned>(packed[0]), second = std::to_integer<unsigned>(packed[1]);
  return (first & 15) == 8 && (first * 256 + second) % 31 == 0 ? kZlibBits : kRawBits;
}

}  // namespace

const char* to_string(ContentCoding coding) {
  constexpr const char* names[] = {"identity", "gzip", "deflate"};
  return names[static_cast<int>(coding)];
}

std::optional<ContentCoding> parse_content_coding(std::string_view value) {
  value = trimmed(value);
  if (value.empty() || same(value, "identity")) return ContentCoding::kIdentity;
  if (same(value, "gzip") || same(value, "x-gzip")) return ContentCoding::kGzip;
  if (same(value, "deflate")) return ContentCoding::kDeflate;
  return std::nullopt;
}

ContentCoding accepted_coding(std::string_view accept_encoding) {
  ContentCoding best = ContentCoding::kIdentity;
  double best_weight = 0;
  while (!accept_encoding.empty()) {
    const size_t comma = std::min(accept_encoding.find(','), accept_encoding.size());
    std::string_view item = accept_encoding.substr(0, comma);
    accept_encoding.remove_prefix(std::min(comma + 1, accept_encoding.size()));
    double weight = 1;
    if (const size_t semicolon = item.find(';'); semicolon != item.npos) {
      const std::string_view parameter = trimmed(item.substr(semicolon + 1));
      item = item.substr(0, semicolon);
      if (parameter.starts_with("q=") || parameter.starts_with("Q="))
        if (std::from_chars(parameter.data() + 2, parameter.data() + parameter.size(), weight).ec != std::errc())
          weight = 0;
    }
    const std::optional<ContentCoding> coding = parse_content_coding(item);
    if (coding && *coding != ContentCoding::kIdentity && weight > best_weight) {
      best = *coding;
      best_weight = weight;
    }
  }
  return best;
}

std::optional<BodyBuffer> unpack(ContentCoding coding, std::span<const std::byte> packed, uint64_t max_bytes) {
  std::unique_ptr<z_stream, EndInflate> stream(new z_stream{});
  if (inflateInit2(stream.get(), inflate_bits(coding, packed)) != Z_OK) throw std::bad_alloc();
  std::array<std::byte, 1 << 15> piece;
  BodyBuffer body;
  body.start(std::min<uint64_t>(packed.size() * 4, max_bytes));
  stream->next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data()));
  stream->avail_in = static_cast<uInt>(packed.size());
  for (;;) {
    stream->next_out = reinterpret_cast<Bytef*>(piece.data());
    stream->avail_out = static_cast<uInt>(piece.size());
    const int status = inflate(stream.get(), Z_NO_FLUSH);
    if (status != Z_OK && status != Z_STREAM_END)
      fail(ErrorCode::kInvalidArgument, "The body is no whole {} stream: {} after {} bytes; pack it again",
           to_string(coding), stream->msg ? stream->msg : "it is cut short", stream->total_in);
    const size_t made = piece.size() - stream->avail_out;
    if (body.size + made > max_bytes) return std::nullopt;
    body.append({piece.data(), made});
    if (status == Z_STREAM_END) break;
  }
  if (stream->avail_in)
    fail(ErrorCode::kInvalidArgument, "The {} stream of the body is followed by {} other bytes; send one stream alone",
         to_string(coding), stream->avail_in);
  return body;
}

std::string pack(ContentCoding coding, std::span<const std::span<const std::byte>> parts) {
  std::unique_ptr<z_stream, EndDeflate> stream(new z_stream{});
  if (deflateInit2(stream.get(), 1, Z_DEFLATED, coding == ContentCoding::kGzip ? kGzipBits : kZlibBits, 8,
                   Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::bad_alloc();
  size_t total = 0;
  for (const auto part : parts) total += part.size();
  std::string packed(deflateBound(stream.get(), total), '\0');
  stream->next_out = reinterpret_cast<Bytef*>(packed.data());
  stream->avail_out = static_cast<uInt>(packed.size());
  for (const auto part : parts) {
    stream->next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(part.data()));
    stream->avail_in = static_cast<uInt>(part.size());
    SLIPWAY_CHECK(deflate(stream.get(), Z_NO_FLUSH) == Z_OK || part.empty());
  }
  SLIPWAY_CHECK(deflate(stream.get(), Z_FINISH) == Z_STREAM_END);
  packed.resize(stream->total_out);
  return packed;
}

}  // namespace slipway
