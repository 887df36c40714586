#include "serve/recording.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "base/clock.h"
#include "base/file.h"
#include "base/replay_corpus.h"
#include "data/test_folder.h"
#include "serve/serve_testing.h"

#define LLVMFuzzerTestOneInput fuzz_recording
#include "serve/recording_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace slipway {
namespace {

/// A version and an answered request of `floats` numbers.
struct Exchange {
  explicit Exchange(size_t floats = 4) : version(make_version(scaling_graph(2))), values(floats, 1.5f) {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(values));
    request.id = "r1";
    request.sticky = "user";
    request.arrival_ns = now_ns();
    request.inputs = {{"x", DType::kFloat32, {1, static_cast<int64_t>(floats)}, bytes}};
    response.outputs = {{"y", DType::kFloat32, {1, static_cast<int64_t>(floats)}, bytes}};
    response.total_ns = 240'000;
  }
  Served served() const { return {*version, Variant::kStable, request, response}; }

  std::shared_ptr<ModelVersion> version;
  std::vector<float> values;
  InferRequest request;
  InferResponse response;
};

TEST(Recording, RoundTrip) {
  const TestFolder folder;
  Exchange exchange;
  {
    Recorder recorder({.path = folder.path("r.rec")});
    recorder.record(exchange.served());
    exchange.response.error = ErrorCode::kOverloaded;
    exchange.response.outputs.clear();
    exchange.request.inputs[0].dims = {0, 4};
    exchange.request.inputs[0].bytes = {};
    recorder.record(exchange.served());
  }
  const auto records = read_recording(folder.path("r.rec"));
  ASSERT_EQ(records.size(), 2u);
  const RecordedRequest& r = records[0];
  EXPECT_EQ(r.model, "m");
  EXPECT_EQ(r.version, 1);
  EXPECT_EQ(r.id, "r1");
  EXPECT_EQ(r.sticky, "user");
  EXPECT_EQ(r.error, "");
  EXPECT_EQ(r.total_us, 240);
  ASSERT_EQ(r.inputs.size(), 1u);
  ASSERT_EQ(r.outputs.size(), 1u);
  EXPECT_EQ(r.inputs[0].name, "x");
  EXPECT_EQ(r.inputs[0].dtype, DType::kFloat32);
  EXPECT_EQ(r.inputs[0].dims, (Dims{1, 4}));
  ASSERT_EQ(r.inputs[0].bytes.size(), 16u);
  EXPECT_EQ(std::memcmp(r.inputs[0].bytes.data(), exchange.values.data(), 16), 0);
  EXPECT_EQ(records[1].error, "overloaded");
  EXPECT_EQ(records[1].inputs[0].dims, (Dims{0, 4}));
  EXPECT_TRUE(records[1].outputs.empty());
}

TEST(Recording, ACutFileGivesItsWholeRecords) {
  const TestFolder folder;
  const Exchange exchange;
  {
    Recorder recorder({.path = folder.path("r.rec")});
    for (int i = 0; i < 3; ++i) recorder.record(exchange.served());
  }
  const std::string whole = read_text_file(folder.path("r.rec"));
  const size_t record = (whole.size() - 8) / 3;
  for (size_t length = 8; length <= whole.size(); ++length) {
    const auto records = parse_recording(std::as_bytes(std::span(whole).first(length)), nullptr, "cut");
    EXPECT_EQ(records.size(), (length - 8) / record) << length;
  }
  EXPECT_THROW(parse_recording(std::as_bytes(std::span(whole).first(7)), nullptr, "cut"), Error);
  EXPECT_THROW(read_recording(folder.write("other.rec", "{\"id\": 1, \"more\": 2}")), Error);
}

TEST(Recording, TheFileIsBounded) {
  const TestFolder folder;
  const Exchange exchange(1000);
  {
    Recorder recorder({.path = folder.path("r.rec"), .max_bytes = 20'000, .max_queue = 100});
    for (int i = 0; i < 10; ++i) recorder.record(exchange.served());
    while (recorder.recorded() + recorder.dropped() < 10) std::this_thread::yield();
    EXPECT_EQ(recorder.recorded(), 2);
    EXPECT_EQ(recorder.dropped(), 8);
    EXPECT_EQ(recorder.fault(), "");
  }
  EXPECT_LE(file_bytes(folder.path("r.rec")), 20'000u);
  EXPECT_EQ(read_recording(folder.path("r.rec")).size(), 2u);
}

TEST(Recording, ASlowDiskDropsAndNeverBlocks) {
  const TestFolder folder;
  const std::string pipe = folder.path("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  const Exchange exchange(10'000);
  size_t read = 0;
  {
    Recorder recorder({.path = pipe, .max_queue = 4});
    constexpr int kRequests = 40;
    for (int i = 0; i < kRequests; ++i) recorder.record(exchange.served());  // a pipe holds one or so
    EXPECT_GE(recorder.dropped(), kRequests - 4 - 3);
    std::vector<char> buffer(1 << 20);
    while (recorder.recorded() + recorder.dropped() < kRequests)
      if (const ssize_t n = ::read(reader, buffer.data(), buffer.size()); n > 0) read += static_cast<size_t>(n);
    EXPECT_EQ(recorder.fault(), "");
    EXPECT_GE(recorder.recorded(), 1);
  }
  EXPECT_GT(read, 0u);
  ::close(reader);
}

TEST(Recording, AFullDiskEndsItAtAWholeRecord) {
  const TestFolder folder;
  const Exchange exchange(1000);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  {
    Recorder recorder({.path = folder.path("r.rec"), .max_queue = 100});
    const rlimit tight{20'000, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
    for (int i = 0; i < 10; ++i) recorder.record(exchange.served());
    while (recorder.recorded() + recorder.dropped() < 10) std::this_thread::yield();
    while (recorder.fault().empty()) std::this_thread::yield();
    EXPECT_EQ(recorder.recorded(), 2);
    EXPECT_NE(recorder.fault(), "");
  }
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(read_recording(folder.path("r.rec")).size(), 2u);
}

TEST(Recording, TakesAShare) {
  const TestFolder folder;
  const Exchange exchange;
  Recorder recorder({.path = folder.path("r.rec"), .share = 0.25, .max_queue = 10'000});
  for (int i = 0; i < 2000; ++i) recorder.record(exchange.served());
  const auto handled = [&] { return recorder.recorded() + recorder.dropped(); };
  while (handled() < 350) std::this_thread::yield();
  EXPECT_LE(handled(), 650);
}

TEST(Recording, RefusesWhatCannotBeWritten) {
  EXPECT_THROW(Recorder({.path = "/nowhere/at/all.rec"}), Error);
  EXPECT_THROW(Recorder({.path = "/dev/full"}), Error);
  EXPECT_THROW(Recorder({.path = "/dev/null", .share = 0}), Error);
}

TEST(Recording, Corpus) {
  replay_corpus("recording_fuzz", fuzz_recording);
  const std::string folder = SLIPWAY_SOURCE_DIR "/tests/corpus/recording_fuzz";
  EXPECT_EQ(read_recording(folder + "/three.rec").size(), 3u);
  EXPECT_EQ(read_recording(folder + "/cut.rec").size(), 1u);
  EXPECT_THROW(read_recording(folder + "/size_lies.rec"), Error);
  EXPECT_THROW(read_recording(folder + "/many.rec"), Error);
}

}  // namespace
}  // namespace slipway
