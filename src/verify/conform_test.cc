#include "verify/conform.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "model/onnx/onnx.h"

namespace slipway {
namespace {

constexpr auto kText = R"(graph "case" ir 8 opset {{"": 17}} {{
  input %x : f32[N,2]
  %y = {}(%x)
  output %y
}})";

// A case whose model negates, with the outputs given.
std::string write_case(const std::string& name, const std::string& op, const Tensor& x, const Tensor& y) {
  const std::string folder = join_path(testing::TempDir(), "conform/" + name),
                    set = join_path(folder, "test_data_set_0");
  make_folders(set);
  save_onnx(parse_text(fmt::format(kText, op)), join_path(folder, "model.onnx"));
  save_tensor_pb(x, "x", join_path(set, "input_0.pb"));
  save_tensor_pb(y, "y", join_path(set, "output_0.pb"));
  return folder;
}

const Tensor kOne = Tensor::of<float>({1, 2}, {1, -2});

TEST(Conform, RightOutputsPassEveryWay) {
  const CaseResult r = run_conformance_case(write_case("right", "Neg", kOne, Tensor::of<float>({1, 2}, {-1, 2})), {});
  EXPECT_EQ(r.op, "Neg");
  ASSERT_EQ(r.ways.size(), 3u);
  for (const WayResult& way : r.ways) EXPECT_EQ(way.verdict, CaseVerdict::kPassed) << way.way << ": " << way.reason;
}

TEST(Conform, OtherOutputsAreWrongEveryWay) {
  const std::vector<std::pair<Tensor, std::string>> wrong = {
      {Tensor::of<float>({1, 2}, {-1, 2.01f}), "output 0: element 1 is 2 instead of 2.0"},
      {Tensor::of<float>({2, 1}, {-1, 2}), "shape [1,2] instead of [2,1]"},
      {Tensor::of<double>({1, 2}, {-1, 2}), "type f32 instead of f64"},
      {Tensor::of<float>({1, 2}, {-1, NAN}), "element 1 is 2 instead of nan"}};
  for (const auto& [y, text] : wrong) {
    const CaseResult r = run_conformance_case(write_case("wrong", "Neg", kOne, y), {});
    ASSERT_EQ(r.ways.size(), 3u);
    for (const WayResult& way : r.ways) {
      EXPECT_EQ(way.verdict, CaseVerdict::kWrong) << way.way;
      EXPECT_NE(way.reason.find(text), std::string::npos) << way.reason;
    }
  }
}

TEST(Conform, WhatIsMissingIsUnsupportedAndNamed) {
  const std::string folder = write_case("missing", "Neg", kOne, kOne);
  std::string bytes = read_text_file(join_path(folder, "model.onnx"));
  const size_t at = bytes.find("Neg");
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, 3, "Nay");
  write_file(join_path(folder, "model.onnx"), std::string_view(bytes));
  const CaseResult r = run_conformance_case(folder, {.ways = {"reference"}});
  ASSERT_EQ(r.ways.size(), 1u);
  EXPECT_EQ(r.op, "Nay");
  EXPECT_EQ(r.ways[0].verdict, CaseVerdict::kUnsupported);
  EXPECT_EQ(reason_class(r.ways[0].reason), "no operator Nay");
}

TEST(Conform, AShapeThatFollowsFromTheDataIsInAPlanFileToo) {
  const std::string folder = write_case("of_data", "NonZero", kOne, Tensor::of<int64_t>({2, 2}, {0, 0, 0, 1}));
  const CaseResult r = run_conformance_case(folder, {});
  ASSERT_EQ(r.ways.size(), 3u);
  EXPECT_EQ(r.ways[0].verdict, CaseVerdict::kPassed) << r.ways[0].reason;
  EXPECT_EQ(r.ways[1].verdict, CaseVerdict::kPassed) << r.ways[1].reason;
  EXPECT_EQ(r.ways[2].verdict, CaseVerdict::kPassed) << r.ways[2].reason;
}

TEST(Conform, ADamagedCaseIsWrong) {
  const std::string folder = write_case("damaged", "Neg", kOne, kOne);
  write_file(join_path(folder, "test_data_set_0/input_0.pb"), std::string_view("\xff\xff"));
  EXPECT_EQ(run_conformance_case(folder, {}).ways.at(0).verdict, CaseVerdict::kWrong);
  write_file(join_path(folder, "model.onnx"), std::string_view("no model"));
  const CaseResult r = run_conformance_case(folder, {});
  EXPECT_EQ(r.op, "");
  EXPECT_NE(r.ways.at(0).verdict, CaseVerdict::kPassed);
}

TEST(Conform, CaseFoldersAreFoundBelow) {
  const std::string folder = write_case("below/deeper/one", "Neg", kOne, kOne);
  EXPECT_EQ(case_folders(join_path(testing::TempDir(), "conform/below")), std::vector<std::string>{folder});
  EXPECT_EQ(case_folders(folder), std::vector<std::string>{folder});
}

}  // namespace
}  // namespace slipway
