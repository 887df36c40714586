// RNN, GRU, LSTM (ONNX operator documentation, opset 7 to 22). Every direction and every sequence of the batch is run
// on its own, step by step, in double. A gate's input is X·Wᵀ + H·Rᵀ + both biases, clipped before its activation;
// steps beyond a sequence's length give zeros in Y and leave the state as it is.
#include <algorithm>
#include <cctype>
#include <cmath>

#include "base/error.h"
#include "model/ops/families.h"
#include "model/ops/row_rules.h"

namespace slipway {
namespace {

enum class Cell { kRnn, kGru, kLstm };
constexpr size_t gates_of(Cell cell) { return cell == Cell::kRnn ? 1 : cell == Cell::kGru ? 3 : 4; }
constexpr size_t states_of(Cell cell) { return cell == Cell::kLstm ? 2 : 1; }

struct GateFunction {
  double (*function)(double x, double alpha, double beta) = nullptr;
  double alpha = 0, beta = 0;
  double operator()(double x) const { return function(x, alpha, beta); }
};

struct ActivationRow {
  std::string_view name;
  double (*function)(double, double, double);
  int parameters;  ///< of alpha, beta
  double alpha, beta;
};

double logistic(double x, double, double) { return 1 / (1 + std::exp(-x)); }
double hyperbolic(double x, double, double) { return std::tanh(x); }
double rectified(double x, double, double) { return x < 0 ? 0 : x; }
double affine(double x, double a, double b) { return a * x + b; }
double leaky(double x, double a, double) { return x < 0 ? a * x : x; }
double thresholded(double x, double a, double) { return x > a ? x : 0; }
double scaled_tanh(double x, double a, double b) { return a * std::tanh(b * x); }
double hard_sigmoid(double x, double a, double b) { return std::clamp(a * x + b, 0.0, 1.0); }
double exponential(double x, double a, double) { return x < 0 ? a * std::expm1(x) : x; }
double soft_sign(double x, double, double) { return x / (1 + std::abs(x)); }
double soft_plus(double x, double, double) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

constexpr ActivationRow kActivations[] = {
    {"sigmoid", logistic, 0, 0, 0},       {"tanh", hyperbolic, 0, 0, 0},
    {"relu", rectified, 0, 0, 0},         {"affine", affine, 2, 1, 0},
    {"leakyrelu", leaky, 1, 0.01f, 0},    {"thresholdedrelu", thresholded, 1, 1, 0},
    {"scaledtanh", scaled_tanh, 2, 1, 1}, {"hardsigmoid", hard_sigmoid, 2, 0.2f, 0.5f},
    {"elu", exponential, 1, 1, 0},        {"softsign", soft_sign, 0, 0, 0},
    {"softplus", soft_plus, 0, 0, 0},
};

// activation_alpha and activation_beta are consumed in order by the functions that take them.
std::vector<GateFunction> read_activations(const EvalContext& ctx, std::vector<std::string> names) {
  const size_t wanted = names.size();
  const auto it = ctx.node.attributes.find("activations");
  if (it != ctx.node.attributes.end())
    if (const auto* given = std::get_if<std::vector<std::string>>(&it->second)) names = *given;
  if (names.size() != wanted) ctx.reject(fmt::format("{} activations are given, not {}", names.size(), wanted));
  const std::vector<float> alphas = ctx.node.reals("activation_alpha"), betas = ctx.node.reals("activation_beta");
  size_t alpha = 0, beta = 0;
  std::vector<GateFunction> activations;
  for (std::string& name : names) {
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const auto* row = std::find_if(std::begin(kActivations), std::end(kActivations),
                                   [&](const ActivationRow& r) { return r.name == name; });
    if (row == std::end(kActivations)) ctx.reject(fmt::format("the activation is unknown: '{}'", name));
    GateFunction a{row->function, row->alpha, row->beta};
    if (row->parameters >= 1 && alpha < alphas.size()) a.alpha = alphas[alpha++];
    if (row->parameters >= 2 && beta < betas.size()) a.beta = betas[beta++];
    activations.push_back(a);
  }
  return activations;
}

int64_t direction_count(const Node& node) {
  const std::string direction = node.text("direction", "forward");
  if (direction == "forward" || direction == "reverse") return 1;
  if (direction == "bidirectional") return 2;
  fail(ErrorCode::kInvalidModel, "The model is not valid at {}: direction is unknown: '{}'", node.label(), direction);
}

// The parameters of one direction and the cell's step.
struct Layer {
  Cell cell;
  size_t inputs, hidden;
  const double *w, *r;            ///< [gates·hidden, inputs], [gates·hidden, hidden]
  const double *w_bias, *r_bias;  ///< [gates·hidden]
  const double* peephole;         ///< [3·hidden]: input, output, forget
  std::span<const GateFunction> f;
  double clip;  ///< infinite for none
  bool linear_before_reset, input_forget;

