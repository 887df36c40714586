// Files that are no ONNX models: each known format is answered with one sentence that names the command that helps.
// Formats are told by their magic numbers; TensorFlow's protobufs, which have none, by the fields that come first.
#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "model/onnx/proto.h"

namespace slipway {
namespace {

constexpr size_t kZipScanBytes = 1 << 20;  // of each end, where names of members stand
constexpr size_t kTextBytes = 512;

struct Magic {
  size_t offset;
  std::string_view bytes;
  const char* answer;
};

using namespace std::string_view_literals;
constexpr std::array kMagics = {
    Magic{4, "TFL3"sv,
          "This is a TensorFlow Lite file; convert it: python -m tf2onnx.convert --tflite FILE --output model.onnx"},
    Magic{0, "\x89HDF\r\n\x1a\n"sv,
          "This is a Keras HDF5 file; load it in Keras, model.export('folder'), then: python -m tf2onnx.convert "
          "--saved-model folder --output model.onnx"},
    Magic{0, "\x80\x02"sv,
          "This is a pickled PyTorch file; load it in Python and call torch.onnx.export(model, inputs, 'model.onnx')"},
    Magic{0, "SLIPPLAN"sv, "This is a plan; name the ONNX file that it was built from"},
    Magic{4, "ORTM"sv, "This is ONNX Runtime's own format; use the ONNX file that it was made from"},
    Magic{0, "\x1f\x8b"sv, "The file is gzipped; unpack it first: gunzip FILE"},
    Magic{0, "\x93NUMPY"sv, "This is a NumPy array, no model; name the ONNX file"},
    Magic{0, "version https://git-lfs"sv, "This is a Git LFS pointer, not the file itself; fetch it: git lfs pull"},
};

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string suffix(const std::string& path) { return path.empty() ? "" : " (" + path + ")"; }

[[noreturn]] void answer(const std::string& sentence, const std::string& path) {
  fail(ErrorCode::kInvalidModel, "{}{}", sentence, suffix(path));
}

[[noreturn]] void reject_zip(std::string_view text, const std::string& path) {
  const std::string_view head = text.substr(0, kZipScanBytes);
  const std::string_view tail = text.substr(text.size() - std::min(text.size(), kZipScanBytes));
  const auto holds = [&](std::string_view name) {
    return head.find(name) != std::string_view::npos || tail.find(name) != std::string_view::npos;
  };
  if (holds("model.weights.h5"))
    answer(
        "This is a Keras file; load it in Keras, model.export('folder'), then: python -m tf2onnx.convert --saved-model "
        "folder --output model.onnx",
        path);
  if (holds("archive_format") || holds("serialized_exported_program") || holds("models/model.json"))
    answer(
        "This is a PyTorch exported program (.pt2); in Python: torch.onnx.export(torch.export.load(FILE), (), "
        "'model.onnx')",
        path);
  if (holds("constants.pkl"))
    answer("This is a TorchScript file; in Python: torch.onnx.export(torch.jit.load(FILE), inputs, 'model.onnx')",
           path);
  if (holds("data.pkl"))
    answer(
        "This is a PyTorch checkpoint; load it into its model in Python and call torch.onnx.export(model, inputs, "
        "'model.onnx')",
        path);
  answer("This is a zip archive, no ONNX file; unpack it and name the .onnx file inside", path);
}

bool looks_like_text(std::string_view text) {
  const std::string_view head = text.substr(0, kTextBytes);
  return std::all_of(head.begin(), head.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return u >= 0x80 || (u >= 0x20 && u != 0x7f) || c == '\n' || c == '\r' || c == '\t';
  });
}

// GraphDef starts with a NodeDef (field 1): its name (field 1), then its op (field 2), both short.
bool looks_like_graph_def(std::string_view text) {
  if (text.size() < 8 || text[0] != '\x0a') return false;
  const size_t at = static_cast<unsigned char>(text[1]) & 0x80 ? 3 : 2;
  if (text[at] != '\x0a') return false;
  const size_t op = at + 2 + static_cast<unsigned char>(text[at + 1]);
  return op + 1 < text.size() && text[op] == '\x12';
}

// SavedModel: schema version 1 (field 1), then a MetaGraphDef (field 2); other files lie beside it.
bool looks_like_saved_model(std::string_view text, const std::string& path) {
  return (!path.empty() && file_exists(join_path(parent_folder(path), "saved_model.pb"))) ||
         (text.starts_with("\x08\x01\x12"sv) && text.find("serving_default") != std::string_view::npos);
}

bool is_tensor_file(std::span<const std::byte> bytes) {
  onnx::TensorProto tensor;
  return tensor.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) && tensor.has_data_type() &&
         tensor.unknown_fields().empty();
}

}  // namespace

void reject_folder(const std::string& path) {
  if (file_exists(join_path(path, "saved_model.pb")))
    answer("This is a TensorFlow SavedModel; convert it: python -m tf2onnx.convert --saved-model " + path +
               " --output model.onnx",
           path);
  answer("This is a folder; name the .onnx file inside", path);
}

void reject_other_formats(std::span<const std::byte> bytes, const std::string& path) {
  const std::string_view text = as_text(bytes);
  if (text.empty()) answer("The file is empty; export or copy the model again", path);
  if (text.starts_with("PK\x03\x04"sv)) reject_zip(text, path);
  for (const Magic& magic : kMagics)
    if (text.size() > magic.offset && text.substr(magic.offset).starts_with(magic.bytes)) answer(magic.answer, path);
}

void reject_unparsed(std::span<const std::byte> bytes, const std::string& path) {
  const std::string_view text = as_text(bytes);
  if (looks_like_saved_model(text, path))
    answer("This is a TensorFlow SavedModel; convert its folder: python -m tf2onnx.convert --saved-model " +
               (path.empty() ? "FOLDER" : parent_folder(path)) + " --output model.onnx",
           path);
  if (looks_like_graph_def(text))
    answer(
        "This is a TensorFlow GraphDef; convert it: python -m tf2onnx.convert --graphdef FILE --inputs NAME:0 "
        "--outputs NAME:0 --output model.onnx",
        path);
  if (looks_like_text(text)) answer("This is a text file, no ONNX model; name the .onnx file", path);
  if (is_tensor_file(bytes)) answer("This is a tensor (ONNX's input_0.pb), no model; name the .onnx file", path);
  if (text[0] == '\x08') answer("The ONNX file is damaged or cut short; copy or export it again", path);
  answer("This is no ONNX file; export the model with torch.onnx.export or python -m tf2onnx.convert", path);
}

}  // namespace slipway
