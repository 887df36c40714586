#include "serve/recording.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <functional>
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
    const Recording cut = parse_recording(std::as_bytes(std::span(whole).first(length)), nullptr, "cut");
    EXPECT_EQ(cut.records.size(), (length - 8) / record) << length;
    EXPECT_EQ(cut.skipped_bytes, (length - 8) % record) << length;
  }
  EXPECT_THROW(parse_recording(std::as_bytes(std::span(whole).first(7)), nullptr, "cut"), Error);
  EXPECT_THROW(read_recording(folder.write("other.rec", "{\"id\": 1, \"more\": 2}")), Error);
}

TEST(Recording, WhateverWasRefusedLeavesTheFileReadable) {
  const TestFolder folder;
  std::vector<std::function<void(WireTensor&)>> spoilers = {
      [](WireTensor& t) { t.dims = Dims(33, 1); },
      [](WireTensor& t) { t.dims = Dims(300, 1); },
      [](WireTensor& t) {
        t.dims = {-1, 4};
      },
      [](WireTensor& t) {
        t.dims = {INT64_MIN, INT64_MIN};
      },
      [](WireTensor& t) {
        t.dims = {INT64_MAX, INT64_MAX};
      },
      [](WireTensor& t) {
        t.dims = {1, 5};
      },
      [](WireTensor& t) { t.bytes = t.bytes.first(3); },
      [](WireTensor& t) { t.dtype = DType::kUndefined; },
      [](WireTensor& t) { t.dtype = static_cast<DType>(200); },
  };
  {
    Recorder recorder({.path = folder.path("r.rec")});
    for (const auto& spoil : spoilers) {
      Exchange exchange;
      recorder.record(exchange.served());
      spoil(exchange.request.inputs[0]);
      exchange.response.error = ErrorCode::kInvalidArgument;
      exchange.response.outputs.clear();
      recorder.record(exchange.served());
    }
    Exchange names;
    names.request.id = std::string("\0\xff\n", 3);
    names.request.inputs[0].name = std::string(1000, '\xfe');
    recorder.record(names.served());
  }
  const auto records = read_recording(folder.path("r.rec"));
  ASSERT_EQ(records.size(), 2 * spoilers.size() + 1);
  for (size_t i = 0; i < 2 * spoilers.size(); ++i) {
    EXPECT_EQ(records[i].inputs.size(), i % 2 == 0 ? 1u : 0u) << i;
    EXPECT_EQ(records[i].error, i % 2 == 0 ? "" : "invalid_argument") << i;
  }
  EXPECT_EQ(records.back().id, std::string("\0\xff\n", 3));
}

/// The ids of what can be read.
std::string ids_in(std::string_view bytes) {
  std::string ids;
  for (const RecordedRequest& r : parse_recording(std::as_bytes(std::span(bytes)), nullptr, "damaged").records)
    ids += r.id;
  return ids;
}

std::string recording_of(const std::string& ids, const std::string& path) {
  {
    Recorder recorder({.path = path});
    Exchange exchange;
    for (const char id : ids) {
      exchange.request.id = std::string(1, id);
      recorder.record(exchange.served());
    }
  }
  return read_text_file(path);
}

TEST(Recording, ADamagedRecordCostsItself) {
  const TestFolder folder;
  const std::string whole = recording_of("abcd", folder.path("r.rec"));
  ASSERT_EQ(ids_in(whole), "abcd");
  const size_t record = (whole.size() - 8) / 4;
  for (size_t at = 8; at < whole.size(); ++at) {
    std::string damaged = whole, rest = "abcd";
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    rest.erase((at - 8) / record, 1);
    ASSERT_EQ(ids_in(damaged), rest) << at;
  }
  std::string cut = whole;
  cut.erase(8 + record + record / 2, record / 2);
  EXPECT_EQ(ids_in(cut), "acd");
  cut.insert(8 + record, "some bytes that were never there");
  EXPECT_EQ(ids_in(cut), "acd");
}

TEST(Recording, ARestartGoesOnBehindTheLastWholeRecord) {
  const TestFolder folder;
  const std::string path = folder.path("r.rec"), whole = recording_of("ab", path);
  const size_t record = (whole.size() - 8) / 2;
  for (size_t length = 0; length <= whole.size(); length += length < 8 ? 8 : record / 3) {
    write_file(path, std::string_view(whole).substr(0, length));
    const std::string before =
        ids_in(length == 0 ? std::string_view("SLIPREC2") : std::string_view(whole).substr(0, length));
    EXPECT_EQ(ids_in(recording_of("cd", path)), before + "cd") << length;
  }
  write_file(path, std::string_view(whole));
  recording_of("cd", path);
  EXPECT_EQ(file_bytes(path), whole.size() + 2 * record);
  const auto records = read_recording(path);
  EXPECT_GE(records[2].arrival_us, records[1].arrival_us + 1'000'000);
  std::string damaged = whole;
  damaged[8] ^= 1;
  write_file(path, std::string_view(damaged));
  EXPECT_EQ(ids_in(recording_of("c", path)), "bc");
}

TEST(Recording, WhatIsNoRecordingOrAnothersIsLeftAlone) {
  const TestFolder folder;
  for (const char* text : {"a diary", "SLIPREC1 of old"}) {
    const std::string path = folder.write("other", text);
    EXPECT_NE(error_of([&] { Recorder({.path = path}); }).find("something else"), std::string::npos);
    EXPECT_EQ(read_text_file(path), text);
  }
  Recorder first({.path = folder.path("r.rec")});
  EXPECT_NE(error_of([&] { Recorder({.path = folder.path("r.rec")}); }).find("Another server"), std::string::npos);
  ASSERT_EQ(::mkfifo(folder.path("pipe").c_str(), 0600), 0);
  EXPECT_THROW(Recorder({.path = folder.path("pipe")}), Error);
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
  EXPECT_EQ(read_recording(folder + "/damaged.rec").size(), 2u);
  EXPECT_EQ(read_recording(folder + "/size_lies.rec").size(), 0u);
  EXPECT_EQ(read_recording(folder + "/many.rec").size(), 0u);
}

}  // namespace
}  // namespace slipway
