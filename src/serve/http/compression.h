#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "serve/http/body_buffer.h"

namespace slipway {

enum class ContentCoding : uint8_t { kIdentity, kGzip, kDeflate };
const char* to_string(ContentCoding coding);

/// Of a Content-Encoding header; nothing for a coding that is not known.
std::optional<ContentCoding> parse_content_coding(std::string_view value);
/// What an Accept-Encoding header asks for: gzip or deflate, whichever it weighs more; identity when neither is wanted.
ContentCoding accepted_coding(std::string_view accept_encoding);

/// Unpacks a body; nothing when it is larger than `max_bytes` unpacked. Fails with kInvalidArgument when it is damaged,
/// cut short or followed by other bytes.
std::optional<BodyBuffer> unpack(ContentCoding coding, std::span<const std::byte> packed, uint64_t max_bytes);
/// Packs the parts one after the other.
std::string pack(ContentCoding coding, std::span<const std::span<const std::byte>> parts);

}  // namespace slipway
