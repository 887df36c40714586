// ImageDecoder: a file's bytes to pixels, [height, width, channels]. As the standard says, what is no picture, or a
// damaged one, becomes an empty tensor; a known format that is not decoded here is refused by name.
#include "base/error.h"
#include "base/image.h"
#include "model/ops/families.h"
#include "model/ops/shape_rules.h"

namespace slipway {
namespace {

int64_t channels_wanted(const Node& node) {
  const std::string format = node.text("pixel_format", "RGB");
  if (format != "RGB" && format != "BGR" && format != "Grayscale")
    reject(node, "pixel_format must be RGB, BGR or Grayscale");
  return format == "Grayscale" ? 1 : 3;
}

void infer_image_decoder(InferContext& ctx) {
  ctx.set_output(0, DType::kUint8, Shape({Dim(), Dim(), Dim(channels_wanted(ctx.node))}));
}

void eval_image_decoder(EvalContext& ctx) {
  const Tensor& stream = ctx.input(0);
  if (stream.dtype() != DType::kUint8 || stream.rank() != 1) ctx.reject("the encoded stream must be uint8 of one axis");
  const int64_t channels = channels_wanted(ctx.node);
  Image image;
  try {
    image = decode_image({stream.raw(), stream.bytes()}, ctx.node.label());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    return ctx.set_output(0, Tensor(DType::kUint8, {0, 0, channels}));
  }
  image = channels == 1 ? to_gray(image) : to_rgb(image);
  if (ctx.node.text("pixel_format", "RGB") == "BGR")
    for (size_t i = 0; i < image.pixels.size(); i += 3) std::swap(image.pixels[i], image.pixels[i + 2]);
  ctx.set_output(0, Tensor::of<uint8_t>({image.height, image.width, channels}, image.pixels));
}

constexpr OpSpec kImageDecoderOps[] = {
    {.name = "ImageDecoder", .since = 20, .min_inputs = 1, .infer = infer_image_decoder, .eval = eval_image_decoder},
};

}  // namespace

std::span<const OpSpec> image_decoder_ops() { return kImageDecoderOps; }

}  // namespace slipway