  double dot(const double* row, const double* x, size_t n) const {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += row[i] * x[i];
    return sum;
  }
  double from_input(size_t row, const double* x) const { return dot(w + row * inputs, x, inputs) + w_bias[row]; }
  double from_state(size_t row, const double* h) const { return dot(r + row * hidden, h, hidden) + r_bias[row]; }
  double activate(const GateFunction& a, double x) const { return a(std::clamp(x, -clip, clip)); }

  void step(const double* x, std::vector<double>& h, std::vector<double>& c) const {
    if (cell == Cell::kRnn) return step_rnn(x, h);
    if (cell == Cell::kGru) return step_gru(x, h);
    step_lstm(x, h, c);
  }
  void step_rnn(const double* x, std::vector<double>& h) const {
    std::vector<double> next(hidden);
    for (size_t j = 0; j < hidden; ++j) next[j] = activate(f[0], from_input(j, x) + from_state(j, h.data()));
    h = next;
  }
  // Gates: update z, reset r, hidden.
  void step_gru(const double* x, std::vector<double>& h) const {
    std::vector<double> z(hidden), reset(hidden), gated(hidden), next(hidden);
    for (size_t j = 0; j < hidden; ++j) {
      z[j] = activate(f[0], from_input(j, x) + from_state(j, h.data()));
      reset[j] = activate(f[0], from_input(hidden + j, x) + from_state(hidden + j, h.data()));
      gated[j] = reset[j] * h[j];
    }
    for (size_t j = 0; j < hidden; ++j) {
      const size_t row = 2 * hidden + j;
      const double state = linear_before_reset ? reset[j] * from_state(row, h.data()) : from_state(row, gated.data());
      next[j] = (1 - z[j]) * activate(f[1], from_input(row, x) + state) + z[j] * h[j];
    }
    h = next;
  }
  // Gates: input, output, forget, cell.
  void step_lstm(const double* x, std::vector<double>& h, std::vector<double>& c) const {
    std::vector<double> next(hidden);
    for (size_t j = 0; j < hidden; ++j) {
      const auto gate = [&](size_t g) { return from_input(g * hidden + j, x) + from_state(g * hidden + j, h.data()); };
      const double input = activate(f[0], gate(0) + peephole[j] * c[j]);
      const double forget = input_forget ? 1 - input : activate(f[0], gate(2) + peephole[2 * hidden + j] * c[j]);
      const double cell_state = forget * c[j] + input * activate(f[1], gate(3));
      next[j] = activate(f[0], gate(1) + peephole[hidden + j] * cell_state) * f[2](cell_state);
      c[j] = cell_state;
    }
    h = next;
  }
};

// An optional operand of that shape; zeros when absent.
std::vector<double> operand(const EvalContext& ctx, size_t index, const Dims& dims) {
  if (!ctx.has_input(index)) return std::vector<double>(static_cast<size_t>(element_count(dims)));
  if (ctx.input(index).dims() != dims)
    ctx.reject(fmt::format("input {} is {}, not {}", index, to_string(ctx.input(index).dims()), to_string(dims)));
  return to_doubles(ctx.input(index));
}

template <Cell kCell>
void eval_recurrent(EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() != 3 || ctx.input(2).rank() != 3) ctx.reject("the input or the recurrent weights are not of rank 3");
  const bool batch_first = ctx.node.integer("layout", 0) != 0;
  const int64_t steps = x.dims()[batch_first ? 1 : 0], batch = x.dims()[batch_first ? 0 : 1], width = x.dims()[2];
  const int64_t directions = direction_count(ctx.node), hidden = ctx.input(2).dims()[2];
  const int64_t rows = static_cast<int64_t>(gates_of(kCell)) * hidden;
  if (ctx.node.integer("hidden_size", hidden) != hidden) ctx.reject("hidden_size is not the recurrent weights'");
  const std::vector<double> w = operand(ctx, 1, {directions, rows, width});
  const std::vector<double> r = operand(ctx, 2, {directions, rows, hidden});
  const std::vector<double> bias = operand(ctx, 3, {directions, 2 * rows});
  const Dims state_dims = batch_first ? Dims{batch, directions, hidden} : Dims{directions, batch, hidden};
  std::vector<double> last_h = operand(ctx, 5, state_dims), last_c(last_h.size()), peephole;
  if (kCell == Cell::kLstm) {
    last_c = operand(ctx, 6, state_dims);
    peephole = operand(ctx, 7, {directions, 3 * hidden});
  }
  std::vector<int64_t> lengths(static_cast<size_t>(batch), steps);
  if (ctx.has_input(4)) lengths = to_ints(ctx.input(4));
  if (static_cast<int64_t>(lengths.size()) != batch) ctx.reject("sequence_lens has another size than the batch");
  for (int64_t length : lengths)
    if (length < 0 || length > steps) ctx.reject(fmt::format("a sequence's length is out of range: {}", length));

