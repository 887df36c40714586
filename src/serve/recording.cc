// A recording: the magic, then records. A record is a header (mark u32, the payload's length u32, its digest u64) and
// the payload: arrival, version and total time (i64), model, id, sticky key and error as strings (u32 length, bytes),
// then the inputs and the outputs, each a count (u32) and per tensor name, element type (u8), rank (u8), dims (i64
// each), bytes (u64 length, bytes). Little-endian as the machines it runs on. Where no record stands whose digest is
// right, reading goes on at the next one: damage costs the records that it hits.
//
// The computing threads copy a request into one string and queue it; one thread digests and writes. The queue is
// bounded in requests and bytes, the file in bytes; what finds no room is dropped and counted. A write that fails takes
// the file back to its last whole record and ends the recording. A start goes on behind the last whole record.
#include "serve/recording.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "base/block_digest.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/file_reader.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/random.h"

namespace slipway {
namespace {

constexpr std::string_view kMagic = "SLIPREC2";
constexpr uint32_t kMark = 0xa3b1c5e7;
constexpr uint64_t kTrials = 8;
constexpr int64_t kRestartGapUs = 1'000'000;
constexpr uint64_t kMaxQueueBytes = uint64_t{64} << 20;
constexpr uint32_t kMaxRecordBytes = uint32_t{1} << 30;
constexpr size_t kMaxRank = 32;

struct Header {
  uint32_t mark = 0, payload_bytes = 0;
  uint64_t digest = 0;
};
static_assert(sizeof(Header) == 16);

uint64_t digest_of(const void* data, size_t bytes) {
  const std::string hex = BlockDigest().add(data, bytes).hex();
  return fnv1a(hex.data(), hex.size());
}

/// Whether reading it back finds a tensor.
bool is_sound(const WireTensor& t) {
  if (t.dims.size() > kMaxRank || datatype_name(t.dtype).empty()) return false;
  uint64_t elements = 1;
  for (const int64_t dim : t.dims)
    if (dim < 0) return false;
  for (const int64_t dim : t.dims)
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(dim), &elements) || elements > kMaxRecordBytes)
      return false;
  return t.dtype == DType::kString || bytes_of(t.dtype, static_cast<int64_t>(elements)) == t.bytes.size();
}

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_string(std::string& out, std::string_view text) {
  put(out, static_cast<uint32_t>(text.size()));
  out += text;
}
void put_tensors(std::string& out, const std::vector<WireTensor>& tensors) {
  if (!std::all_of(tensors.begin(), tensors.end(), is_sound)) return put(out, uint32_t{0});
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

/// The record, its header not yet filled in.
std::string encode(const Served& served, int64_t arrival_us, uint64_t bound) {
  std::string out;
  out.reserve(bound);
  put(out, Header());
  put(out, arrival_us);
  put(out, served.version.version());
  put(out, served.response.total_ns / 1000);
  put_string(out, served.version.model());
  put_string(out, served.request.id);
  put_string(out, served.request.sticky);
  put_string(out, served.response.error ? to_string(*served.response.error) : "");
  put_tensors(out, served.request.inputs);
  put_tensors(out, served.response.outputs);
  return out;
}

void fill_header(std::string& record) {
  const size_t payload = record.size() - sizeof(Header);
  const Header header{.mark = kMark,
                      .payload_bytes = static_cast<uint32_t>(payload),
                      .digest = digest_of(record.data() + sizeof(Header), payload)};
  std::memcpy(record.data(), &header, sizeof header);
}

/// Reads from a payload; every length is checked against what is left of it.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> take(uint64_t count) {
    if (count > bytes_.size()) damaged();
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
      for (int i = 0; i < rank; ++i) t.dims.push_back(get<int64_t>());
      t.bytes = take(get<uint64_t>());
      if (!is_sound(t)) damaged();
    }
    return tensors;
  }
  [[noreturn]] static void damaged() { fail(ErrorCode::kInvalidArgument, "A record of the recording is damaged."); }
  bool empty() const { return bytes_.empty(); }

 private:
  std::span<const std::byte> bytes_;
};

RecordedRequest read_record(std::span<const std::byte> payload) {
  Reader reader(payload);
  RecordedRequest r;
  r.arrival_us = reader.get<int64_t>();
  r.version = reader.get<int64_t>();
  r.total_us = reader.get<int64_t>();
  r.model = reader.get_string();
  r.id = reader.get_string();
  r.sticky = reader.get_string();
  r.error = reader.get_string();
  r.inputs = reader.get_tensors();
  r.outputs = reader.get_tensors();
  if (!reader.empty() || r.arrival_us < 0) Reader::damaged();
  return r;
}

/// Where a recording is gone on with.
struct Continuation {
  uint64_t bytes = 0;      ///< that stay; 0: an empty file
  int64_t arrival_us = 0;  ///< of the first request from now on
};

