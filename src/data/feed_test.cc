#include "data/feed.h"

#include <gtest/gtest.h>

#include "data/npy.h"
#include "data/test_folder.h"

namespace slipway {
namespace {

Dataset described(const TestFolder& folder, const std::string& text) {
  return Dataset::open(folder.write("data.yaml", text));
}

#define EXPECT_TOLD(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

const char* const kTextModel = R"(graph "text" ir 8 opset {"": 17} {
  input %ids : i64[N,T]
  input %mask : i64[N,T]
  %m = Mul(%ids, %mask)
  output %m
})";

/// Four samples: ids [4,3] of i32, mask [4,3] of i64, labels, and the same in an archive.
void write_text_set(const TestFolder& folder) {
  write_npy(folder.path("ids.npy"), Tensor::of<int32_t>({4, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  write_npy(folder.path("mask.npy"), Tensor::of<int64_t>({4, 3}, {1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1}));
  write_npy(folder.path("y.npy"), Tensor::of<int64_t>({4}, {0, 1, 1, 0}));
}

TEST(Feed, FillsEachInputByItsNameInTheModelsOrder) {
  TestFolder folder;
  write_text_set(folder);
  // The file's order is not the model's; ids are i32 and the model wants i64.
  const Dataset data =
      described(folder, "format: npy\nlabels: y.npy\ninputs: {mask: mask.npy, ids: {inputs: ids.npy}}\n");
  EXPECT_EQ(data.inputs(), 2u);
  EXPECT_EQ(data.input_name(0), "mask");
  EXPECT_EQ(data.size(Split::kTest), 4);
  EXPECT_EQ(data.label(Split::kTest, 1), 1);
  const Feed feed(data, parse_text(kTextModel));
  const std::vector<Tensor> request = feed.request(Split::kTest, 1);
  ASSERT_EQ(request.size(), 2u);
  EXPECT_TRUE(request[0].identical(Tensor::of<int64_t>({1, 3}, {4, 5, 6})));
  EXPECT_TRUE(request[1].identical(Tensor::of<int64_t>({1, 3}, {1, 1, 0})));
  const std::vector<int64_t> order = {3, 0};
  const auto requests = feed.requests(Split::kTest, order, 2);
  EXPECT_EQ(to_ints(requests[0][0]), (std::vector<int64_t>{10, 11, 12}));
  EXPECT_EQ(to_ints(requests[1][0]), (std::vector<int64_t>{1, 2, 3}));
}

TEST(Feed, ConstantsHaveTheirOwnSizeThatOfAnotherInputOrTheModels) {
  TestFolder folder;
  write_text_set(folder);
  const Graph model = parse_text(R"(graph "state" ir 8 opset {"": 17} {
  input %ids : i64[N,T]
  input %types : i64[N,T]
  input %state : f32[2,N,4]
  input %rate : i64[]
  output %ids
})");
  const Dataset data = described(folder,
                                 "format: npy\ninputs:\n  ids: ids.npy\n  types: {constant: 7, like: ids}\n"
                                 "  state: {constant: 0.5, dims: [2, 1, 4]}\n  rate: {constant: 16000}\n");
  const std::vector<Tensor> request = Feed(data, model).request(Split::kTest, 2);
  EXPECT_TRUE(request[1].identical(Tensor::of<int64_t>({1, 3}, {7, 7, 7})));
  EXPECT_EQ(request[2].dims(), (Dims{2, 1, 4}));
  EXPECT_EQ(to_floats(request[2])[7], 0.5f);
  EXPECT_EQ(request[3].dims(), Dims{});
  EXPECT_EQ(to_ints(request[3])[0], 16000);
  const Dataset open = described(folder,
                                 "format: npy\ninputs: {ids: ids.npy, types: {constant: 0}, state: {constant: 0}, "
                                 "rate: {constant: 1}}\n");
  EXPECT_TOLD(error_of([&] { Feed(open, model).request(Split::kTest, 0); }), "give it `dims`, or `like`");
}

TEST(Feed, SamplesInFilesOfTheirOwnMayDifferInLength) {
  TestFolder folder;
  make_folders(folder.path("ids"));
  make_folders(folder.path("masks"));
  for (int64_t i = 0; i < 3; ++i) {
    write_npy(folder.path(fmt::format("ids/{}.npy", i)), Tensor(DType::kInt64, {i + 1}));
    write_npy(folder.path(fmt::format("masks/{}.npy", i)), Tensor(DType::kInt64, {i + 1}));
  }
  const std::string text = "format: folder\nsamples: arrays\ninputs: {ids: ids, mask: masks}\n";
  const Feed feed(described(folder, text), parse_text(kTextModel));
  EXPECT_EQ(feed.request(Split::kTest, 0)[0].dims(), (Dims{1, 1}));
  EXPECT_EQ(feed.request(Split::kTest, 2)[1].dims(), (Dims{1, 3}));
  write_npy(folder.path("masks/x.npy"), Tensor(DType::kInt64, {1}));
  EXPECT_TOLD(error_of([&] { described(folder, text); }), "'ids' has 3, 'mask' has 4");
  write_npy(folder.path("ids/w.npy"), Tensor(DType::kInt64, {1}));
  EXPECT_TOLD(error_of([&] { described(folder, text); }), "w.npy for 'ids', x.npy for 'mask'");
}

TEST(Feed, ColumnsOfATable) {
  TestFolder folder;
  folder.write("t.csv", "age,kind,height,weight\n30,a,1.5,50\n40,b,1.75,-1e2\n");
  const std::string head = "format: csv\nlabel_column: kind\n";
  const Dataset data = described(folder, head + "inputs: {x: {inputs: t.csv, columns: [weight, age]}}\n");
  const Feed feed(data, {{"x", DType::kFloat32, Shape({Dim("N"), Dim(2)})}});
  EXPECT_TRUE(feed.request(Split::kTest, 1)[0].identical(Tensor::of<float>({1, 2}, {-100, 40})));
  EXPECT_EQ(data.class_names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(data.label(Split::kTest, 1), 1);
  EXPECT_TOLD(error_of([&] { described(folder, head + "inputs: {x: {inputs: t.csv, columns: [kind]}}\n"); }),
              "decimals with a point: 'a' in row 2, column 2");
  EXPECT_TOLD(error_of([&] { described(folder, head + "inputs: {x: {inputs: t.csv, columns: [size]}}\n"); }), "'size'");
  // A file for one input says the same at its top.
  const Dataset plain = described(folder, "format: csv\ninputs: t.csv\ncolumns: [1, 3]\n");
  EXPECT_EQ(to_floats(plain.input(Split::kTest, 0)), (std::vector<float>{30, 1.5f}));
}

TEST(Feed, SplitsMayHaveFilesOfTheirOwn) {
  TestFolder folder;
  write_text_set(folder);
  write_npy(folder.path("more.npy"), Tensor::of<int64_t>({2, 3}, {9, 9, 9, 8, 8, 8}));
  const Dataset data =
      described(folder,
                "format: npy\ninputs: {ids: {preprocess: {dtype: i64}}, mask: {constant: 1, like: ids}}\n"
                "test: {inputs: {ids: ids.npy}}\ncalibration: {inputs: {ids: more.npy}}\n");
  EXPECT_EQ(data.size(Split::kTest), 4);
  EXPECT_EQ(data.size(Split::kCalibration), 2);
  const Feed feed(data, parse_text(kTextModel));
  EXPECT_EQ(to_ints(feed.request(Split::kCalibration, 1)[0]), (std::vector<int64_t>{8, 8, 8}));
}

TEST(Feed, WhatDoesNotFitIsSaid) {
  TestFolder folder;
  write_text_set(folder);
  const Graph model = parse_text(kTextModel);
  const auto told = [&](const std::string& inputs) {
    return error_of(
        [&] { Feed(described(folder, "format: npy\ninputs: " + inputs + "\n"), model).request(Split::kTest, 0); });
  };
  EXPECT_TOLD(told("ids.npy"), "describes one input and the model takes 2");
  EXPECT_TOLD(told("ids.npy"), "'ids', 'mask'");
  EXPECT_TOLD(told("{ids: ids.npy}"), "does not describe every input of the model");
  EXPECT_TOLD(told("{ids: ids.npy, mask: mask.npy, size: mask.npy}"), "an input that the model has not");
  EXPECT_TOLD(told("{ids: {inputs: ids.npy, preprocess: {dtype: f32}}, mask: mask.npy}"), "do not fit the model");
  EXPECT_TOLD(told("{ids: y.npy, mask: mask.npy}"), "do not fit the model; correct");
  EXPECT_TOLD(told("{ids: ids.npy, mask: {constant: 1, like: types}}"), "`like` names no input");
  EXPECT_TOLD(told("{ids: ids.npy, mask: {constant: 1, like: ids, dims: [3]}}"), "keep one");
  EXPECT_TOLD(told("{ids: {constant: 1}, mask: {constant: 1}}"), "All inputs are constants");
  EXPECT_TOLD(told("{ids: {inputs: {a: b}}, mask: {constant: 1}}"), "inputs");
  EXPECT_TOLD(told("{}"), "inputs of the model are expected");
  EXPECT_TOLD(told("{ids: ids.npy, mask: {constant: 1.5, like: ids}}"), "'mask' is i64, not 1.5");
  EXPECT_TOLD(told("{ids: ids.npy, mask: {constant: 1, dims: [2]}}"),
              "'T' is 3 in 'ids' and 2 in 'mask' of ids.npy[0]");
  EXPECT_TOLD(told("{ids: ids.npy, ids: mask.npy}"), "An input stands twice; keep one: 'ids'");
  EXPECT_TOLD(told("{ids: ids.npy, mask: mask.npy}\npreprocess: {dtype: i64}"), "put the key below its name");
  EXPECT_TOLD(told("{ids: ids.npy, mask: mask.npy}\ntest: {inputs: {types: x.npy}}"),
              "at the top of the file are: 'types'");
}

}  // namespace
}  // namespace slipway
