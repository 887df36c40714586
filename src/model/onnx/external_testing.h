#pragma once
// Models with external data, for tests: Slipway itself writes its models into one file.
#include <string>

#include "base/file.h"
#include "model/onnx/onnx.h"
#include "model/onnx/proto.h"

namespace slipway {

inline void make_external(onnx::TensorProto& tensor, const std::string& location, const std::string& offset = "",
                          const std::string& length = "") {
  tensor.clear_raw_data();
  tensor.clear_external_data();
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  for (const auto& [key, value] :
       {std::pair("location", location), std::pair("offset", offset), std::pair("length", length)}) {
    if (value.empty() && std::string(key) != "location") continue;
    auto* entry = tensor.add_external_data();
    entry->set_key(key);
    entry->set_value(value);
  }
}

/// Saves the graph with the data of its initialisers in the file `data` beside it.
inline void save_external(const Graph& graph, const std::string& path, const std::string& data) {
  const auto bytes = serialize_onnx(graph);
  onnx::ModelProto proto;
  proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  std::string content;
  for (auto& tensor : *proto.mutable_graph()->mutable_initializer()) {
    const std::string raw = tensor.raw_data();
    make_external(tensor, data, std::to_string(content.size()), std::to_string(raw.size()));
    content += raw;
  }
  make_folders(parent_folder(join_path(parent_folder(path), data)));
  write_file(join_path(parent_folder(path), data), content);
  write_file(path, proto.SerializeAsString());
}

}  // namespace slipway
