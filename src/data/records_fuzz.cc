// IDX, CIFAR-10 and CSV files, gzipped or not: any bytes parse or are refused.
#include "base/error.h"
#include "data/cifar10.h"
#include "data/csv.h"
#include "data/idx.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kMaxBytes = 1 << 22;
  slipway::FileBytes file{nullptr, std::as_bytes(std::span(data, size))};
  std::vector<std::byte> unpacked;
  try {
    unpacked = slipway::gunzip(file.bytes, "fuzz", kMaxBytes);
    file.bytes = unpacked;
  } catch (const slipway::Error&) {
  }
  const auto attempt = [](const auto& parse) {
    try {
      parse();
    } catch (const slipway::Error&) {
    }
  };
  attempt([&] { slipway::parse_idx(file, "fuzz"); });
  attempt([&] { slipway::parse_cifar10(file, "fuzz"); });
  attempt([&] {
    const std::string text(reinterpret_cast<const char*>(file.bytes.data()), file.bytes.size());
    const slipway::CsvRows rows = slipway::parse_csv(text, "fuzz");
    slipway::label_list(rows, "", static_cast<int64_t>(rows.size()) - 1, "fuzz");
    slipway::labelled_files(rows, "label", "fuzz");
  });
  return 0;
}