  std::vector<std::string> names;
  for (int64_t d = 0; d < directions; ++d) {
    if (kCell != Cell::kRnn) names.push_back("Sigmoid");
    names.push_back("Tanh");
    if (kCell == Cell::kLstm) names.push_back("Tanh");
  }
  const std::vector<GateFunction> activations = read_activations(ctx, names);
  const double clip = ctx.node.has("clip") ? ctx.node.real("clip", 0) : HUGE_VAL;
  if (!(clip > 0)) ctx.reject("clip is not positive");

  const std::vector<double> values = to_doubles(x);
  const Dims y_dims = batch_first ? Dims{batch, steps, directions, hidden} : Dims{steps, directions, batch, hidden};
  std::vector<double> y(static_cast<size_t>(element_count(y_dims)));
  const auto size = static_cast<size_t>(hidden);
  for (int64_t d = 0; d < directions; ++d) {
    const auto at = static_cast<size_t>(d), per = activations.size() / static_cast<size_t>(directions);
    const bool reverse = d == 1 || ctx.node.text("direction", "forward") == "reverse";
    const Layer layer{.cell = kCell,
                      .inputs = static_cast<size_t>(width),
                      .hidden = size,
                      .w = w.data() + d * rows * width,
                      .r = r.data() + d * rows * hidden,
                      .w_bias = bias.data() + d * 2 * rows,
                      .r_bias = bias.data() + d * 2 * rows + rows,
                      .peephole = peephole.data() + (peephole.empty() ? 0 : d * 3 * hidden),
                      .f = std::span(activations).subspan(at * per, per),
                      .clip = clip,
                      .linear_before_reset = ctx.node.integer("linear_before_reset", 0) != 0,
                      .input_forget = ctx.node.integer("input_forget", 0) != 0};
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t state = (batch_first ? b * directions + d : d * batch + b) * hidden;
      std::vector<double> h(last_h.begin() + state, last_h.begin() + state + hidden);
      std::vector<double> c(last_c.begin() + state, last_c.begin() + state + hidden);
      const int64_t length = lengths[static_cast<size_t>(b)];
      for (int64_t s = 0; s < length; ++s) {
        const int64_t t = reverse ? length - 1 - s : s;
        layer.step(values.data() + (batch_first ? b * steps + t : t * batch + b) * width, h, c);
        const int64_t row = batch_first ? (b * steps + t) * directions + d : (t * directions + d) * batch + b;
        std::copy(h.begin(), h.end(), y.begin() + row * hidden);
      }
      std::copy(h.begin(), h.end(), last_h.begin() + state);
      std::copy(c.begin(), c.end(), last_c.begin() + state);
    }
  }
  ctx.set_output(0, from_doubles(x.dtype(), y_dims, y));
  ctx.set_output(1, from_doubles(x.dtype(), state_dims, last_h));
  ctx.set_output(2, from_doubles(x.dtype(), state_dims, last_c));
}

