// Packs convolution weights for strips: output channels in blocks of one or two vectors, the input of one output pixel
// in steps of 4 bytes, the steps in groups (qconv_groups.cc). A depthwise block takes its taps in pairs instead, each
// weight vector holding both taps of a channel side by side. Zero points are folded into what the sums start from.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "engine/kernels/qconv_form.h"
#include "engine/kernels/qconv_groups.h"

namespace slipway {
namespace {

std::vector<QConvStep> steps_of_block(const QConvForm& form, const QConvSpec& spec, const QConvWeights& weights,
                                      const QConvBlock& block) {
  const QConvShape& s = spec.shape;
  const QConvWindow window = qconv_window(form, spec);
  const int64_t group_c = s.c / s.groups, group_oc = s.oc / s.groups;
  const int64_t first_c = block.first_channel / group_oc * group_c;
  const bool rows_run_on = s.groups == 1 && s.dilation_w == 1;  // the taps of a kernel row are contiguous
  const int64_t run = rows_run_on ? s.kw * group_c : group_c;
  const int64_t runs_per_row = rows_run_on ? 1 : s.kw;
  const int64_t per_step = 4 / window.element;
  std::vector<QConvStep> steps;
  for (int64_t ky = 0; ky < s.kh; ++ky) {
    for (int64_t r = 0; r < runs_per_row; ++r) {
      for (int64_t i = 0; i < run; i += per_step) {
        QConvStep& step = steps.emplace_back();
        const int64_t at = ky * s.dilation_h * window.pitch + r * s.dilation_w * s.c + first_c + i;
        step.offset = static_cast<int32_t>(at * window.element);
        for (int64_t k = 0; k < std::min(per_step, run - i); ++k) {
          const int64_t kx = rows_run_on ? (i + k) / group_c : r, c = (i + k) % group_c;
          for (int lane = 0; lane < block.channels; ++lane) {
            const int64_t oc = block.first_channel + lane;
            step.w[lane][k] = weights.w[((oc * group_c + c) * s.kh + ky) * s.kw + kx];
          }
        }
      }
    }
  }
  return steps;
}

std::vector<QConvBlock> blocks_of(const QConvForm& form, const QConvShape& s) {
  std::vector<QConvBlock> blocks;
  const int64_t groups = form.depthwise ? 1 : s.groups, group_oc = s.oc / groups;
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t oc = 0; oc < group_oc;) {
      QConvBlock& block = blocks.emplace_back();
      block.first_channel = static_cast<int32_t>(group * group_oc + oc);
      block.channels = static_cast<int32_t>(std::min<int64_t>(2 * form.lanes, group_oc - oc));
      block.vectors = block.channels > form.lanes || form.depthwise ? 2 : 1;
      oc += block.channels;
    }
  }
  return blocks;
}

/// The largest byte that a strip multiplies; padding is the zero point, whatever the promise on the rest.
int32_t largest_byte(const QConvForm& form, const QConvSpec& spec) {
  return std::max(spec.x.hi, spec.x.zero_point) + (qconv_window(form, spec).flip ? 128 : 0);
}

QConvGroups groups_of_block(const QConvForm& form, const QConvSpec& spec, std::vector<QConvStep> steps) {
  return form.sums_in_16_bits ? group_steps(steps, 2 * form.lanes, largest_byte(form, spec))
                              : group_in_order(std::move(steps));
}

/// What a block multiplies: its steps and weights as strips read them, and its sum's correction for the zero point.
struct Contents {
  std::vector<int32_t> steps;
  std::vector<int16_t> weights;  // bytes later, if the input is bytes
  std::vector<uint32_t> init;
};

Contents fill_block(const QConvForm& form, const QConvSpec& spec, const QConvWeights& weights, QConvBlock& block) {
  const QConvWindow window = qconv_window(form, spec);
  const QConvGroups grouped = groups_of_block(form, spec, steps_of_block(form, spec, weights, block));
  const int width = block.vectors * form.lanes, per_step = static_cast<int>(4 / window.element);
  const auto zero_point = static_cast<uint32_t>(spec.x.zero_point + (window.flip ? 128 : 0));
  Contents contents;
  contents.init.resize(static_cast<size_t>(width));
  for (const auto& group : grouped.groups) {
    ++block.groups[group.size()];
    for (const int32_t index : group) {
      const QConvStep& step = grouped.steps[static_cast<size_t>(index)];
      contents.steps.push_back(step.offset);
      for (int lane = 0; lane < width; ++lane) {
        for (int k = 0; k < per_step; ++k) {
          contents.weights.push_back(step.w[lane][k]);
          if (window.element == 1) contents.init[lane] -= zero_point * static_cast<uint32_t>(int32_t{step.w[lane][k]});
        }
      }
    }
  }
  return contents;
}

