#include "base/url.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace slipway {
namespace {

constexpr UrlScheme kSchemes[] = {{"http", 80}, {"grpcs", 8001}};

TEST(Url, HasItsParts) {
  const Url url = parse_url("http://a.b:9/c//d/?e=/f?#g", kSchemes);
  EXPECT_EQ(url.scheme, "http");
  EXPECT_EQ(url.host, "a.b");
  EXPECT_EQ(url.port, 9);
  EXPECT_EQ(url.path, "/c//d");
  EXPECT_EQ(url.query, "?e=/f?");
  EXPECT_FALSE(url.tls());
  EXPECT_EQ(url.authority(), "a.b:9");
}

TEST(Url, PortsFollowFromSchemes) {
  EXPECT_EQ(parse_url("http://a/", kSchemes).port, 80);
  const Url url = parse_url("grpcs://[::1]", kSchemes);
  EXPECT_TRUE(url.tls());
  EXPECT_EQ(url.host, "::1");
  EXPECT_EQ(url.authority(), "[::1]:8001");
  EXPECT_EQ(parse_url("http://[::1]:7", kSchemes).port, 7);
}

TEST(Url, RefusesWhatIsNone) {
  for (const char* bad :
       {"",           "a:1",         "s://a",          "https://a",   "http",          "http://",    "http://:1",
        "http://a:",  "http://a:0",  "http://a:65536", "http://a:1x", "http://a:-1",   "http://a b", "http://a\n",
        "http://::1", "http://[::1", "http://[::1]1",  "http://[]:1", "http://user@a", "http:///a",  "http://?a"})
    EXPECT_THROW(parse_url(bad, kSchemes), Error) << bad;
}

}  // namespace
}  // namespace slipway
