// A recording: the magic, then records. A record is its payload's length (u32, never 0) and the payload: model, id,
// sticky key and error as strings (u32 length, bytes), version, arrival and total time (i64), then the inputs and the
// outputs, each a count (u32) and per tensor name, element type (u8), rank (u8), dims (i64 each), bytes (u64 length,
// bytes). Little-endian as the machines it runs on.
//
// The computing threads copy a request into one string and queue it; one thread writes. The queue is bounded in
// requests and bytes, the file in bytes; what finds no room is dropped and counted. A write that fails takes the file
// back to its last whole record and ends the recording.
#include "serve/recording.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/random.h"

namespace slipway {
namespace {

constexpr std::string_view kMagic = "SLIPREC1";
constexpr uint64_t kMaxQueueBytes = uint64_t{64} << 20;
constexpr uint32_t kMaxRecordBytes = uint32_t{1} << 30;
constexpr size_t kMaxRank = 32;

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_string(std::string& out, std::string_view text) {
  put(out, static_cast<uint32_t>(text.size()));
  out += text;
}
void put_tensors(std::string& out, const std::vector<WireTensor>& tensors) {
  put(out, static_cast<uint32_t>(tensors.size()));
  for (const WireTensor& t : tensors) {
    put_string(out, t.name);
    put(out, static_cast<uint8_t>(t.dtype));
    put(out, static_cast<uint8_t>(t.dims.size()));
    for (const int64_t dim : t.dims) put(out, dim);
    put(out, static_cast<uint64_t>(t.bytes.size()));
    out.append(reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size());
  }
}

uint64_t payload_bound(const Served& served) {
  uint64_t bytes = 256 + served.version.model().size() + served.request.id.size() + served.request.sticky.size();
  for (const auto* tensors : {&served.request.inputs, &served.response.outputs})
    for (const WireTensor& t : *tensors) bytes += 32 + t.name.size() + 8 * t.dims.size() + t.bytes.size();
  return bytes;
}

/// The record as written, its length in front.
std::string encode(const Served& served, int64_t arrival_us, uint64_t bound) {
  std::string out;
  out.reserve(bound);
  put(out, uint32_t{0});
  put_string(out, served.version.model());
  put_string(out, served.request.id);
  put_string(out, served.request.sticky);
  put_string(out, served.response.error ? to_string(*served.response.error) : "");
  put(out, served.version.version());
  put(out, arrival_us);
  put(out, served.response.total_ns / 1000);
  put_tensors(out, served.request.inputs);
  put_tensors(out, served.response.outputs);
  const auto payload = static_cast<uint32_t>(out.size() - sizeof(uint32_t));
  std::memcpy(out.data(), &payload, sizeof payload);
  return out;
}

/// Reads from a payload; every length is checked against what is left of it.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, uint64_t offset) : bytes_(bytes), offset_(offset) {}

  std::span<const std::byte> take(uint64_t count) {
    if (count > bytes_.size())
      fail(
          ErrorCode::kInvalidArgument,
          "A record of the recording is damaged; delete the file and record again: {} bytes are wanted and {} are left "
          "in the record at byte {}",
          count, bytes_.size(), offset_);
    const auto taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }
  template <typename T>
  T get() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string get_string() {
    const auto bytes = take(get<uint32_t>());
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::vector<WireTensor> get_tensors() {
    const auto count = get<uint32_t>();
    constexpr size_t smallest = 14;
    if (count > bytes_.size() / smallest) take(uint64_t{count} * smallest);
    std::vector<WireTensor> tensors(count);
    for (WireTensor& t : tensors) {
      t.name = get_string();
      t.dtype = static_cast<DType>(get<uint8_t>());
      const auto rank = get<uint8_t>();
      if (rank > kMaxRank || datatype_name(t.dtype).empty())
        fail(
            ErrorCode::kInvalidArgument,
            "A tensor of the recording is damaged; delete the file and record again: rank {}, type {} in the record at "
            "byte {}",
            rank, static_cast<int>(t.dtype), offset_);
      for (int i = 0; i < rank; ++i) t.dims.push_back(get<int64_t>());
      t.bytes = take(get<uint64_t>());
      require_size(t);
    }
    return tensors;
  }
  bool empty() const { return bytes_.empty(); }

 private:
  void require_size(const WireTensor& t) const {
    uint64_t elements = 1;
    bool fits = true;
    for (const int64_t dim : t.dims) fits = fits && dim >= 0;
    for (const int64_t dim : t.dims)
      fits = fits && !__builtin_mul_overflow(elements, static_cast<uint64_t>(dim), &elements) &&
             elements <= kMaxRecordBytes;
    if (!fits || (t.dtype != DType::kString && bytes_of(t.dtype, static_cast<int64_t>(elements)) != t.bytes.size()))
      fail(
          ErrorCode::kInvalidArgument,
          "A tensor of the recording is damaged; delete the file and record again: its {} bytes are not what its shape "
          "takes, in the record at byte {}",
          t.bytes.size(), offset_);
  }

  std::span<const std::byte> bytes_;
  uint64_t offset_;
};

}  // namespace

struct Recorder::Impl {
  RecordingOptions options;
  int fd = -1;
  int64_t start_ns = now_ns();
  uint64_t file_bytes = 0;  ///< the writer's alone
  std::atomic<uint64_t> random_state{0};
  std::atomic<int64_t> recorded{0}, dropped{0};
  std::atomic<bool> stopped{false};

