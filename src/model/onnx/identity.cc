// One identity of a model. The files that it refers to are found in the parsed message by reflection: every TensorProto
// wherever the schema may put one, and those in the default attributes of functions, which Debian's schema leaves in
// the unknown fields. So no place is forgotten that a later importer may read.
#include "model/onnx/identity.h"

#include <google/protobuf/message.h>

#include <functional>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/file_reader.h"
#include "base/hash.h"
#include "model/onnx/proto.h"

namespace slipway {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void collect(const Message& message, std::set<std::string>& names) {
  if (const auto* tensor = dynamic_cast<const onnx::TensorProto*>(&message)) {
    if (tensor->data_location() == onnx::TensorProto::EXTERNAL) names.insert(external_location(*tensor));
    return;
  }
  if (const auto* function = dynamic_cast<const onnx::FunctionProto*>(&message))
    for (const auto& attribute : default_attributes(*function)) collect(attribute, names);
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      collect(reflection.GetMessage(message, field), names);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i)
      collect(reflection.GetRepeatedMessage(message, field, i), names);
  }
}

/// What is known of one file.
struct FileDigest {
  std::string sha256;
  uint64_t bytes = 0;
};

FileDigest digest_of(const std::string& path, const std::function<void(const std::byte*, size_t)>& also) {
  const FileReader file(path);
  Sha256 hash;
  file.read_blocks([&](const std::byte* data, size_t bytes) {
    hash.add(data, bytes);
    if (also) also(data, bytes);
  });
  return {hash.hex(), file.size()};
}

/// The digest over all files from those of each; `data` gives a data file's.
ModelIdentity identity_of(const FileDigest& onnx, const std::set<std::string>& names,
                          const std::function<FileDigest(const std::string& name)>& data) {
  ModelIdentity identity{.sha256 = onnx.sha256, .bytes = onnx.bytes, .data_files = {names.begin(), names.end()}};
  if (names.empty()) return identity;
  Sha256 hash;
  hash.add(fmt::format("slipway model\n{}\n", onnx.sha256));
  for (const std::string& name : names) {
    const FileDigest file = data(name);
    hash.add(fmt::format("{} {} {}\n", file.sha256, name.size(), name));
    identity.bytes += file.bytes;
  }
  identity.sha256 = hash.hex();
  return identity;
}

struct ParsedFile {
  onnx::ModelProto proto;
  FileDigest digest;
  std::set<std::string> names;
};

ParsedFile parse_file(const std::string& path) {
  ParsedFile parsed;
  Sha256 hash;
  parsed.digest.bytes = read_model(path, parsed.proto, &hash);
  parsed.digest.sha256 = hash.hex();
  collect(parsed.proto, parsed.names);
  return parsed;
}

}  // namespace

ModelIdentity identify_model(const std::string& path) {
  const ParsedFile onnx = parse_file(path);
  return identity_of(onnx.digest, onnx.names, [&](const std::string& name) {
    return digest_of(external_path(parent_folder(path), name), nullptr);
  });
}

Graph load_onnx(const std::string& path, ModelIdentity& identity) {
  ParsedFile onnx = parse_file(path);
  ExternalData external(parent_folder(path));
  identity = identity_of(onnx.digest, onnx.names, [&](const std::string& name) -> FileDigest {
    const auto bytes = external.open(name)->bytes();
    return {sha256_hex(bytes), bytes.size()};
  });
  return import_model(onnx.proto, std::move(external));
}

std::vector<std::string> model_files(const std::string& path) {
  onnx::ModelProto proto;
  read_model(path, proto);
  std::set<std::string> names;
  collect(proto, names);
  std::vector<std::string> files{path};
  for (const std::string& name : names) files.push_back(external_path(parent_folder(path), name));
  return files;
}

ModelIdentity copy_model(const std::string& path, const std::string& to) {
  const ParsedFile onnx = parse_file(path);
  const std::string folder = parent_folder(to);
  const auto require_free = [&](const std::string& target) {
    if (file_exists(target) || is_folder(target))
      fail(ErrorCode::kInvalidArgument,
           "A copy of the model would replace a file; save the model with another name for its data: {} of {}", target,
           path);
  };
  const auto copy = [&](const std::string& from, const std::string& target, const std::string& expected) {
    make_folders(parent_folder(target));
    AtomicFile file(target);
    FileDigest digest = digest_of(from, [&](const std::byte* data, size_t bytes) { file.write(data, bytes); });
    if (!expected.empty() && digest.sha256 != expected)
      fail(ErrorCode::kIo, "The model changed while it was copied; do it again: {}", path);
    require_free(target);
    file.commit();
    return digest;
  };
  require_free(to);
  ModelIdentity identity = identity_of(onnx.digest, onnx.names, [&](const std::string& name) {
    const std::string target = join_path(folder, name);
    if (is_same_file(target, to))
      fail(ErrorCode::kInvalidArgument,
           "A data file has the name that the model's copy takes; save the model with another name for its data: {} "
           "of {}",
           name, path);
    return copy(external_path(parent_folder(path), name), target, "");
  });
  copy(path, to, onnx.digest.sha256);
  return identity;
}

}  // namespace slipway