/// From header to header. Behind a damaged one nothing is taken away: reading finds the records there.
Continuation find_end(const std::string& path) {
  const FileReader file(path);
  if (file.size() == 0) return {};
  std::string magic(std::min<uint64_t>(file.size(), kMagic.size()), '\0');
  file.read(0, magic.data(), magic.size());
  if (magic != kMagic)
    fail(ErrorCode::kInvalidArgument,
         "The file holds something else than a recording; name another one, or remove it: {}", path);
  Continuation end{.bytes = kMagic.size()};
  struct Start {
    Header header;
    int64_t arrival_us;
  } start;
  while (file.size() - end.bytes >= sizeof start) {
    file.read(end.bytes, &start, sizeof start);
    const uint64_t next = end.bytes + sizeof(Header) + start.header.payload_bytes;
    if (start.header.mark != kMark || next < end.bytes + sizeof start) return {file.size(), end.arrival_us};
    if (next > file.size()) break;  // cut short
    end.bytes = next;
    if (start.arrival_us >= 0 && start.arrival_us < INT64_MAX / 2)
      end.arrival_us = std::max(end.arrival_us, start.arrival_us + kRestartGapUs);
  }
  return end;
}

}  // namespace

std::string frame_record(std::string_view payload) {
  std::string record(sizeof(Header), '\0');
  record += payload;
  fill_header(record);
  return record;
}

struct Recorder::Impl {
  RecordingOptions options;
  int fd = -1;
  int64_t start_ns = now_ns(), start_us = 0;  ///< start_us: arrival then
  uint64_t file_bytes = 0;                    ///< the writer's alone
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
    fd = ::open(options.path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);  // no pipe is waited for
    if (fd < 0)
      fail(ErrorCode::kIo, "The recording can't be written; name a file in a folder of yours: {}: {}", options.path,
           std::strerror(errno));
    try {
      ::fcntl(fd, F_SETFL, 0);
      struct stat info {};
      if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) go_on();
      if (file_bytes == 0)
        if (const std::string why = write_whole(kMagic); !why.empty())
          fail(ErrorCode::kIo, "The recording can't be written; make room on the disk: {}: {}", options.path, why);
    } catch (...) {
      ::close(fd);
      throw;
    }
    writer = std::thread([this] { write_loop(); });
  }

  void go_on() {
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0)
      fail(ErrorCode::kIo, "Another server records there; name another file: {}", options.path);
    const Continuation end = find_end(options.path);
    if (::ftruncate(fd, static_cast<off_t>(end.bytes)) != 0 || ::lseek(fd, static_cast<off_t>(end.bytes), SEEK_SET) < 0)
      fail(ErrorCode::kIo, "The recording can't be gone on with; name another file: {}: {}", options.path,
           std::strerror(errno));
    file_bytes = end.bytes;
    start_us = end.arrival_us;
    if (file_bytes >= options.max_bytes)
      log_warning("The recording is full, nothing is added; name another file, or allow more: {}", options.path);
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
      fill_header(record);
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
    const int64_t arrival_us = start_us + std::max<int64_t>(0, (served.request.arrival_ns - start_ns) / 1000);
    std::string bytes = encode(served, arrival_us, bound);
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

Recording parse_recording(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                          const std::string& name) {
  if (bytes.size() < kMagic.size() || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    fail(ErrorCode::kInvalidArgument, "This is no recording; make one with `slipway serve --record FILE`: {}", name);
  Recording recording;
  uint64_t& skipped = recording.skipped_bytes;
  uint64_t trials = kTrials * bytes.size();  // bytes that may be digested in vain
  for (size_t at = kMagic.size(); at < bytes.size();) {
    Header header{};
    const size_t left = bytes.size() - at;
    if (left >= sizeof header) std::memcpy(&header, bytes.data() + at, sizeof header);
    if (header.mark == kMark && header.payload_bytes <= left - sizeof header && header.payload_bytes <= trials) {
      const auto payload = bytes.subspan(at + sizeof header, header.payload_bytes);
      if (digest_of(payload.data(), payload.size()) == header.digest) {
        try {
          recording.records.push_back(read_record(payload));
          recording.records.back().owner = owner;
        } catch (const Error&) {
          skipped += sizeof header + payload.size();
        }
        at += sizeof header + payload.size();
        continue;
      }
      trials -= header.payload_bytes;
    }
    const std::byte* from = bytes.data() + at + 1;
    const void* next = ::memmem(from, left - 1, &kMark, sizeof kMark);
    const size_t to =
        next == nullptr ? bytes.size() : static_cast<size_t>(static_cast<const std::byte*>(next) - bytes.data());
    skipped += to - at;
    at = to;
  }
  return recording;
}

std::vector<RecordedRequest> read_recording(const std::string& path) {
  // Not mapped: a server may still be writing it.
  const auto bytes = std::make_shared<const std::vector<std::byte>>(read_file(path));
  Recording recording = parse_recording(*bytes, bytes, path);
  if (recording.skipped_bytes > 0)
    log_warning("Part of the recording is damaged or cut short and was left out: {} of {} bytes of {}",
                recording.skipped_bytes, bytes->size(), path);
  return std::move(recording.records);
}

}  // namespace slipway
