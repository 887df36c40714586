// NumPy's array files (format: numpy.lib.format, versions 1.0 to 3.0): magic, version, header length, a Python dict
// literal with 'descr', 'fortran_order' and 'shape', then the elements. The reader takes only that literal's grammar;
// the shape is checked against the bytes at hand before anything is allocated.
#include "data/npy.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "base/file.h"

namespace slipway {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxNpyRank = 32;

struct NpyType {
  std::string_view code;
  DType dtype;
};
constexpr std::array kTypes = {
    NpyType{"b1", DType::kBool},      NpyType{"i1", DType::kInt8},       NpyType{"u1", DType::kUint8},
    NpyType{"i2", DType::kInt16},     NpyType{"u2", DType::kUint16},     NpyType{"i4", DType::kInt32},
    NpyType{"u4", DType::kUint32},    NpyType{"i8", DType::kInt64},      NpyType{"u8", DType::kUint64},
    NpyType{"f2", DType::kFloat16},   NpyType{"f4", DType::kFloat32},    NpyType{"f8", DType::kFloat64},
    NpyType{"c8", DType::kComplex64}, NpyType{"c16", DType::kComplex128}};

struct Header {
  DType dtype = DType::kUndefined;
  bool big_endian = false, fortran = false;
  Dims dims;
};

/// Reads the dict literal: string keys; values are a string, True, False, or a tuple of integers.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  Header parse() {
    Header header;
    int seen = 0;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = string();
      expect(':');
      if (key == "descr" && peek() == '\'') {
        descr(header, string()), seen |= 1;
      } else if (key == "descr") {
        fail(ErrorCode::kUnsupported, "Record arrays are not read; save a plain numeric array with numpy.save: {}",
             name_);
      } else if (key == "fortran_order") {
        header.fortran = boolean(), seen |= 2;
      } else if (key == "shape") {
        header.dims = tuple(), seen |= 4;
      } else {
        damaged();
      }
      accept(',');
    }
    if (seen != 7) damaged();
    return header;
  }

 private:
  [[noreturn]] void damaged() const {
    fail(ErrorCode::kInvalidArgument, "The header of the .npy data is damaged; save them again with numpy.save: {}",
         name_);
  }
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) damaged();
  }
  std::string_view string() {
    expect('\'');
    const size_t end = text_.find('\'', at_);
    if (end == std::string_view::npos) damaged();
    const auto value = text_.substr(at_, end - at_);
    at_ = end + 1;
    return value;
  }
  bool boolean() {
    const bool value = peek() == 'T';
    const std::string_view word = value ? "True" : "False";
    if (text_.substr(at_, word.size()) != word) damaged();
    at_ += word.size();
    return value;
  }
  Dims tuple() {
    Dims dims;
    expect('(');
    while (!accept(')')) {
      int64_t value = 0;
      size_t digits = 0;
      for (char c = peek(); c >= '0' && c <= '9'; c = at_ < text_.size() ? text_[at_] : '\0', ++digits) {
        if (digits == 18) damaged();
        value = value * 10 + (c - '0');
        ++at_;
      }
      if (digits == 0 || dims.size() == kMaxNpyRank) damaged();
      dims.push_back(value);
      if (!accept(',') && peek() != ')') damaged();
    }
    return dims;
  }
  void descr(Header& header, std::string_view text) const {
    if (text.size() < 3 || std::string_view("<>|=").find(text[0]) == std::string_view::npos) damaged();
    header.big_endian = text[0] == '>';
    for (const auto& [code, dtype] : kTypes)
      if (text.substr(1) == code) header.dtype = dtype;
    if (header.dtype == DType::kUndefined)
      fail(ErrorCode::kUnsupported, "The element type '{}' is not read; save the array as numbers, e.g. float32: {}",
           text, name_);
  }

  std::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
};

/// Column-major bytes into row-major order.
Tensor from_fortran(const Tensor& tensor) {
  Tensor out(tensor.dtype(), tensor.dims());
  const size_t width = bytes_of(tensor.dtype(), 1);
  std::byte* to = out.mutable_raw();
  std::array<int64_t, kMaxNpyRank> index{}, strides{1};
  const size_t rank = tensor.dims().size();
  for (size_t i = 1; i < rank; ++i) strides[i] = strides[i - 1] * tensor.dims()[i - 1];
  int64_t from = 0;
  for (int64_t n = 0; n < tensor.elements(); ++n) {
    std::memcpy(to + static_cast<size_t>(n) * width, tensor.raw() + static_cast<size_t>(from) * width, width);
    for (size_t axis = rank; axis-- > 0;) {
      from += strides[axis];
      if (++index[axis] < tensor.dims()[axis]) break;
      from -= strides[axis] * index[axis];
      index[axis] = 0;
    }
  }
  return out;
}

}  // namespace

