#pragma once
#include <string>
#include <vector>

#include "model/graph.h"
#include "model/tensor.h"

namespace slipway {

// ONNX's test cases as folders: model.onnx, and test_data_set_N with input_M.pb and output_M.pb.

struct CaseData {
  std::vector<Tensor> inputs, outputs;
};

/// The folders that hold a case: `folder` itself, or, some levels below it, all that do. Sorted.
std::vector<std::string> case_folders(const std::string& folder);
/// The data sets of a case, given its model (older cases store bfloat16 as uint16). Fails as load_value_pb() does.
std::vector<CaseData> load_case_data(const std::string& folder, const Graph& graph);
/// The operator that a case is about: the one that its model has, "several" where there are more. Fails as load_onnx()
/// does for what is no ONNX file.
std::string operator_of_case(const std::string& folder);
/// Whether it has operators of chance, whose values no case can fix.
bool is_random(const Graph& graph);

/// As ONNX's own runner compares.
struct CaseTolerance {
  double relative = 1e-3, absolute = 1e-7;
};
/// Empty when both agree, else what differs: type, shape and, where `values`, elements. Integers, booleans and strings
/// agree exactly, NaN with NaN, an infinity with itself.
std::string case_difference(const Tensor& actual, const Tensor& expected, bool values = true,
                            const CaseTolerance& tolerance = {});

}  // namespace slipway