/// Taps in pairs, an odd one with itself at weight 0. A pair's weights follow the order of vpunpcklwd and vpunpckhwd on
/// 16 channels: channels 0-3 and 8-11, then 4-7 and 12-15, the two taps of a channel side by side.
Contents fill_depthwise(const QConvForm& form, const QConvSpec& spec, const QConvWeights& weights, QConvBlock& block) {
  const QConvShape& s = spec.shape;
  const QConvWindow window = qconv_window(form, spec);
  const int64_t taps = s.kh * s.kw;
  const auto offset = [&](int64_t tap) {
    const int64_t at = tap / s.kw * s.dilation_h * window.pitch + tap % s.kw * s.dilation_w * s.c;
    return static_cast<int32_t>((at + block.first_channel) * window.element);
  };
  Contents contents;
  contents.init.resize(static_cast<size_t>(2 * form.lanes));
  for (int64_t tap = 0; tap < taps; tap += 2) {
    contents.steps.push_back(offset(tap));
    contents.steps.push_back(offset(std::min(tap + 1, taps - 1)));
    for (const int first : {0, 8, 4, 12}) {
      for (int channel = first; channel < first + 4; ++channel) {
        for (const int64_t t : {tap, tap + 1}) {
          const bool exists = channel < block.channels && t < taps;
          contents.weights.push_back(exists ? weights.w[(block.first_channel + channel) * taps + t] : int16_t{0});
        }
      }
    }
  }
  block.groups[1] = static_cast<int32_t>(contents.steps.size());
  return contents;
}

/// Bytes of weights per step of a block.
size_t step_bytes(const QConvForm& form, const QConvBlock& block) {
  return static_cast<size_t>(block.vectors * form.lanes * (form.depthwise ? 2 : 4));
}

bool is_depthwise(const QConvShape& s) { return s.groups > 1 && s.groups == s.c && s.groups == s.oc; }

}  // namespace

uint64_t qconv_digest(const QConvForm& form, const QConvSpec& spec) {
  const QConvShape& s = spec.shape;
  const int64_t facts[] = {s.h,
                           s.w,
                           s.c,
                           s.oh,
                           s.ow,
                           s.oc,
                           s.kh,
                           s.kw,
                           s.stride_h,
                           s.stride_w,
                           s.pad_top,
                           s.pad_left,
                           s.dilation_h,
                           s.dilation_w,
                           s.groups,
                           spec.x.zero_point,
                           spec.x.lo,
                           spec.x.hi,
                           static_cast<int64_t>(spec.x.type)};
  return fnv1a(form.name, std::strlen(form.name), fnv1a(facts, sizeof facts));
}

std::string reject_strips(const QConvForm& form, const QConvSpec& spec, const QConvWeights& weights) {
  if (std::string why = invalid_qconv(spec, weights); !why.empty()) return why;
  if (form.depthwise != is_depthwise(spec.shape))
    return form.depthwise ? "not depthwise"
                          : "depthwise: one output channel per group would leave the other lanes idle";
  if (!form.sums_in_16_bits) return {};
  const int32_t hi = largest_byte(form, spec);
  if (hi <= 127) return {};
  // Vector instructions: a multiplication and an addition per step, and both per group less the first step's addition;
  // the 16-bit form needs two steps of its own for one of these.
  size_t most = 0, cost = 0, cost_wide = 0;
  const std::vector<QConvBlock> blocks = blocks_of(form, spec.shape);
  for (const QConvBlock& block : blocks) {
    const std::vector<QConvStep> steps = steps_of_block(form, spec, weights, block);
    most += 3 * count_steps(steps, 2 * form.lanes, hi);  // each a group of its own
    cost_wide += 4 * steps.size();
  }
  if (most <= cost_wide) return {};  // grouping takes seconds for large matrices
  for (const QConvBlock& block : blocks) {
    const QConvGroups bins = groups_of_block(form, spec, steps_of_block(form, spec, weights, block));
    cost += 2 * bins.steps.size() + bins.groups.size();
  }
  if (cost <= cost_wide) return {};
  return fmt::format("input may reach {}: vpmaddubsw would saturate, and avoiding it takes {} instructions for {}", hi,
                     cost, cost_wide);
}

