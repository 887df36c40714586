// What all oneDNN tactics share: descriptors of our layouts, the kernel that executes a primitive with memory objects
// made once per session, post-ops, and finding an implementation again by name.
#include "engine/lower/onednn.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <mutex>

#include "base/error.h"
#include "base/hash.h"
#include "base/parallel.h"

namespace slipway {
namespace {

class DnnlState : public KernelState {
 public:
  std::vector<dnnl::memory> memories;
  std::vector<dnnl_exec_arg_t> args;
  dnnl::stream stream{onednn_engine()};
};

class DnnlKernel : public Kernel {
 public:
  DnnlKernel(dnnl::primitive primitive, std::vector<DnnlArg> args, std::span<const BlobView> blobs, size_t scratch,
             int residual_input, std::optional<Faithful> faithful)
      : primitive_(std::move(primitive)),
        args_(std::move(args)),
        scratch_(scratch),
        residual_input_(residual_input),
        faithful_(std::move(faithful)) {
    for (DnnlArg& arg : args_) {
      if (arg.from == DnnlArg::kScratchpad && faithful_ && faithful_->scratchpad.get_size() > scratch_) {
        arg.desc = faithful_->scratchpad;
        scratch_ = arg.desc.get_size();
      }
      blob_of_.push_back(nullptr);
      if (arg.from == DnnlArg::kBlob)
        blob_of_.back() = require_blob(blobs, static_cast<size_t>(arg.index), arg.desc.get_size()).data();
      if (arg.from == DnnlArg::kOutput && arg.index == 0) output_bytes_ = arg.desc.get_size();
    }
  }

  size_t scratch_bytes() const override { return scratch_; }

  std::unique_ptr<KernelState> make_state() const override {
    auto state = std::make_unique<DnnlState>();
    for (size_t i = 0; i < args_.size(); ++i) {
      state->memories.emplace_back(args_[i].desc, onednn_engine(), const_cast<std::byte*>(blob_of_[i]));
      state->args.push_back({args_[i].id, state->memories.back().get()});
    }
    return state;
  }

  void run(const KernelArgs& call) const override {
    auto& state = *static_cast<DnnlState*>(call.state);
    for (size_t i = 0; i < args_.size(); ++i) {
      void* handle = nullptr;
      switch (args_[i].from) {
        case DnnlArg::kInput:
          handle = const_cast<void*>(call.inputs[args_[i].index]);
          break;
        case DnnlArg::kOutput:
          handle = call.outputs[args_[i].index];
          break;
        case DnnlArg::kScratchpad:
          handle = call.scratch;
          break;
        case DnnlArg::kBlob:
          continue;
      }
      dnnl_memory_set_data_handle(state.args[i].memory, handle);
    }
    if (residual_input_ >= 0 && call.inputs[residual_input_] != call.outputs[0])
      std::memcpy(call.outputs[0], call.inputs[residual_input_], output_bytes_);
    const bool twin = call.faithful && faithful_ && faithful_->activation;
    const auto status = dnnl_primitive_execute(twin ? twin_primitive().get() : primitive_.get(), state.stream.get(),
                                               static_cast<int>(state.args.size()), state.args.data());
    if (status != dnnl_success)
      fail(ErrorCode::kInternal, "oneDNN failed to execute a primitive: status {}", static_cast<int>(status));
    if (call.faithful && faithful_) finish(static_cast<float*>(call.outputs[0]), call.threads);
  }

 private:
  const dnnl::primitive& twin_primitive() const try {
    std::call_once(twin_made_, [&] { twin_primitive_ = faithful_->make(); });
    return twin_primitive_;
  } catch (const dnnl::error& error) {
    fail(ErrorCode::kInternal, "oneDNN failed to make a primitive: {}", error.what());
  }

  void finish(float* y, int threads) const {
    const Faithful& f = *faithful_;
    if (f.activation) f.activation.run(y, y, element_count(physical_dims(f.layout, f.dims)), threads);
    clear_padding(f.layout, y, f.dims);
  }

  dnnl::primitive primitive_;
  std::vector<DnnlArg> args_;
  std::vector<const std::byte*> blob_of_;
  size_t scratch_;
  size_t output_bytes_ = 0;
  int residual_input_;
  std::optional<Faithful> faithful_;
  mutable std::once_flag twin_made_;
  mutable dnnl::primitive twin_primitive_;
};

// Of what the descriptor means: strides of single elements and fields that its kind does not use may hold anything.
uint64_t digest(const dnnl::memory::desc& desc) {
  const dnnl_memory_desc_t& d = desc.data;
  std::vector<int64_t> words = {d.ndims, d.data_type, d.offset0, d.format_kind, static_cast<int64_t>(desc.get_size())};
  for (int i = 0; i < d.ndims; ++i) words.insert(words.end(), {d.dims[i], d.padded_dims[i], d.padded_offsets[i]});
  if (d.format_kind == dnnl_blocked) {
    const dnnl_blocking_desc_t& blocking = d.format_desc.blocking;
    for (int i = 0; i < d.ndims; ++i) words.push_back(d.padded_dims[i] == 1 ? 0 : blocking.strides[i]);
    for (int i = 0; i < blocking.inner_nblks; ++i)
      words.insert(words.end(), {blocking.inner_blks[i], blocking.inner_idxs[i]});
  }
  words.push_back(static_cast<int64_t>(d.extra.flags));
  if (d.extra.flags & dnnl_memory_extra_flag_compensation_conv_s8s8) words.push_back(d.extra.compensation_mask);
  if (d.extra.flags & dnnl_memory_extra_flag_scale_adjust)
    words.push_back(static_cast<int64_t>(std::bit_cast<uint32_t>(d.extra.scale_adjust)));
  if (d.extra.flags & dnnl_memory_extra_flag_compensation_conv_asymmetric_src)
    words.push_back(d.extra.asymm_compensation_mask);
  return fnv1a(words.data(), words.size() * sizeof words[0]);
}

dnnl::memory::desc spelled(Layout layout, const Dims& dims) {
  using tag = dnnl::memory::format_tag;
  if (layout == Layout::kPlain) return onednn_plain(DType::kFloat32, dims);
  const tag format = layout == Layout::kNhwc ? tag::nhwc : layout == Layout::kBlocked8 ? tag::nChw8c : tag::nChw16c;
  return {dims, dnnl::memory::data_type::f32, format};
}

}  // namespace

std::string onednn_version() {
  const dnnl_version_t* v = dnnl::version();
  return fmt::format("{}.{}.{}", v->major, v->minor, v->patch);
}

const dnnl::engine& onednn_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::memory::data_type onednn_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return dnnl::memory::data_type::f32;
    case DType::kInt32:
      return dnnl::memory::data_type::s32;
    case DType::kInt8:
      return dnnl::memory::data_type::s8;
    case DType::kUint8:
      return dnnl::memory::data_type::u8;
    default:
      return dnnl::memory::data_type::undef;
  }
}

