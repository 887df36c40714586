// Samples that can't be read are told all at once, not one a run: whoever cleans a folder wants the whole list.
#include "data/bad_samples.h"

#include <algorithm>
#include <mutex>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"

namespace slipway {
namespace {

constexpr size_t kListed = 10;

}  // namespace

std::vector<BadSample> find_bad_samples(const SampleSource& source, std::span<const int64_t> indices) {
  std::vector<BadSample> bad;
  std::mutex mutex;
  parallel_for(static_cast<int64_t>(indices.size()), cpu_count(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t index = indices[static_cast<size_t>(i)];
      try {
        if (source.is_image())
          source.image(index);
        else
          source.array(index);
      } catch (const Error& error) {
        const std::lock_guard lock(mutex);
        bad.push_back({index, error.what()});
      }
    }
  });
  std::sort(bad.begin(), bad.end(), [](const BadSample& a, const BadSample& b) { return a.index < b.index; });
  return bad;
}

std::string list_bad_samples(std::span<const BadSample> bad, size_t of, std::string_view split) {
  std::string text = fmt::format("{} of the {} {} samples can't be read: ", bad.size(), of, split);
  for (size_t i = 0; i < std::min(bad.size(), kListed); ++i) text += (i == 0 ? "" : "; ") + bad[i].reason;
  return bad.size() > kListed ? text + fmt::format("; and {} more", bad.size() - kListed) : text;
}

}  // namespace slipway
