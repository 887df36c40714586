// Requests from bytes without sockets: any portions give the same requests; the fuzz target's corpus, mutated.
#include "serve/http/request_reader.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/replay_corpus.h"
#include "serve/http/compression.h"

#define LLVMFuzzerTestOneInput fuzz_http_request
#include "serve/http/http_request_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace slipway {
namespace {

/// All that was read of the bytes, as text.
std::string transcript(std::string_view bytes, size_t portion) {
  RequestReader reader({.max_body_bytes = 1 << 16, .max_header_bytes = 2048});
  std::string out;
  size_t at = 0;
  for (;;) {
    if (reader.state() == RequestReader::State::kRefused)
      return out + fmt::format("refused {}", reader.refusal().status);
    if (reader.state() == RequestReader::State::kComplete) {
      const HttpRequest& r = reader.request();
      out += fmt::format("{} {} {}", r.method, r.target, r.keep_alive);
      for (const HttpHeader& h : r.headers) out += fmt::format(" {}={}", h.name, h.value);
      out += " [" + std::string(reinterpret_cast<const char*>(r.body.data()), r.body.size()) + "]\n";
      reader.next();
      continue;
    }
    if (at == bytes.size()) return out + (reader.idle() ? "idle" : "waits");
    const auto room = reader.room();
    const size_t count = std::min({portion, bytes.size() - at, room.size()});
    std::memcpy(room.data(), bytes.data() + at, count);
    reader.received(count);
    at += count;
  }
}

TEST(RequestReader, PortionsMakeNoDifference) {
  const std::string folder = SLIPWAY_SOURCE_DIR "/tests/corpus/http_request_fuzz";
  for (const std::string& file : list_folder(folder)) {
    const auto content = read_file(join_path(folder, file));
    const std::string_view bytes(reinterpret_cast<const char*>(content.data()) + 1, content.size() - 1);
    const std::string whole = transcript(bytes, bytes.size());
    for (const size_t portion : {1, 2, 3, 7, 64, 1000}) EXPECT_EQ(transcript(bytes, portion), whole) << file;
  }
}

TEST(RequestReader, ReadsWhatWasSent) {
  EXPECT_EQ(
      transcript("\r\nPOST /a HTTP/1.1\r\nA: b \r\nE:\r\nContent-Length: 2\r\n\r\nxyPUT /b HTTP/1.0\r\n\r\nGET", 1000),
      "POST /a true A=b E= Content-Length=2 [xy]\nPUT /b false []\nwaits");
  EXPECT_EQ(
      transcript("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;e=f\r\nab\r\n1\r\nc\r\n0\r\nT: u\r\n\r\n",
                 1000),
      "POST /a true Transfer-Encoding=chunked [abc]\nidle");
}

TEST(RequestReader, CorpusAndItsMutations) { replay_corpus("http_request_fuzz", fuzz_http_request); }

TEST(RequestTarget, IsTakenApart) {
  const RequestTarget t = parse_target("/v2/models/a%20b%2Fc/infer/?x=1+2&y=%41&z");
  EXPECT_EQ(t.segments, (std::vector<std::string>{"v2", "models", "a b/c", "infer"}));
  EXPECT_EQ(t.query.at("x"), "1 2");
  EXPECT_EQ(t.query.at("y"), "A");
  EXPECT_EQ(t.query.at("z"), "");
  EXPECT_EQ(parse_target("http://host:1/v2?q").segments, std::vector<std::string>{"v2"});
  for (const char* bad : {"", "*", "v2", "/a%", "/a%2", "/a%zz", "/a%00", "http://host"})
    EXPECT_THROW(parse_target(bad), Error) << bad;
}

TEST(Compression, AcceptedCodings) {
  EXPECT_EQ(accepted_coding(""), ContentCoding::kIdentity);
  EXPECT_EQ(accepted_coding("gzip, deflate, br"), ContentCoding::kGzip);
  EXPECT_EQ(accepted_coding("gzip;q=0.5, DEFLATE ; q=0.8"), ContentCoding::kDeflate);
  EXPECT_EQ(accepted_coding("gzip;q=0, br, identity, *"), ContentCoding::kIdentity);
  EXPECT_EQ(accepted_coding(",,;,gzip;q=x"), ContentCoding::kIdentity);
}

TEST(Compression, DamageIsFound) {
  const std::string text(5000, 'q');
  const std::span<const std::byte> whole = std::as_bytes(std::span(text));
  for (const ContentCoding coding : {ContentCoding::kGzip, ContentCoding::kDeflate}) {
    std::string packed = pack(coding, {&whole, 1});
    const auto bytes = [&] { return std::as_bytes(std::span(packed)); };
    EXPECT_EQ(unpack(coding, bytes(), 5000)->size, 5000u);
    EXPECT_FALSE(unpack(coding, bytes(), 4999));
    EXPECT_THROW(unpack(coding, bytes().first(packed.size() - 1), 5000), Error);
    EXPECT_THROW(unpack(coding, {}, 5000), Error);
    packed += "more";
    EXPECT_THROW(unpack(coding, bytes(), 5000), Error);
    packed.resize(packed.size() - 5);
    packed += '?';
    EXPECT_THROW(unpack(coding, bytes(), 5000), Error) << "the checksum";
  }
  const std::string raw("\x4b\x4c\x4a\x06\x00", 5);  // "abc" as bare deflate
  EXPECT_EQ(unpack(ContentCoding::kDeflate, std::as_bytes(std::span(raw)), 100)->size, 3u);
}

}  // namespace
}  // namespace slipway
