#include "model/ops/op_testing.h"

namespace slipway {
namespace {

OpCall einsum(std::string equation) { return {.op = "Einsum", .attributes = {{"equation", std::move(equation)}}}; }

TEST(Einsum, ClosedForms) {
  const Tensor m = counting({2, 2}), v = counting({2});
  expect_near(einsum("ij,jk->ik").run({m, m})[0], {2, 2}, {7, 10, 15, 22});
  expect_near(einsum("ij->ji").run({m})[0], {2, 2}, {1, 3, 2, 4});
  expect_near(einsum("ii").run({m})[0], {}, {5});
  expect_near(einsum("ii->i").run({m})[0], {2}, {1, 4});
  expect_near(einsum("i,j").run({v, v})[0], {2, 2}, {1, 2, 2, 4});
  expect_near(einsum("b a").run({m})[0], {2, 2}, {1, 3, 2, 4});  // implicit output: ab
  expect_near(einsum("i,ij,j->").run({v, m, v})[0], {}, {27});
  expect_near(einsum("...ij,...j->...i").run({counting({2, 1, 2}), counting({1, 2})})[0], {2, 1}, {5, 11});
  EXPECT_TRUE(einsum("i,i->").run({Tensor::of<int32_t>({1}, {1 << 30}), Tensor::of<int32_t>({1}, {5})})[0].identical(
      Tensor::scalar<int32_t>(1 << 30)));
}

TEST(Einsum, InferenceAndRefusals) {
  const auto shape = [](std::string equation, Shape a, Shape b) {
    return einsum(std::move(equation))
        .infer({facts(DType::kFloat32, std::move(a)), facts(DType::kFloat32, std::move(b))})[0]
        .shape;
  };
  EXPECT_EQ(shape("bij,bjk->bik", Shape({Dim("N"), 3, 4}), Shape({Dim("N"), 4, 5})), Shape({Dim("N"), 3, 5}));
  EXPECT_EQ(shape("...i,...i->...", Shape({Dim("N"), 3, 4}), Shape({1, 4})), Shape({Dim("N"), 3}));
  const Tensor m = counting({2, 2});
  for (const char* bad : {"ij,jk->ik", "ij->iz", "ij->ii", "i->i", "i1->i", "i......->i", "ij,->i", "i.j"})
    EXPECT_THROW(einsum(bad).run({m}), Error) << bad;
  EXPECT_THROW(einsum("ij,ij->i").run({m, counting({3, 2})}), Error);
}

}  // namespace
}  // namespace slipway
