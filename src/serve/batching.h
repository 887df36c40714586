#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/plan.h"
#include "engine/program.h"
#include "model/rows.h"
#include "serve/model_version.h"

namespace slipway {

// Whether and how the rows of requests are put together.

/// Whether requests can be batched: the first axis of every input is free and the rows along it are proven independent;
/// else why not.
RowIndependence batching_of(const Graph& graph, const std::map<std::string, int64_t>& dims);
/// Whether all shapes that requests may have can be prepared beforehand, as plans: none is free, or the rows of a batch
/// alone are.
bool takes_plans(const Graph& graph, const std::map<std::string, int64_t>& dims);
/// Rows that plans are made for: 1, 4, 16, … and the most that the configuration allows; 1 where the inputs' first axes
/// are not free.
std::vector<int64_t> plan_sizes(const Graph& graph, const ModelConfig& config);
/// The fewest rows of those sizes that hold so many; `rows` itself beyond the most.
int64_t padded_rows(int64_t rows, int64_t max_rows);
/// BuildOptions::batch of a plan for `rows`: the model's own first dimension where that is fixed.
int64_t plan_batch(const Graph& graph, int64_t rows);
/// Whether the first axis of every input is free, and the same once the other free axes are given.
bool takes_any_rows(const Graph& graph, const std::map<std::string, int64_t>& dims);

/// Holds the proof against the plans, by rows: the first and the last of made-up rows, alone and among others, must
/// give the same (floats within 1 % of the output's range, for kernels differ). "" or what differs.
std::string batching_contradiction(const std::map<int64_t, std::shared_ptr<const Plan>>& plans);

/// Floats at random, other numbers 0 or 1, empty strings; free first axes have `rows`, other free axes `free` places.
std::vector<Tensor> made_up_inputs(const Graph& graph, int64_t rows, int64_t free);
/// The same at given sizes, by input.
std::vector<Tensor> made_up_inputs(const ModelPorts& ports, const std::vector<Dims>& dims);
/// Runs a program once, on made-up values at sizes that the model may take, if any does.
void run_once(const Program& program, const Graph& graph);

/// The largest difference over the expected tensor's largest magnitude; infinite where shapes differ or NaN appears.
double relative_difference(const Tensor& expected, const Tensor& got);

}  // namespace slipway