void infer_recurrent(InferContext& ctx) {
  const bool batch_first = ctx.node.integer("layout", 0) != 0;
  const Shape &x = ctx.shape(0), &r = ctx.shape(2);
  if ((x.has_rank() && x.rank() != 3) || (r.has_rank() && r.rank() != 3))
    ctx.reject("the input or the recurrent weights are not of rank 3");
  const Dim steps = x.has_rank() ? x[batch_first ? 1 : 0] : Dim(),
            batch = x.has_rank() ? x[batch_first ? 0 : 1] : Dim();
  const Dim directions = direction_count(ctx.node), hidden = r.has_rank() ? r[2] : Dim();
  const Shape state = batch_first ? Shape({batch, directions, hidden}) : Shape({directions, batch, hidden});
  ctx.set_output(0, ctx.dtype(0),
                 batch_first ? Shape({batch, steps, directions, hidden}) : Shape({steps, directions, batch, hidden}));
  ctx.set_output(1, ctx.dtype(0), state);
  ctx.set_output(2, ctx.dtype(0), state);
}

// Both products of every step.
double recurrent_flops(const CostContext& ctx) {
  const Dims &x = ctx.inputs[0], &w = ctx.inputs[1], &r = ctx.inputs[2];
  return 2.0 * static_cast<double>(x[0]) * static_cast<double>(x[1]) *
         static_cast<double>(element_count(w) + element_count(r));
}

// The batch is an axis of the input, of the states and of the lengths; weights are shared.
void rows_of_recurrent(RowsContext& ctx) {
  if (!ctx.any_along()) return;
  const bool batch_first = ctx.node().integer("layout", 0) != 0;
  const RowFacts& x = ctx.rows(0);
  const size_t axis = batch_first ? 0 : 1;
  if (!ctx.is_along(0) || x.axis != axis) return ctx.mixes(fmt::format("it takes its batch along axis {} only", axis));
  for (size_t i = 1; i < ctx.input_count(); ++i) {
    const bool is_state = i == 5 || i == 6, is_lengths = i == 4;
    const RowFacts& own = ctx.rows(i);
    const bool goes_along = ctx.is_along(i) && own.block == x.block && own.axis == (is_lengths ? 0 : axis);
    const bool repeats = is_lengths ? ctx.repeats(i, 1) : ctx.repeats(i, 3 - axis);
    if (is_state || is_lengths ? !goes_along && !repeats : !ctx.is_independent(i))
      return ctx.mixes(fmt::format("its input {} does not go with the rows", i));
  }
  ctx.set_along(axis, x.block);
  if (!batch_first) ctx.set(0, {RowFacts::Kind::kAlong, 2, x.block, {}});
}

template <Cell kCell>
constexpr OpSpec row(std::string_view name) {
  return {.name = name,
          .since = 7,
          .min_inputs = 3,
          .max_inputs = kCell == Cell::kLstm ? 8 : 6,
          .min_outputs = 0,
          .max_outputs = 1 + static_cast<int>(states_of(kCell)),
          .infer = infer_recurrent,
          .eval = eval_recurrent<kCell>,
          .flops = recurrent_flops,
          .rows = rows_of_recurrent,
          .traits = kWeighted};
}

}  // namespace

std::span<const OpSpec> recurrent_ops() {
  static constexpr OpSpec kRecurrentOps[] = {row<Cell::kRnn>("RNN"), row<Cell::kGru>("GRU"), row<Cell::kLstm>("LSTM")};
  return kRecurrentOps;
}

}  // namespace slipway
