// Plans: what a saved one must keep, what a damaged one may not do, and on which machines one is refused.
#include "engine/plan.h"

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "engine/engine_testing.h"
#include "engine/plan_exercise.h"
#include "engine/program_models.h"
#include "engine/weight_pool.h"

namespace slipway {
namespace {

class PlanFile : public ::testing::Test {
 protected:
  PlanFile() : folder_(::testing::TempDir() + "slipway-plan-XXXXXX") {
    SLIPWAY_CHECK(::mkdtemp(folder_.data()) != nullptr);
  }
  ~PlanFile() override {
    for (const std::string& name : list_folder(folder_)) ::unlink(join_path(folder_, name).c_str());
    ::rmdir(folder_.c_str());
  }
  std::string path(const std::string& name) const { return join_path(folder_, name); }
  std::string saved(const Plan& plan) const {
    plan.save(path("saved.plan"));
    return read_text_file(path("saved.plan"));
  }
  ErrorCode code_of_opening(const std::string& bytes) const {
    std::ofstream(path("other.plan"), std::ios::binary) << bytes;
    try {
      Plan::open(path("other.plan"));
    } catch (const Error& error) {
      message_ = error.what();
      return error.code();
    }
    return ErrorCode::kInternal;
  }

  std::string folder_;
  mutable std::string message_;
};

std::string texts[] = {residual_network_text(8, 8), integer_network_text(kIntegerNetworks[0]),
                       integer_network_text(kIntegerNetworks[3])};

TEST_F(PlanFile, KeepsOutputsChoicesAndDescriptions) {
  Random random(31);
  for (const std::string& text : texts)
    for (const int threads : {1, 2}) {
      Graph graph = random_graph(text, random);
      graph.metadata["labels"] = "a\nb";
      const auto built = Plan::build(graph, {.batch = 2, .threads = threads, .tune = false});
      std::vector<Tensor> inputs;
      for (const PortInfo& port : built->inputs()) inputs.push_back(random_tensor(port.dtype, port.dims, random));
      built->save(path("a.plan"));
      const auto opened = Plan::open(path("a.plan"));
      EXPECT_EQ(opened->choices_digest(), built->choices_digest());
      EXPECT_EQ(opened->threads(), threads);
      EXPECT_EQ(opened->precision(), built->precision());
      EXPECT_EQ(open_program(path("a.plan"))->ports().metadata, graph.metadata);
      EXPECT_EQ(opened->memory().arena_bytes, built->memory().arena_bytes);
      EXPECT_EQ(opened->memory().weight_bytes, built->memory().weight_bytes);
      EXPECT_EQ(opened->steps().size(), built->steps().size());
      const auto a = run_plan(built, inputs), b = run_plan(opened, inputs);
      ASSERT_EQ(a.size(), b.size());
      for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].identical(b[i]));
      built->save(path("b.plan"));
      EXPECT_EQ(read_text_file(path("a.plan")), read_text_file(path("b.plan")));
      EXPECT_THROW(opened->save(path("b.plan")), Error);
    }
}

TEST_F(PlanFile, CarriesTheModelItWasBuiltFrom) {
  Random random(32);
  const Graph graph = random_graph(texts[0], random);
  Plan::build(graph, {.batch = 3, .tune = false})->save(path("a.plan"));
  const Graph carried = Plan::graph_of(path("a.plan"));
  const std::vector<Tensor> inputs = {random_tensor(DType::kFloat32, {5, 3, 8, 8}, random)};
  EXPECT_TRUE(evaluate(carried, inputs)[0].identical(evaluate(graph, inputs)[0]));
  EXPECT_TRUE(Plan::is_plan_file(path("a.plan")));
  write_file(path("text"), "SLIPPLA is not a plan, however long this sentence may become.");
  EXPECT_FALSE(Plan::is_plan_file(path("text")));
  EXPECT_FALSE(Plan::is_plan_file(path("absent")));
  EXPECT_FALSE(Plan::is_plan_file(folder_));
  EXPECT_THROW(Plan::open(path("text")), Error);
  EXPECT_THROW(Plan::graph_of(path("text")), Error);
  EXPECT_THROW(Plan::open(path("absent")), Error);
  std::string damaged = read_text_file(path("a.plan"));
  damaged.back() = static_cast<char>(damaged.back() ^ 1);  // of the weights, which the model does without
  write_file(path("a.plan"), damaged);
  EXPECT_NO_THROW(Plan::graph_of(path("a.plan")));
  damaged[PlanOffsets(damaged).model] = static_cast<char>(damaged[PlanOffsets(damaged).model] ^ 1);
  write_file(path("a.plan"), damaged);
  EXPECT_THROW(Plan::graph_of(path("a.plan")), Error);
}

