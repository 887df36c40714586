#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "serve/server.h"

namespace slipway {

/// One recorded request with what was answered.
struct RecordedRequest {
  std::string model, id, sticky;
  int64_t version = 0, arrival_us = 0;  ///< arrival since the recording began
  std::string error;                    ///< ErrorCode's name; empty when it went well
  int64_t total_us = 0;
  std::vector<WireTensor> inputs, outputs;
  std::shared_ptr<const void> owner;
};

struct RecordingOptions {
  std::string path;
  uint64_t max_bytes = uint64_t{256} << 20;  ///< of the file
  double share = 1;                          ///< of the requests, chosen at random
  size_t max_queue = 256;                    ///< waiting for the disk; beyond, they are dropped and counted
};

/// Writes a bounded sample of live requests, never blocking those who answer them: a full queue or a slow disk drops.
class Recorder {
 public:
  /// Fails with kIo when the file can't be made.
  explicit Recorder(RecordingOptions options);
  ~Recorder();
  void record(const Served& served) noexcept;
  int64_t recorded() const;
  int64_t dropped() const;
  std::string fault() const;  ///< why it stopped (disk full, …); empty while it works

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Whole records only: one cut short by a crash ends the file. Fails with kInvalidArgument for a file that is no
/// recording.
std::vector<RecordedRequest> read_recording(const std::string& path);
/// The same of bytes that `owner` keeps alive; the tensors point into them.
std::vector<RecordedRequest> parse_recording(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                             const std::string& name);

}  // namespace slipway