  mutable std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::string> queue;
  uint64_t queue_bytes = 0;
  std::string fault;
  bool closing = false;
  std::thread writer;

  explicit Impl(RecordingOptions o) : options(std::move(o)) {
    if (!(options.share > 0 && options.share <= 1) || options.max_bytes < kMagic.size() || options.max_queue == 0)
      fail(
          ErrorCode::kInvalidArgument,
          "A recording takes a share above 0 and at most 1, and room for a file and a queue: {}, {} bytes, {} requests",
          options.share, options.max_bytes, options.max_queue);
    fd = ::open(options.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
      fail(ErrorCode::kIo, "The recording can't be written; name a file in a folder of yours: {}: {}", options.path,
           std::strerror(errno));
    if (const std::string why = write_whole(kMagic); !why.empty()) {
      ::close(fd);
      fail(ErrorCode::kIo, "The recording can't be written; make room on the disk: {}: {}", options.path, why);
    }
    writer = std::thread([this] { write_loop(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      closing = true;
    }
    wake.notify_one();
    writer.join();
    ::close(fd);
  }

  /// Empty when all of it was written; else why not, and the file ends where it did before.
  std::string write_whole(std::string_view bytes) {
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        const std::string why = std::strerror(n < 0 ? errno : ENOSPC);
        if (::ftruncate(fd, static_cast<off_t>(file_bytes)) != 0 ||
            ::lseek(fd, static_cast<off_t>(file_bytes), SEEK_SET) < 0)
          return why + "; its last record is cut short";
        return why;
      }
      done += static_cast<size_t>(n);
    }
    file_bytes += bytes.size();
    return {};
  }

  void write_loop() {
    while (true) {
      std::string record;
      {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return closing || !queue.empty(); });
        if (queue.empty()) return;
        record = std::move(queue.front());
        queue.pop_front();
        queue_bytes -= record.size();
      }
      if (stopped || file_bytes + record.size() > options.max_bytes) {
        ++dropped;
        continue;
      }
      const std::string why = write_whole(record);
      if (why.empty()) {
        ++recorded;
        continue;
      }
      ++dropped;
      stopped = true;
      log_warning("Recording of requests stopped: {}: {}", options.path, why);
      const std::lock_guard lock(mutex);
      fault = why;
    }
  }

  bool chosen() {
    if (options.share >= 1) return true;
    return Random(random_state.fetch_add(0x9e3779b97f4a7c15ull, std::memory_order_relaxed)).uniform() < options.share;
  }

  void record(const Served& served) {
    if (!chosen()) return;
    const uint64_t bound = payload_bound(served);
    const auto full = [&] { return queue.size() >= options.max_queue || queue_bytes + bound > kMaxQueueBytes; };
    if (stopped || bound > kMaxRecordBytes) {
      ++dropped;
      return;
    }
    {
      const std::lock_guard lock(mutex);
      if (full()) {
        ++dropped;
        return;
      }
    }
    std::string bytes = encode(served, std::max<int64_t>(0, (served.request.arrival_ns - start_ns) / 1000), bound);
    {
      const std::lock_guard lock(mutex);
      if (full()) {
        ++dropped;
        return;
      }
      queue_bytes += bytes.size();
      queue.push_back(std::move(bytes));
    }
    wake.notify_one();
  }
};

Recorder::Recorder(RecordingOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Recorder::~Recorder() = default;

void Recorder::record(const Served& served) noexcept {
  try {
    impl_->record(served);
  } catch (...) {  // no memory for a copy
    ++impl_->dropped;
  }
}

int64_t Recorder::recorded() const { return impl_->recorded; }
int64_t Recorder::dropped() const { return impl_->dropped; }
std::string Recorder::fault() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->fault;
}

std::vector<RecordedRequest> parse_recording(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                             const std::string& name) {
  if (bytes.size() < kMagic.size() || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    fail(ErrorCode::kInvalidArgument, "This is no recording; make one with `slipway serve --record FILE`: {}", name);
  std::vector<RecordedRequest> records;
  for (size_t at = kMagic.size(); bytes.size() - at > sizeof(uint32_t);) {
    uint32_t payload = 0;
    std::memcpy(&payload, bytes.data() + at, sizeof payload);
    if (payload == 0 || payload > bytes.size() - at - sizeof payload) break;
    Reader reader(bytes.subspan(at + sizeof payload, payload), at);
    RecordedRequest& r = records.emplace_back();
    r.model = reader.get_string();
    r.id = reader.get_string();
    r.sticky = reader.get_string();
    r.error = reader.get_string();
    r.version = reader.get<int64_t>();
    r.arrival_us = reader.get<int64_t>();
    r.total_us = reader.get<int64_t>();
    r.inputs = reader.get_tensors();
    r.outputs = reader.get_tensors();
    r.owner = owner;
    at += sizeof payload + payload;
    if (!reader.empty() || r.arrival_us < 0)
      fail(ErrorCode::kInvalidArgument,
           "A record of the recording is damaged; delete the file and record again: it ends at byte {} of {}", at,
           name);
  }
  return records;
}

std::vector<RecordedRequest> read_recording(const std::string& path) {
  // Not mapped: a server may still be writing it.
  const auto bytes = std::make_shared<const std::vector<std::byte>>(read_file(path));
  return parse_recording(*bytes, bytes, path);
}

}  // namespace slipway