TEST_F(PlanFile, SharesWeightsWithOthersOfItsPool) {
  Random random(36);
  const Graph graph = random_graph(texts[0], random);
  for (const char* name : {"a.plan", "b.plan"}) Plan::build(graph, {.tune = false})->save(path(name));
  const auto pool = std::make_shared<WeightPool>();
  const std::shared_ptr<const Plan> plans[] = {Plan::open(path("a.plan"), pool), Plan::open(path("b.plan"), pool)};
  EXPECT_EQ(weight_bytes_of(plans), plans[0]->memory().weight_bytes);
  const std::shared_ptr<const Plan> apart[] = {Plan::open(path("a.plan")), Plan::open(path("b.plan"))};
  EXPECT_EQ(weight_bytes_of(apart), 2 * plans[0]->memory().weight_bytes);
  const std::vector<Tensor> inputs = {random_tensor(DType::kFloat32, {1, 3, 8, 8}, random)};
  EXPECT_TRUE(run_plan(plans[1], inputs)[0].identical(run_plan(apart[0], inputs)[0]));
}

TEST_F(PlanFile, RefusesOptionsThatMakeNoSense) {
  Random random(33);
  const Graph graph = random_graph(texts[0], random);
  for (const BuildOptions& options :
       {BuildOptions{.batch = 0}, BuildOptions{.threads = 0}, BuildOptions{.dims = {{"nothing", 3}}}}) {
    try {
      Plan::build(graph, options);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    }
  }
}

// The plan's bytes with its header rewritten.
template <typename Edit>
std::string with_header(const std::string& plan, const Edit& edit) {
  const PlanOffsets before(plan);
  nlohmann::json json = nlohmann::json::parse(plan.substr(kPlanPreambleBytes, before.header_bytes));
  edit(json);
  const std::string header = json.dump();
  const uint64_t header_bytes = header.size();
  std::string changed = plan.substr(0, kPlanPreambleBytes) + header;
  std::memcpy(changed.data() + 16, &header_bytes, sizeof header_bytes);
  changed.resize(PlanOffsets(changed).model, '\0');
  return with_valid_digests(changed + plan.substr(before.model));
}

TEST_F(PlanFile, IsRefusedWhereItsInstructionsAreMissing) {
  Random random(34);
  const std::string plan = saved(*Plan::build(random_graph(texts[1], random), {.tune = false}));
  EXPECT_EQ(code_of_opening(with_header(plan, [](nlohmann::json&) {})), ErrorCode::kInternal) << message_;
  for (const std::string feature : {"avx512_vnni", "avx4096"}) {
    if (feature == "avx512_vnni" && cpu_features().avx512_vnni) continue;
    const std::string other = with_header(plan, [&](nlohmann::json& header) { header["cpu"] = "avx2 " + feature; });
    EXPECT_EQ(code_of_opening(other), ErrorCode::kUnsupported) << message_;
    EXPECT_NE(message_.find("slipway build"), std::string::npos) << message_;
  }
  EXPECT_EQ(code_of_opening(with_header(plan, [](nlohmann::json& header) { header["onednn"] = "1.2.3"; })),
            ErrorCode::kUnsupported)
      << message_;
}

TEST_F(PlanFile, TruncatedIsRefused) {
  Random random(35);
  for (const std::string& text : texts) {
    const std::string plan = saved(*Plan::build(random_graph(text, random), {.tune = false}));
    for (size_t n = 0; n < plan.size(); n += 97)
      EXPECT_EQ(code_of_opening(plan.substr(0, n)), ErrorCode::kInvalidModel) << n << " of " << plan.size();
    EXPECT_EQ(code_of_opening(plan + "x"), ErrorCode::kInvalidModel);
  }
}

// One bit of every byte in turn: header, digests, model, weights and the padding between them.
TEST_F(PlanFile, EveryFlippedBitIsRefused) {
  constexpr uint64_t kInputSeed = 20240601;
  Random random(kInputSeed);
  for (const std::string& text : texts) {
    Graph graph = random_graph(text, random);
    std::string plan = saved(*Plan::build(graph, {.tune = false}));
    const int fd = ::memfd_create("plan", 0);
    ASSERT_EQ(::write(fd, plan.data(), plan.size()), static_cast<ssize_t>(plan.size()));
    const std::string file = fmt::format("/proc/self/fd/{}", fd);
    EXPECT_NO_THROW(Plan::open(file));
    const auto put = [&](size_t at) { ASSERT_EQ(::pwrite(fd, plan.data() + at, 1, static_cast<off_t>(at)), 1); };
    for (size_t at = 0; at < plan.size(); ++at) {
      const char before = plan[at];
      plan[at] = static_cast<char>(before ^ static_cast<char>(1 << random.below(8)));
      put(at);
      EXPECT_THROW(Plan::open(file), Error) << "seed " << kInputSeed << " byte " << at << " of " << plan.size();
      plan[at] = before;
      put(at);
    }
    ::close(fd);
  }
}

