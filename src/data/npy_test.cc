// The files of the corpus were written by NumPy 1.24.
#include "data/npy.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "data/idx.h"
#include "data/test_folder.h"

namespace slipway {
namespace {

const std::string kArrays = SLIPWAY_SOURCE_DIR "/tests/corpus/";

Tensor parse_bytes(std::string_view bytes) {
  const auto held = std::make_shared<std::string>(bytes);
  return parse_npy({held, std::as_bytes(std::span(*held))}, "made.npy");
}

TEST(Npy, ReadsWhatNumpyWrites) {
  const auto read = [](const char* name) { return read_npy(kArrays + "npy_fuzz/" + name); };
  EXPECT_TRUE(read("f4.npy").identical(Tensor::of<float>({2, 3}, {0, 1, 2, 3, 4, 5})));
  EXPECT_TRUE(read("big_i2.npy").identical(Tensor::of<int16_t>({2, 3}, {0, 1, 2, 3, 4, 5})));
  EXPECT_TRUE(read("fortran.npy").identical(Tensor::of<int32_t>({2, 3}, {0, 1, 2, 3, 4, 5})));
  EXPECT_TRUE(read("v2.npy").identical(Tensor::of<uint8_t>({3}, {0, 1, 2})));
  EXPECT_TRUE(read("v3.npy").identical(Tensor::of<uint8_t>({3}, {0, 1, 2})));
  EXPECT_TRUE(read("scalar.npy").identical(Tensor::scalar(3.0)));
  EXPECT_EQ(read("empty.npy").dims(), (Dims{0, 3}));
  EXPECT_EQ(read("b.npy").dtype(), DType::kBool);
  EXPECT_EQ(to_floats(read("f2.npy")), (std::vector<float>{1.5f, 2}));
  EXPECT_EQ(read("c16.npy").dtype(), DType::kComplex128);
  EXPECT_NE(error_of([&] { read("text.npy"); }).find("'<U2' is not read"), std::string::npos);
  EXPECT_NE(error_of([&] { read("record.npy"); }).find("Record arrays"), std::string::npos);
}

TEST(Npy, ReadsArchives) {
  for (const char* name : {"npy_fuzz/stored.npz", "npy_fuzz/deflated.npz"}) {
    EXPECT_EQ(read_npz(kArrays + name, "x").dims()[0], 3);
    EXPECT_TRUE(read_npz(kArrays + name, "y").identical(Tensor::of<int64_t>({3}, {0, 1, 2})));
    EXPECT_EQ(parse_npz(read_file(kArrays + name), name).size(), 2u);
    EXPECT_NE(error_of([&] { read_npz(kArrays + name, "z"); }).find("it has: x, y"), std::string::npos);
  }
  auto bytes = read_file(kArrays + "npy_fuzz/stored.npz");
  bytes[180] ^= std::byte{1};
  EXPECT_NE(error_of([&] { parse_npz(bytes, "flipped"); }), "");
}

TEST(Npy, WritesAndReadsBack) {
  const TestFolder folder;
  for (const Tensor& t : {Tensor::of<float>({2, 1, 2}, {1, -2, 3, 4}), Tensor::scalar<int64_t>(-5),
                          Tensor::of<uint8_t>({3}, {1, 2, 3}), Tensor(DType::kFloat16, {0, 4})}) {
    write_npy(folder.path("t.npy"), t);
    EXPECT_TRUE(read_npy(folder.path("t.npy")).identical(t));
    EXPECT_EQ(npy_bytes(t).find('\n') % 64, 63u);
  }
  EXPECT_EQ(parse_bytes(npy_bytes(Tensor(DType::kBfloat16, {2}))).dtype(), DType::kFloat32);
  EXPECT_EQ(parse_bytes(npy_bytes(Tensor(DType::kInt4, {3}))).dtype(), DType::kInt8);
  EXPECT_THROW(npy_bytes(Tensor(DType::kString, {1})), Error);
}

TEST(Npy, RefusesDamage) {
  const std::string good = npy_bytes(Tensor::of<float>({2}, {1, 2}));
  for (size_t n = 0; n < good.size(); ++n) EXPECT_THROW(parse_bytes(good.substr(0, n)), Error) << n;
  const auto with_shape = [&](std::string_view shape) {
    std::string text = good;
    return text.replace(text.find("(2,)"), shape.size(), shape);
  };
  EXPECT_THROW(parse_bytes(with_shape("(999999999999999999,999999999999)")), Error);
  EXPECT_THROW(parse_bytes(with_shape("(-2,)")), Error);
  EXPECT_THROW(parse_bytes(with_shape("(3,)")), Error);
}

TEST(Idx, Reads) {
  const Tensor bytes = read_idx(kArrays + "records_fuzz/u8.idx");
  EXPECT_EQ(bytes.dims(), (Dims{2, 2, 3}));
  EXPECT_EQ(bytes.values<uint8_t>()[11], 11);
  EXPECT_TRUE(read_idx(kArrays + "records_fuzz/f32.idx").identical(Tensor::of<float>({2}, {1.5f, -2})));
  EXPECT_TRUE(read_idx(kArrays + "records_fuzz/u8.idx.gz").identical(Tensor::of<uint8_t>({2}, {1, 2})));
  EXPECT_TRUE(read_idx(kArrays + "records_fuzz/two_members.gz").identical(Tensor::of<uint8_t>({4}, {1, 2, 3, 4})));
}

TEST(FileBytes, UnpackingIsBounded) {
  const auto packed = read_file(kArrays + "records_fuzz/cifar.bin.gz");
  EXPECT_EQ(gunzip(packed, "cifar", 3073).size(), 3073u);
  EXPECT_NE(error_of([&] { gunzip(packed, "cifar", 3072); }).find("more than 3072 bytes"), std::string::npos);
  for (size_t n = 0; n < packed.size(); ++n) EXPECT_THROW(gunzip(std::span(packed).first(n), "cut"), Error) << n;
}

}  // namespace
}  // namespace slipway
