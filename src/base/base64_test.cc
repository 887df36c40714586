#include "base/base64.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace slipway {
namespace {

std::string decoded(std::string_view text) {
  const auto bytes = base64_decode(text);
  return bytes ? std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()) : "refused";
}

TEST(Base64, VectorsOfRfc4648) {
  const std::pair<const char*, const char*> cases[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(base64_encode(bytes), text);
    EXPECT_EQ(decoded(text), bytes);
  }
}

TEST(Base64, RefusesWhatIsNone) {
  for (const char* text : {"Zg=", "Zg", "Z", "Zg==Zg==", "Zm9v\n", "Zm 9", "====", "Z===", "Zm8=Zm8=", "Zm9\xff"})
    EXPECT_EQ(decoded(text), "refused") << text;
}

TEST(Base64, RoundTrip) {
  Random random(7);
  for (size_t size = 0; size < 200; ++size) {
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>(random.next());
    EXPECT_EQ(decoded(base64_encode(bytes)), bytes);
  }
}

}  // namespace
}  // namespace slipway
