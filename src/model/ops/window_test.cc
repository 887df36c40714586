#include "model/ops/window.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace slipway {
namespace {

Node node_with(std::initializer_list<std::pair<const std::string, Attribute>> attributes) {
  Node node;
  node.op_type = "Conv";
  node.attributes = Attributes(attributes.begin(), attributes.end());
  return node;
}

using Ints = std::vector<int64_t>;
const Dims kX = {1, 3, 7, 8};
const Dims kW = {4, 3, 3, 2};

TEST(Window, ExplicitPads) {
  const Window w =
      conv_window(node_with({{"strides", Ints{2, 3}}, {"pads", Ints{1, 0, 2, 1}}, {"dilations", Ints{2, 1}}}), kX, kW);
  EXPECT_EQ(w.extent(0), 5);
  EXPECT_EQ(w.output, (Dims{(7 + 3 - 5) / 2 + 1, (8 + 1 - 2) / 3 + 1}));
  EXPECT_EQ(w.pads_end, (Dims{2, 1}));
}

TEST(Window, SamePutsTheOddPadAtTheEndOrTheBeginning) {
  const Ints strides{1, 2};
  const Window upper =
      conv_window(node_with({{"strides", strides}, {"auto_pad", std::string("SAME_UPPER")}}), kX, Dims{4, 3, 4, 3});
  EXPECT_EQ(upper.output, (Dims{7, 4}));
  EXPECT_EQ(upper.pads_begin, (Dims{1, 0}));
  EXPECT_EQ(upper.pads_end, (Dims{2, 1}));
  const Window lower =
      conv_window(node_with({{"strides", strides}, {"auto_pad", std::string("SAME_LOWER")}}), kX, Dims{4, 3, 4, 3});
  EXPECT_EQ(lower.pads_begin, (Dims{2, 1}));
  EXPECT_EQ(lower.pads_end, (Dims{1, 0}));
}

TEST(Window, CeilModeNeverStartsAWindowInTheTrailingPad) {
  const auto pool = [](int64_t ceil, int64_t pad) {
    return pool_window(
               node_with(
                   {{"kernel_shape", Ints{2}}, {"strides", Ints{2}}, {"ceil_mode", ceil}, {"pads", Ints{0, pad}}}),
               Dims{1, 1, 5})
        .output[0];
  };
  EXPECT_EQ(pool(0, 0), 2);
  EXPECT_EQ(pool(1, 0), 3);
  EXPECT_EQ(pool(1, 1), 3);
  EXPECT_EQ(pool(1, 2), 3);  // a fourth would start at 6, outside
}

TEST(Window, TransposedOutputs) {
  const Dims x = {1, 1, 3, 3}, w = {1, 2, 3, 3};
  const Ints strides{3, 2};
  EXPECT_EQ(conv_transpose_window(node_with({{"strides", strides}}), x, w).output, (Dims{9, 7}));
  EXPECT_EQ(conv_transpose_window(node_with({{"strides", strides}, {"output_padding", Ints{1, 1}}}), x, w).output,
            (Dims{10, 8}));
  const Window asked = conv_transpose_window(node_with({{"strides", strides}, {"output_shape", Ints{10, 5}}}), x, w);
  EXPECT_EQ(asked.output, (Dims{10, 5}));
  EXPECT_EQ(asked.pads_begin, (Dims{0, 1}));
  EXPECT_EQ(
      conv_transpose_window(node_with({{"strides", strides}, {"auto_pad", std::string("SAME_UPPER")}}), x, w).output,
      (Dims{9, 6}));
}

TEST(Window, SymbolsSurviveWhereTheSizeDoes) {
  const std::vector<Dim> input = {Dim("H"), Dim(8)};
  const Node same = node_with({{"kernel_shape", Ints{3, 3}}, {"pads", Ints{1, 1, 1, 1}}});
  EXPECT_EQ(window_output(same, read_window(same), input), input);
  const Node shrinks = node_with({{"kernel_shape", Ints{3, 3}}});
  EXPECT_EQ(window_output(shrinks, read_window(shrinks), input), (std::vector<Dim>{Dim(), Dim(6)}));
}

TEST(Window, MalformedAttributesAreRefused) {
  const auto refused = [](std::initializer_list<std::pair<const std::string, Attribute>> attributes) {
    EXPECT_THROW(conv_window(node_with(attributes), kX, kW), Error);
  };
  refused({{"strides", Ints{-1, 1}}});
  refused({{"strides", Ints{1}}});
  refused({{"dilations", Ints{0, 1}}});
  refused({{"pads", Ints{0, 0, 0, int64_t{1} << 60}}});
  refused({{"pads", Ints{0, 0}}});
  refused({{"pads", Ints{-1, 0, 0, 0}}});
  refused({{"kernel_shape", Ints{2, 2}}});
  refused({{"dilations", Ints{7, 1}}});  // wider than the input
  refused({{"auto_pad", std::string("SAME")}});
  refused({{"strides", 2.0f}});
  EXPECT_THROW(conv_window(node_with({}), kX, Dims{4, 3, 0, 2}), Error);
  EXPECT_THROW(conv_window(node_with({}), Dims{1, 3, 7}, kW), Error);
  EXPECT_THROW(pool_window(node_with({}), kX), Error);
}

}  // namespace
}  // namespace slipway