ImageDescs onednn_images(Layout in, Layout out, const Dims& x, const Dims& y) {
  const auto dense = [](Layout layout) { return layout == Layout::kPlain || layout == Layout::kNhwc; };
  const auto either = [&](Layout layout, const Dims& dims) {
    return dense(layout) && same_arrangement(Layout::kPlain, Layout::kNhwc, dims);
  };
  const bool any_in = either(in, x), any_out = either(out, y);
  if (any_in) in = any_out ? Layout::kNhwc : dense(out) ? out : Layout::kPlain;
  if (any_out) out = any_in ? Layout::kNhwc : dense(in) ? in : Layout::kPlain;
  return {spelled(in, x), spelled(out, y)};
}

bool onednn_needs_aligned_pixels(std::string_view implementation, Layout in, Layout out) {
  return implementation.ends_with("sse41") && (in != Layout::kBlocked8 || out != Layout::kBlocked8);
}

bool onednn_can_count(const Window& window, Layout in, Layout out, const Dims& x, const Dims& y) {
  constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
  for (size_t i = 0; i < window.rank(); ++i)
    if (std::max({window.strides[i], window.dilations[i], window.extent(i),
                  window.input[i] + window.pads_begin[i] + window.pads_end[i]}) > kLimit)
      return false;
  return layout_bytes(in, DType::kFloat32, x) <= kLimit && layout_bytes(out, DType::kFloat32, y) <= kLimit;
}

dnnl::memory::desc onednn_plain(DType dtype, const Dims& dims) {
  const Dims shape = dims.empty() ? Dims{1} : dims;
  return {shape, onednn_type(dtype), strides_of(shape)};
}

std::unique_ptr<Kernel> make_dnnl_kernel(dnnl::primitive primitive, std::vector<DnnlArg> args,
                                         std::span<const BlobView> blobs, size_t scratchpad_bytes, int residual_input,
                                         std::optional<Faithful> faithful) {
  return std::make_unique<DnnlKernel>(std::move(primitive), std::move(args), blobs, scratchpad_bytes, residual_input,
                                      std::move(faithful));
}

bool append_activation(const Node& node, dnnl::post_ops& ops) {
  using dnnl::algorithm;
  const std::string name = node.text("activation", "");
  const float alpha = node.real("alpha", 0), beta = node.real("beta", 0);
  if (name.empty()) return true;
  if (name == "Relu")
    ops.append_eltwise(1, algorithm::eltwise_relu, 0, 0);
  else if (name == "Clip")
    ops.append_eltwise(1, algorithm::eltwise_clip, alpha, beta);
  else if (name == "LeakyRelu")
    ops.append_eltwise(1, algorithm::eltwise_relu, alpha, 0);
  else if (name == "Tanh")
    ops.append_eltwise(1, algorithm::eltwise_tanh, 0, 0);
  else if (name == "HardSwish")
    ops.append_eltwise(1, algorithm::eltwise_hardswish, 0, 0);
  else if (name == "SiLU")
    ops.append_eltwise(1, algorithm::eltwise_swish, 1, 0);
  else if (name == "HardSigmoid") {
    ops.append_eltwise(1, algorithm::eltwise_linear, alpha, beta);
    ops.append_eltwise(1, algorithm::eltwise_clip, 0, 1);
  } else
    return false;
  return true;
}

std::string onednn_variant(const std::string& implementation, const dnnl::memory::desc& packed) {
  return fmt::format("{}|{:016x}", implementation, digest(packed));
}

Blob reorder_blob(const void* plain, const dnnl::memory::desc& from, const dnnl::memory::desc& to) {
  AlignedBytes packed = allocate_aligned(to.get_size());
  dnnl::memory source(from, onednn_engine(), const_cast<void*>(plain)), target(to, onednn_engine(), packed.get());
  dnnl::stream stream(onednn_engine());
  dnnl::reorder(source, target).execute(stream, source, target);
  stream.wait();
  return {std::move(packed), to.get_size()};
}

void fail_onednn(const dnnl::error& error, const Node& node) {
  fail(ErrorCode::kUnsupported, "oneDNN can't run this operator; build the plan again: {} ({})", node.label(),
       error.what());
}

}  // namespace slipway