TEST_F(PlanFile, DamagedBytesDoNoWorseThanFail) {
  constexpr uint64_t kInputSeed = 20240601;
  Random random(kInputSeed);
  for (const std::string& text : texts) {
    const std::string plan = saved(*Plan::build(random_graph(text, random), {.tune = false}));
    ASSERT_TRUE(exercise_plan(plan));
    int opened = 0;
    for (int i = 0; i < 500; ++i) {
      std::string changed = plan;
      const size_t at = random.below(plan.size());
      changed[at] = static_cast<char>(changed[at] ^ static_cast<char>(1 + random.below(255)));
      EXPECT_FALSE(exercise_plan(changed)) << "seed " << kInputSeed << " byte " << at;
      opened += exercise_plan(with_valid_digests(changed));
    }
    EXPECT_GT(opened, 0) << "damage to the model or the weights whose digests were made to fit";
  }
}

// A file that is truncated or written over in place after it was opened: a mapping would end the process, or answer
// with other weights.
TEST_F(PlanFile, WhatBecomesOfTheFileIsNoMatter) {
  constexpr uint64_t kInputSeed = 20240604;
  Random random(kInputSeed);
  for (const std::string& text : texts)
    for (const bool truncates : {true, false}) {
      const Graph graph = random_graph(text, random);
      const auto built = Plan::build(graph, {.tune = false});
      std::vector<Tensor> inputs;
      for (const PortInfo& port : built->inputs()) inputs.push_back(random_tensor(port.dtype, port.dims, random));
      built->save(path("a.plan"));
      const auto opened = Plan::open(path("a.plan"));
      const uint64_t bytes = file_bytes(path("a.plan"));
      std::fstream file(path("a.plan"), std::ios::in | std::ios::out | std::ios::binary);
      if (truncates)
        ASSERT_EQ(::truncate(path("a.plan").c_str(), 0), 0);
      else
        file << std::string(bytes, '\x55') << std::flush;
      const auto expected = run_plan(built, inputs), got = run_plan(opened, inputs);
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(expected[i].identical(got[i])) << "seed " << kInputSeed;
    }
}

// Damage that its author signed: any byte, and every number and word of the header in turn.
TEST_F(PlanFile, SignedNonsenseDoesNoWorseThanFail) {
  constexpr uint64_t kInputSeed = 20240602;
  Random random(kInputSeed);
  std::vector<std::string> plans;
  for (const std::string& text : texts)
    plans.push_back(saved(*Plan::build(random_graph(text, random), {.tune = false})));
  const std::pair<const char*, std::vector<Tensor>> programs[] = {
      {kTwoFreeAxes, {Tensor(DType::kFloat32, {2, 7, 8})}},
      {kBodies, {Tensor(DType::kFloat32, {64, 64}), Tensor::scalar(true), Tensor::scalar(int64_t{3})}},
      {kSelecting, {random_tensor(DType::kFloat32, {16, 4}, random)}}};
  for (const auto& [text, inputs] : programs) {
    const auto program = compiled_backend().make(random_graph(text, random), {});
    EXPECT_EQ(prepare_wholly(*program, {&inputs, 1}), "");
    save_program(*program, path("saved.plan"));
    plans.push_back(read_text_file(path("saved.plan")));
  }
  const char* const nonsense[] = {"-1", "4294967295", "18446744073709551615",  "1e300", "\"\"", "[]", "{}", "null", "0",
                                  "3",  "[0]",        "\"graph \\\"g\\\" {}\""};
  for (const std::string& plan : plans) {
    ASSERT_TRUE(exercise_plan(plan));
    for (int i = 0; i < 300; ++i) {
      std::string place;
      const std::string changed = with_header(plan, [&](nlohmann::json& header) {
        nlohmann::json flat = header.flatten();
        auto it = flat.begin();
        std::advance(it, static_cast<std::ptrdiff_t>(random.below(flat.size())));
        place = it.key();
        header[nlohmann::json::json_pointer(place)] =
            nlohmann::json::parse(nonsense[random.below(std::size(nonsense))]);
      });
      SCOPED_TRACE(fmt::format("seed {} {}", kInputSeed, place));
      exercise_plan(changed);
    }
    for (int i = 0; i < 300; ++i) {
      const PlanOffsets at(plan);
      std::string changed = plan;
      const size_t byte = i % 3 == 0 ? random.below(plan.size()) : kPlanPreambleBytes + random.below(at.header_bytes);
      changed[byte] = static_cast<char>(i % 2 == 0 ? '0' + random.below(10) : random.below(256));
      exercise_plan(with_valid_digests(changed));
    }
  }
}

// The fuzz target's seeds, as they are and with their digest made to fit; they open where the CPU and oneDNN are
// theirs.
TEST(PlanCorpus, DoesNoWorseThanFail) {
  constexpr uint64_t kInputSeed = 20240603;
  Random random(kInputSeed);
  const std::string folder = SLIPWAY_SOURCE_DIR "/tests/corpus/plan_file_fuzz";
  int files = 0;
  for (const std::string& name : list_folder(folder)) {
    const std::string plan = read_text_file(join_path(folder, name));
    ++files;
    exercise_plan(plan);
    for (int i = 0; i < 300 && !plan.empty(); ++i) {
      std::string changed = plan;
      changed[random.below(plan.size())] = static_cast<char>(random.below(256));
      exercise_plan(with_valid_digests(changed));
    }
  }
  EXPECT_GE(files, 3);
}

}  // namespace
}  // namespace slipway
