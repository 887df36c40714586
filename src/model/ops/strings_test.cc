#include <cmath>

#include "model/ops/op_testing.h"

namespace slipway {
namespace {

using Texts = std::vector<std::string>;

Tensor texts(const Texts& values) { return Tensor::of_strings({static_cast<int64_t>(values.size())}, values); }

TEST(Strings, ConcatBroadcasts) {
  const Tensor y =
      OpCall{"StringConcat", 20}.run({Tensor::of_strings({2, 1}, {"a", "b"}), Tensor::of_strings({2}, {"x", ""})})[0];
  EXPECT_EQ(y.dims(), (Dims{2, 2}));
  EXPECT_EQ(y.strings(), (Texts{"ax", "a", "bx", "b"}));
  EXPECT_THROW((OpCall{"StringConcat", 20}.run({counting({2}), counting({2})})), Error);
}

TEST(Strings, SplitAtADelimiterOrAtBlanks) {
  const auto split = [](Attributes attributes, const Texts& values) {
    return OpCall{.op = "StringSplit", .opset = 20, .attributes = std::move(attributes), .outputs = 2}.run(
        {texts(values)});
  };
  const auto dots = split({{"delimiter", "."}}, {"a.b.", "c", ""});
  EXPECT_EQ(dots[0].dims(), (Dims{3, 3}));
  EXPECT_EQ(dots[0].strings(), (Texts{"a", "b", "", "c", "", "", "", "", ""}));
  EXPECT_EQ(to_ints(dots[1]), (std::vector<int64_t>{3, 1, 1}));
  const auto blanks = split({{"maxsplit", int64_t{1}}}, {"  a \t b c", " "});
  EXPECT_EQ(blanks[0].strings(), (Texts{"a", "b c", "", ""}));
  EXPECT_EQ(to_ints(blanks[1]), (std::vector<int64_t>{2, 0}));
  EXPECT_EQ(split({{"delimiter", "ab"}, {"maxsplit", int64_t{0}}}, {"1ab2"})[0].strings(), (Texts{"1ab2"}));
  EXPECT_EQ(split({}, {})[0].dims(), (Dims{0, 0}));
}

TEST(Strings, NormalizerDropsStopwordsAndSetsTheCase) {
  const auto normalized = [](Attributes attributes, const Tensor& x) {
    return OpCall{.op = "StringNormalizer", .opset = 10, .attributes = std::move(attributes)}.run({x})[0];
  };
  const Texts stop = {"Monday"};
  const Tensor days = texts({"monday", "Monday", "über", "d\xff"});
  EXPECT_EQ(normalized({{"stopwords", stop}, {"is_case_sensitive", int64_t{1}}, {"case_change_action", "UPPER"}}, days)
                .strings(),
            (Texts{"MONDAY", "ÜBER", "D\xff"}));
  EXPECT_EQ(normalized({{"stopwords", stop}}, days).strings(), (Texts{"über", "d\xff"}));
  const Tensor none = normalized({{"stopwords", stop}}, Tensor::of_strings({1, 1}, {"MONDAY"}));
  EXPECT_EQ(none.dims(), (Dims{1, 1}));
  EXPECT_EQ(none.strings(), (Texts{""}));
  EXPECT_THROW(normalized({}, Tensor::of_strings({2, 1}, {"a", "b"})), Error);
  EXPECT_THROW(normalized({{"case_change_action", "TITLE"}}, days), Error);
  const OpCall call{.op = "StringNormalizer", .opset = 10};
  EXPECT_THROW(call.infer({facts(DType::kString, Shape(std::vector<Dim>{}))}), Error);
}

TEST(Strings, PatternsMatchTheWholeText) {
  const auto matches = [](const std::string& pattern) {
    const Tensor y = OpCall{.op = "RegexFullMatch", .opset = 20, .attributes = {{"pattern", pattern}}}.run(
        {texts({"abc", "ab", "xabcx"})})[0];
    return to_ints(y);
  };
  EXPECT_EQ(matches("ab?c?"), (std::vector<int64_t>{1, 1, 0}));
  EXPECT_EQ(matches("(a*)*b+c"), (std::vector<int64_t>{1, 0, 0}));
  EXPECT_THROW(matches("(ab"), Error);
}

TEST(Strings, CastReadsAndWritesNumbers) {
  const auto cast_to = [](const Tensor& x, DType to) {
    return OpCall{.op = "Cast", .opset = 19, .attributes = {{"to", static_cast<int64_t>(to)}}}.run({x})[0];
  };
  const Tensor read = cast_to(texts({"3.25", "-INF", "nan", " 1e-5 "}), DType::kFloat64);
  EXPECT_EQ(to_doubles(read)[0], 3.25);
  EXPECT_EQ(to_doubles(read)[1], -INFINITY);
  EXPECT_TRUE(std::isnan(to_doubles(read)[2]));
  EXPECT_EQ(to_ints(cast_to(texts({"9223372036854775807", "2.718"}), DType::kInt64)),
            (std::vector<int64_t>{9223372036854775807, 2}));
  EXPECT_EQ(cast_to(Tensor::of<float>({3}, {0.1f, -2, INFINITY}), DType::kString).strings(),
            (Texts{"0.1", "-2", "inf"}));
  EXPECT_EQ(cast_to(Tensor::of<int64_t>({1}, {-7}), DType::kString).strings(), (Texts{"-7"}));
  EXPECT_THROW(cast_to(texts({"seven"}), DType::kFloat32), Error);
  EXPECT_THROW(cast_to(texts({""}), DType::kInt32), Error);
}

}  // namespace
}  // namespace slipway
