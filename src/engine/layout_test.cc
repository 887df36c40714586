// Layouts: where two of them are the same bytes, against writing a value out in both.
#include "engine/layout.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"

namespace slipway {
namespace {

TEST(Layout, ArrangementsAreTheSameExactlyWhereTheBytesAre) {
  int same = 0, different = 0;
  for (int64_t n : {1, 2})
    for (int64_t c : {1, 2, 8, 16, 24, 32})
      for (int64_t h : {1, 3})
        for (int64_t w : {1, 2})
          for (Layout a : kAllLayouts)
            for (Layout b : kAllLayouts) {
              const Dims dims = {n, c, h, w};
              const auto written = [&](Layout layout) {
                const int64_t block = layout == Layout::kBlocked8 ? 8 : layout == Layout::kBlocked16 ? 16 : 1;
                std::vector<int64_t> out(static_cast<size_t>(element_count(physical_dims(layout, dims))));
                for (int64_t i = 0; i < element_count(dims); ++i) {
                  const int64_t x = i % w, y = i / w % h, z = i / (w * h) % c, k = i / (w * h * c);
                  const int64_t at =
                      layout == Layout::kPlain ? i
                      : layout == Layout::kNhwc
                          ? ((k * h + y) * w + x) * c + z
                          : (((k * ((c + block - 1) / block) + z / block) * h + y) * w + x) * block + z % block;
                  out[static_cast<size_t>(at)] = i + 1;
                }
                return out;
              };
              const bool equal = written(a) == written(b);
              EXPECT_EQ(same_arrangement(a, b, dims), equal)
                  << to_string(a) << " " << to_string(b) << " " << to_string(dims);
              (equal ? same : different) += 1;
            }
  EXPECT_GT(same, 100);
  EXPECT_GT(different, 100);
}

}  // namespace
}  // namespace slipway
