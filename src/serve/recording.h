#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serve/server.h"

namespace slipway {

/// One recorded request with what was answered.
struct RecordedRequest {
  std::string model, id, sticky;
  int64_t version = 0, arrival_us = 0;  ///< arrival since the recording began; a restart goes on a second later
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
/// A recording that is there already is gone on with. Inputs or outputs that are no tensors are left out of a record.
class Recorder {
 public:
  /// Fails with kIo when the file can't be written or another server records there, kInvalidArgument when it holds
  /// something else.
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

/// Whole records only; what is damaged or cut short is left out, with a warning. Fails with kInvalidArgument for a file
/// that is no recording.
std::vector<RecordedRequest> read_recording(const std::string& path);
/// The same of bytes that `owner` keeps alive; the tensors point into them.
struct Recording {
  std::vector<RecordedRequest> records;
  uint64_t skipped_bytes = 0;
};
Recording parse_recording(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const std::string& name);
/// A record of that payload as it stands in a file: with its header in front.
std::string frame_record(std::string_view payload);

}  // namespace slipway