QConvPacked pack_strips(const QConvForm& form, const QConvSpec& spec, const QConvWeights& weights) {
  std::vector<QConvBlock> blocks = blocks_of(form, spec.shape);
  std::vector<std::byte> body;
  const size_t head = round_up(sizeof(QConvHeader) + blocks.size() * sizeof(QConvBlock), kAlignment);
  const auto append = [&](const void* data, size_t bytes) {
    const size_t at = body.size();
    body.resize(at + round_up(bytes, kAlignment));
    std::memcpy(body.data() + at, data, bytes);
    return head + at;
  };
  for (QConvBlock& block : blocks) {
    Contents contents =
        form.depthwise ? fill_depthwise(form, spec, weights, block) : fill_block(form, spec, weights, block);
    std::vector<float> multiplier(contents.init.size(), 0.0f), addend(contents.init.size(), 0.0f);
    for (int lane = 0; lane < block.channels; ++lane) {
      const int64_t oc = block.first_channel + lane;
      if (weights.bias) contents.init[static_cast<size_t>(lane)] += static_cast<uint32_t>(weights.bias[oc]);
      multiplier[static_cast<size_t>(lane)] = weights.multiplier[oc];
      if (weights.addend) addend[static_cast<size_t>(lane)] = weights.addend[oc];
    }
    block.step_count = static_cast<int32_t>(contents.steps.size());
    block.steps = append(contents.steps.data(), contents.steps.size() * 4);
    if (form.input == QConvInput::kBytes) {
      const std::vector<int8_t> bytes(contents.weights.begin(), contents.weights.end());
      block.weights = append(bytes.data(), bytes.size());
    } else {
      block.weights = append(contents.weights.data(), contents.weights.size() * 2);
    }
    block.init = append(contents.init.data(), contents.init.size() * 4);
    block.multiplier = append(multiplier.data(), multiplier.size() * 4);
    if (weights.addend) block.addend = append(addend.data(), addend.size() * 4);
  }
  QConvHeader header;
  header.digest = qconv_digest(form, spec);
  header.blocks = blocks.size();
  header.bytes = head + body.size();
  QConvPacked packed{allocate_aligned(header.bytes), header.bytes};
  std::memset(packed.data.get(), 0, head);
  std::memcpy(packed.data.get(), &header, sizeof header);
  std::memcpy(packed.data.get() + sizeof header, blocks.data(), blocks.size() * sizeof(QConvBlock));
  std::memcpy(packed.data.get() + head, body.data(), body.size());
  return packed;
}

std::string check_strips(const QConvForm& form, const QConvSpec& spec, std::span<const std::byte> packed) {
  if (std::string why = invalid_qconv(spec, {}); !why.empty()) return why;
  QConvHeader header;
  if (packed.size() < sizeof header) return "packed weights are truncated";
  std::memcpy(&header, packed.data(), sizeof header);
  if (header.digest != qconv_digest(form, spec)) return "packed weights belong to another convolution or tactic";
  const std::vector<QConvBlock> expected = blocks_of(form, spec.shape);
  if (header.bytes != packed.size() || header.blocks != expected.size() ||
      (packed.size() - sizeof header) / sizeof(QConvBlock) < expected.size())
    return "packed weights are truncated";
  const QConvShape& s = spec.shape;
  const QConvWindow window = qconv_window(form, spec);
  const int64_t tap = (s.kh - 1) * s.dilation_h * window.pitch + ((s.kw - 1) * s.dilation_w + 1) * s.c;
  const int64_t last = tap * window.element - (window.direct ? 4 : 1);
  for (size_t b = 0; b < expected.size(); ++b) {
    QConvBlock block;
    std::memcpy(&block, packed.data() + sizeof header + b * sizeof block, sizeof block);
    const auto width = static_cast<uint64_t>(expected[b].vectors * form.lanes);
    const auto inside = [&](uint64_t at, uint64_t bytes) {
      return at % kAlignment == 0 && at <= packed.size() && bytes <= packed.size() - at;
    };
    int64_t steps = 0;
    for (int g = 0; g <= kStripMaxGroup; ++g) {
      if (block.groups[g] < 0) return "packed weights are damaged";
      steps += int64_t{block.groups[g]} * g;
    }
    if (block.first_channel != expected[b].first_channel || block.channels != expected[b].channels ||
        block.vectors != expected[b].vectors || block.step_count < 0 || steps != block.step_count ||
        (form.depthwise && steps % 2 != 0) || !inside(block.steps, static_cast<uint64_t>(steps) * 4) ||
        !inside(block.init, width * 4) ||
        !inside(block.weights, static_cast<uint64_t>(steps) * step_bytes(form, expected[b])) ||
        !inside(block.multiplier, width * 4) || (block.addend != 0 && !inside(block.addend, width * 4)))
      return "packed weights are damaged";
    for (int64_t i = 0; i < steps; ++i) {
      int32_t offset;
      std::memcpy(&offset, packed.data() + block.steps + i * 4, 4);
      if (offset < 0 || offset > last) return "packed weights are damaged";
    }
  }
  return {};
}

}  // namespace slipway