Tensor parse_npy(const FileBytes& file, const std::string& name) {
  const std::string_view text(reinterpret_cast<const char*>(file.bytes.data()), file.bytes.size());
  if (text.size() < 10 || text.substr(0, kMagic.size()) != kMagic)
    fail(ErrorCode::kInvalidArgument, "This is not a .npy file; save the array with numpy.save: {}", name);
  const auto version = static_cast<unsigned char>(text[6]);
  const size_t length_bytes = version == 1 ? 2 : 4, prefix = 8 + length_bytes;
  if (version < 1 || version > 3)
    fail(ErrorCode::kUnsupported, "Version {} of .npy is not read; save the array with numpy.save: {}", version, name);
  size_t header_bytes = 0;
  for (size_t i = 0; i < length_bytes && 8 + i < text.size(); ++i)
    header_bytes |= static_cast<size_t>(static_cast<unsigned char>(text[8 + i])) << 8 * i;
  if (text.size() < prefix || text.size() - prefix < header_bytes)
    fail(ErrorCode::kInvalidArgument, "The .npy data end inside the header; save them again: {}", name);
  const Header header = HeaderParser(text.substr(prefix, header_bytes), name).parse();

  const auto data = file.bytes.subspan(prefix + header_bytes);
  const size_t expected = bytes_of(header.dtype, element_count(header.dims));
  if (data.size() != expected)
    fail(ErrorCode::kInvalidArgument,
         "The .npy data hold {} bytes where the shape {} of {} takes {}; save them again: {}", data.size(),
         to_string(header.dims), to_string(header.dtype), expected, name);
  const size_t width = std::min<size_t>(bytes_of(header.dtype, 1), 8);
  Tensor tensor;
  if (!header.big_endian && reinterpret_cast<uintptr_t>(data.data()) % width == 0) {
    tensor = Tensor::view(header.dtype, header.dims, data.data(), file.owner);
  } else {
    tensor = Tensor(header.dtype, header.dims);
    if (expected > 0) std::memcpy(tensor.mutable_raw(), data.data(), expected);
    const bool is_complex = header.dtype == DType::kComplex64 || header.dtype == DType::kComplex128;
    if (header.big_endian)
      swap_byte_order({tensor.mutable_raw(), expected}, is_complex ? bytes_of(header.dtype, 1) / 2 : width);
  }
  return header.fortran ? from_fortran(tensor) : tensor;
}

Tensor read_npy(const std::string& path) { return parse_npy(open_bytes(path), path); }

std::vector<std::pair<std::string, Tensor>> parse_npz(std::span<const std::byte> archive, const std::string& name) {
  std::vector<std::pair<std::string, Tensor>> arrays;
  const std::vector<std::string> members = zip_members(archive, name);
  for (size_t i = 0; i < members.size(); ++i) {
    if (!members[i].ends_with(".npy")) continue;
    auto bytes = std::make_shared<std::vector<std::byte>>(zip_read(archive, i, name));
    const std::string array = members[i].substr(0, members[i].size() - 4);
    arrays.emplace_back(array, parse_npy({bytes, *bytes}, name + ":" + array));
  }
  return arrays;
}

Tensor read_npz(const std::string& path, const std::string& array) {
  const MappedFile file(path);
  std::string names;
  const std::vector<std::string> members = zip_members(file.bytes(), path);
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i] == array + ".npy") {
      auto bytes = std::make_shared<std::vector<std::byte>>(zip_read(file.bytes(), i, path));
      return parse_npy({bytes, *bytes}, path + ":" + array);
    }
    if (members[i].ends_with(".npy"))
      names += (names.empty() ? "" : ", ") + members[i].substr(0, members[i].size() - 4);
  }
  fail(ErrorCode::kNotFound, "The archive holds no such array: '{}' in {}; it has: {}", array, path, names);
}

std::string npy_bytes(const Tensor& tensor) {
  const auto known = [](DType dtype) {
    return std::find_if(kTypes.begin(), kTypes.end(), [&](const NpyType& t) { return t.dtype == dtype; });
  };
  if (is_integer(tensor.dtype()) && bits_of(tensor.dtype()) < 8)
    return npy_bytes(cast(tensor, to_string(tensor.dtype()).starts_with('u') ? DType::kUint8 : DType::kInt8));
  if (known(tensor.dtype()) == kTypes.end() && (is_float(tensor.dtype()) || is_small_float(tensor.dtype())))
    return npy_bytes(cast(tensor, DType::kFloat32));
  const auto type = known(tensor.dtype());
  if (type == kTypes.end()) fail(ErrorCode::kUnsupported, "Tensors of {} have no .npy form", to_string(tensor.dtype()));
  std::string shape;
  for (int64_t d : tensor.dims()) shape += std::to_string(d) + ",";
  std::string header = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}), }}",
                                   bytes_of(type->dtype, 1) == 1 ? '|' : '<', type->code, shape);
  header.append(63 - (kMagic.size() + 4 + header.size()) % 64, ' ');
  header += '\n';
  std::string out(kMagic);
  out += std::string("\x01\x00", 2);
  out += static_cast<char>(header.size() & 255);
  out += static_cast<char>(header.size() >> 8);
  out += header;
  out.append(reinterpret_cast<const char*>(tensor.raw()), tensor.bytes());
  return out;
}

void write_npy(const std::string& path, const Tensor& tensor) { write_file(path, npy_bytes(tensor)); }

}  // namespace slipway
