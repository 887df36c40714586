// A data set: splits over sample sources, labels resolved to the model's classes, samples made into inputs.
// Splits over one source are drawn without overlap: the calibration split takes `count` samples by a seeded partial
// shuffle (Fisher–Yates), the test split all others or `count` of them. Splits over different sources are compared by
// file and row, and an overlap is a warning. Indices are kept ascending, so that files are read in their order.
// The training split comes last and changes nothing about the others, whose digest reports refer to: not their draws,
// not the names of the classes. It takes what the test split left of the source.
#include "data/dataset.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <iterator>
#include <mutex>
#include <numeric>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "base/random.h"
#include "data/bad_samples.h"
#include "data/data_file.h"

namespace slipway {
namespace {

constexpr int64_t kMaxLabel = int64_t{1} << 31;
constexpr double kMostBadShare = 0.05;

struct SplitData {
  std::shared_ptr<const SampleSource> source;
  std::vector<int64_t> indices;
  std::vector<int64_t> labels;  ///< by position in the split; empty without labels
};

/// `count` of the candidates, chosen by the seed; they are taken out of `candidates`. Both stay ascending.
std::vector<int64_t> draw(std::vector<int64_t>& candidates, int64_t count, uint64_t seed) {
  if (count < 0 || count >= static_cast<int64_t>(candidates.size())) return std::exchange(candidates, {});
  Random random(seed);
  const auto take = static_cast<size_t>(count);
  for (size_t i = 0; i < take; ++i) std::swap(candidates[i], candidates[i + random.below(candidates.size() - i)]);
  std::vector<int64_t> drawn(candidates.begin(), candidates.begin() + count);
  candidates.erase(candidates.begin(), candidates.begin() + count);
  std::sort(drawn.begin(), drawn.end());
  std::sort(candidates.begin(), candidates.end());
  return drawn;
}

std::vector<int64_t> all_indices(const SampleSource& source) {
  std::vector<int64_t> indices(static_cast<size_t>(source.size()));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  return indices;
}

void require_count(const SplitDescription& split, Split which, size_t available, const std::string& path) {
  if (split.count > static_cast<int64_t>(available))
    fail(ErrorCode::kInvalidArgument,
         "The {} split asks for more samples than there are; lower `count`: {} of {} in {}", to_string(which),
         split.count, available, path);
}

bool parse_int(const std::string& text, int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

/// Turns the data's labels into the model's. Names without classes or a map are numbered in sorted order, as
/// torchvision's ImageFolder does, and become the class names.
class LabelResolver {
 public:
  LabelResolver(const DataFile& data, std::string path) : data_(data), path_(std::move(path)), classes_(data.classes) {
    for (size_t i = 0; i < classes_.size(); ++i) by_name_.emplace(classes_[i], static_cast<int64_t>(i));
  }

  void name_classes_after(const std::vector<const SampleSource*>& sources) {
    if (!classes_.empty() || !data_.label_map.empty()) return;
    std::vector<std::string> names;
    for (const SampleSource* source : sources) names.insert(names.end(), source->labels.begin(), source->labels.end());
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    int64_t number = 0;
    if (names.empty() || std::all_of(names.begin(), names.end(), [&](auto& n) { return parse_int(n, number); })) return;
    classes_ = std::move(names);
    for (size_t i = 0; i < classes_.size(); ++i) by_name_.emplace(classes_[i], static_cast<int64_t>(i));
  }

  int64_t resolve(const SampleSource& source, int64_t index) const {
    const std::string& text = source.labels[static_cast<size_t>(index)];
    int64_t label = 0;
    if (const auto mapped = data_.label_map.find(text); mapped != data_.label_map.end())
      label = mapped->second;
    else if (!data_.label_map.empty())
      fail(ErrorCode::kInvalidArgument, "A label is not in `label_map`; add it: '{}' of {} ({})", text,
           source.name(index), path_);
    else if (const auto named = by_name_.find(text); named != by_name_.end())
      label = named->second;
    else if (parse_int(text, label))
      label += data_.label_offset;
    else
      fail(ErrorCode::kInvalidArgument,
           "A label is not among `classes`; add it there or use `label_map`: '{}' of {} ({})", text, source.name(index),
           path_);
    const int64_t limit = classes_.empty() ? kMaxLabel : static_cast<int64_t>(classes_.size());
    if (label < 0 || label >= limit)
      fail(ErrorCode::kInvalidArgument,
           "A label lies outside the {} classes; correct it or `label_offset`: {} of {} ({})", limit, label,
           source.name(index), path_);
    return label;
  }

  const std::vector<std::string>& classes() const { return classes_; }

 private:
  const DataFile& data_;
  std::string path_;
  std::vector<std::string> classes_;
  std::unordered_map<std::string, int64_t> by_name_;
};

/// The file of a sample, or file and row: what tells two samples apart across sources.
std::string identity(const SourceDescription& source, const SampleSource& samples, int64_t index) {
  if (!source.folder.empty()) return join_path(source.folder, samples.name(index));
  const std::string name = samples.name(index);
  const std::string& file = source.files.empty() ? source.inputs : source.files.front();
  return parent_folder(file) + "/" + name;
}

}  // namespace

struct Dataset::Impl {
  std::string path;
  DataFile description;
  SplitData splits[2];
  std::unique_ptr<LabelResolver> resolver;
  std::vector<std::string> warnings;
  bool is_image = false;

  mutable std::once_flag bad_listed[3];  ///< by Split
  mutable std::string bad_list[3];

  mutable std::mutex train_mutex;
  mutable std::unique_ptr<const SplitData> train;  ///< once it was asked for

  const SplitData& split(Split which) const;
  int64_t source_index(Split which, int64_t index) const {
    const SplitData& s = split(which);
    if (index < 0 || index >= static_cast<int64_t>(s.indices.size()))
      fail(ErrorCode::kInvalidArgument, "The {} split holds {} samples; there is no number {} in {}", to_string(which),
           s.indices.size(), index, path);
    return s.indices[static_cast<size_t>(index)];
  }

  std::string skip_bad_samples(SplitData& split, Split which) const;
  [[noreturn]] void refuse_bad_samples(Split which, const Error& first) const;
  /// What `one` makes of the source and the sample's index in it.
  template <typename One>
  auto read(Split which, int64_t index, const One& one) const {
    const int64_t at = source_index(which, index);
    try {
      return one(*split(which).source, at);
    } catch (const Error& error) {
      refuse_bad_samples(which, error);
    }
  }
  SplitDescription description_of(Split which) const;
  void open_splits();
  void require_one_kind(const SplitData& other) const;
  void resolve_labels();
  void resolve_labels(SplitData& split) const;
  SplitData open_train() const;
  void warn_of_overlap(Split which, std::vector<std::string>& out) const;
  std::string digest(const std::vector<std::string>& head, std::initializer_list<Split> which) const;
};

const SplitData& Dataset::Impl::split(Split which) const {
  if (which != Split::kTrain) return splits[which == Split::kTest];
  const std::lock_guard lock(train_mutex);
  if (train == nullptr) train = std::make_unique<const SplitData>(open_train());
  return *train;
}

SplitDescription Dataset::Impl::description_of(Split which) const {
  if (which == Split::kTest) return description.test;
  if (which == Split::kCalibration) return description.calibration;
  if (description.train.exists) return description.train;
  return {.exists = description.calibration.exists, .source = description.calibration.source};
}

void Dataset::Impl::open_splits() {
  const SplitDescription &calibration = description.calibration, &test = description.test;
  SplitData &c = splits[0], &t = splits[1];
  const bool shared = calibration.exists && test.exists && calibration.source == test.source;
  if (calibration.exists) {
    c.source = open_source(calibration.source);
    std::vector<int64_t> rest = all_indices(*c.source);
    require_count(calibration, Split::kCalibration, rest.size(), path);
    if (shared && (calibration.count < 0 || calibration.count == static_cast<int64_t>(rest.size())))
      fail(ErrorCode::kInvalidArgument,
           "The calibration split takes all {} samples and leaves none to test; give it a smaller `count`: {}",
           rest.size(), path);
    c.indices = draw(rest, calibration.count, calibration.seed);
    if (shared) {
      t.source = c.source;
      require_count(test, Split::kTest, rest.size(), path);
      t.indices = draw(rest, test.count, test.seed);
    }
  }
  if (test.exists && !shared) {
    t.source = open_source(test.source);
    std::vector<int64_t> rest = all_indices(*t.source);
    require_count(test, Split::kTest, rest.size(), path);
    t.indices = draw(rest, test.count, test.seed);
  }
  is_image = (t.source != nullptr ? t : c).source->is_image();
  if (c.source != nullptr) require_one_kind(c);
}

// The warning that says what was left out; empty without `on_bad_sample: skip` and where nothing was.
std::string Dataset::Impl::skip_bad_samples(SplitData& s, Split which) const {
  if (!description.skip_bad_samples || s.source == nullptr) return "";
  const std::vector<BadSample> bad = find_bad_samples(*s.source, s.indices);
  if (bad.empty()) return "";
  const std::string list = list_bad_samples(bad, s.indices.size(), to_string(which));
  if (static_cast<double>(bad.size()) > kMostBadShare * static_cast<double>(s.indices.size()))
    fail(ErrorCode::kInvalidArgument, "More than {:g} % of a split is too much to skip; correct or remove them: {}",
         100 * kMostBadShare, list);
  std::unordered_set<int64_t> skipped;
  for (const BadSample& sample : bad) skipped.insert(sample.index);
  std::erase_if(s.indices, [&](int64_t index) { return skipped.contains(index); });
  return "Left out: " + list;
}

// Lists them once; whoever reads on gets the same list.
void Dataset::Impl::refuse_bad_samples(Split which, const Error& first) const {
  const auto at = static_cast<size_t>(which);
  std::call_once(bad_listed[at], [&] {
    const SplitData& s = split(which);
    const std::vector<BadSample> bad = find_bad_samples(*s.source, s.indices);
    if (bad.size() > 1) bad_list[at] = list_bad_samples(bad, s.indices.size(), to_string(which));
  });
  fail(first.code(), "{}; `on_bad_sample: skip` in {} leaves such out",
       bad_list[at].empty() ? first.what() : bad_list[at], path);
}

void Dataset::Impl::require_one_kind(const SplitData& other) const {
  if (other.source->is_image() != is_image)
    fail(ErrorCode::kInvalidArgument, "One split holds pictures and the other arrays; set `samples` in both: {}", path);
}

void Dataset::Impl::resolve_labels() {
  resolver = std::make_unique<LabelResolver>(description, path);
  std::vector<const SampleSource*> sources;
  for (const SplitData& s : splits)
    if (s.source != nullptr) sources.push_back(s.source.get());
  resolver->name_classes_after(sources);
  for (SplitData& s : splits) resolve_labels(s);
}

void Dataset::Impl::resolve_labels(SplitData& s) const {
  if (s.source != nullptr && !s.source->labels.empty())
    for (const int64_t index : s.indices) s.labels.push_back(resolver->resolve(*s.source, index));
}

SplitData Dataset::Impl::open_train() const {
  const SplitDescription wanted = description_of(Split::kTrain);
  SplitData result;
  if (!wanted.exists) return result;
  const bool tested = description.test.exists && wanted.source == description.test.source;
  if (tested)
    result.source = splits[1].source;
  else if (description.calibration.exists && wanted.source == description.calibration.source)
    result.source = splits[0].source;
  else
    result.source = open_source(wanted.source);
  require_one_kind(result);
  const std::vector<int64_t> all = all_indices(*result.source), &test = splits[1].indices;
  std::vector<int64_t> rest;
  if (tested)
    std::set_difference(all.begin(), all.end(), test.begin(), test.end(), std::back_inserter(rest));
  else
    rest = all;
  if (rest.empty())
    fail(ErrorCode::kInvalidArgument,
         "The test split takes all {} samples and leaves none to train on; give it a smaller `count`: {}", all.size(),
         path);
  require_count(wanted, Split::kTrain, rest.size(), path);
  result.indices = draw(rest, wanted.count, wanted.seed);
  skip_bad_samples(result, Split::kTrain);
  resolve_labels(result);
  return result;
}

void Dataset::Impl::warn_of_overlap(Split which, std::vector<std::string>& out) const {
  const SplitData &s = split(which), &t = splits[1];
  if (s.source == nullptr || t.source == nullptr || s.source == t.source) return;
  const SplitDescription about = description_of(which);
  std::unordered_set<std::string> tested;
  for (const int64_t index : t.indices) tested.insert(identity(description.test.source, *t.source, index));
  const auto overlap = std::count_if(s.indices.begin(), s.indices.end(), [&](int64_t index) {
    return tested.count(identity(about.source, *s.source, index)) > 0;
  });
  if (overlap > 0)
    out.push_back(
        fmt::format("{} of the {} {} samples are in the test split too, which flatters the accuracy; name other files "
                    "or draw both splits from one source: {}",
                    overlap, s.indices.size(), to_string(which), path));
}

std::string_view to_string(Split split) {
  switch (split) {
    case Split::kCalibration:
      return "calibration";
    case Split::kTest:
      return "test";
    default:
      return "train";
  }
}

Dataset::Dataset(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Dataset Dataset::open(const std::string& yaml_path) {
  auto impl = std::make_shared<Impl>();
  impl->path = yaml_path;
  impl->description = parse_data_file(read_text_file(yaml_path), yaml_path);
  impl->open_splits();
  for (const Split which : {Split::kCalibration, Split::kTest})
    if (std::string warning = impl->skip_bad_samples(impl->splits[which == Split::kTest], which); !warning.empty())
      impl->warnings.push_back(std::move(warning));
  impl->resolve_labels();
  impl->warn_of_overlap(Split::kCalibration, impl->warnings);
  if (impl->description.train.exists) impl->warn_of_overlap(Split::kTrain, impl->warnings);
  if (impl->description.augment && !impl->is_image)
    fail(ErrorCode::kInvalidArgument,
         "Only pictures can be augmented, and the samples are arrays; remove `augment`: {}", yaml_path);
  if (!impl->is_image && !impl->description.has_scale) impl->description.preprocess.scale = 1;
  return Dataset(std::move(impl));
}

int64_t Dataset::size(Split split) const { return static_cast<int64_t>(impl_->split(split).indices.size()); }

int64_t Dataset::label(Split split, int64_t index) const {
  impl_->source_index(split, index);
  const auto& labels = impl_->split(split).labels;
  return labels.empty() ? -1 : labels[static_cast<size_t>(index)];
}

std::string Dataset::sample_name(Split split, int64_t index) const {
  const int64_t at = impl_->source_index(split, index);
  return impl_->split(split).source->name(at);
}

bool Dataset::has_labels(Split split) const { return !impl_->split(split).labels.empty(); }
const std::vector<std::string>& Dataset::class_names() const { return impl_->resolver->classes(); }

bool takes_sample(const Value& input, const Tensor& sample) {
  const Dims& dims = sample.dims();
  if (input.dtype != sample.dtype()) return false;
  if (!input.shape.has_rank()) return true;
  bool fits = input.shape.rank() == dims.size() + 1;
  for (size_t d = 0; fits && d < dims.size(); ++d)
    fits = !input.shape[d + 1].is_known() || input.shape[d + 1].value() == dims[d];
  return fits;
}

namespace {

void require_fitting_sample(const Dataset& data, Split split, const Value& wanted) {
  const Tensor sample = data.input(split, 0);
  if (!takes_sample(wanted, sample))
    fail(
        ErrorCode::kInvalidArgument,
        "The data do not fit the model; correct {} in the data file: {} of the {} split is {}{}, and the model's input "
        "'{}' is {}{} with the batch first: {}",
        data.is_image() ? "`preprocess` (layout, resize, crop, color, dtype)" : "`dims` of raw files or the arrays",
        data.sample_name(split, 0), to_string(split), to_string(sample.dtype()), to_string(sample.dims()), wanted.name,
        to_string(wanted.dtype), to_string(wanted.shape), data.path());
}

}  // namespace

void Dataset::require_fitting(const Graph& model, bool training) const {
  std::vector<Split> splits = {Split::kTest, Split::kCalibration};
  if (training) splits.push_back(Split::kTrain);
  for (const Split split : splits)
    if (model.inputs().size() == 1 && size(split) > 0)
      require_fitting_sample(*this, split, model.value(model.inputs()[0]));
  if (model.outputs().empty()) return;
  const Shape& shape = model.value(model.outputs()[0]).shape;
  if (shape.rank() < 2) return;
  int64_t scores = 1;
  for (size_t i = 1; i < shape.rank(); ++i) {
    if (!shape[i].is_known()) return;
    scores *= shape[i].value();
  }
  for (const Split split : splits)
    for (int64_t i = 0; has_labels(split) && i < size(split); ++i)
      if (label(split, i) >= scores)
        fail(ErrorCode::kInvalidArgument,
             "A label lies beyond the model's {} scores; correct it, `label_map` or `label_offset`: {} of {} in {}",
             scores, label(split, i), sample_name(split, i), path());
  if (!class_names().empty() && has_labels() && scores != static_cast<int64_t>(class_names().size()))
    fail(ErrorCode::kInvalidArgument,
         "The data file names {} classes and the model has {} scores; give `classes` in the model's order, and "
         "`label_map` or `label_offset` where the labels are numbered otherwise: {}",
         class_names().size(), scores, path());
}
const Preprocess& Dataset::preprocess() const { return impl_->description.preprocess; }
const std::optional<Augment>& Dataset::augment() const { return impl_->description.augment; }
bool Dataset::is_image() const { return impl_->is_image; }

bool Dataset::is_continuous() const {
  if (impl_->is_image) return true;
  const Preprocess& how = impl_->description.preprocess;
  if (how.dtype[0] != 'f') return false;
  const SplitData& test = impl_->split(Split::kTest);
  const bool scaled = how.scale != 1 || !how.mean.empty() || !how.std.empty();
  return scaled || is_float(test.source->array(test.indices.front()).dtype());
}
const std::string& Dataset::path() const { return impl_->path; }
const std::vector<std::string>& Dataset::warnings() const { return impl_->warnings; }

std::vector<std::string> Dataset::train_warnings() const {
  std::vector<std::string> all = impl_->warnings;
  if (!impl_->description.train.exists) impl_->warn_of_overlap(Split::kTrain, all);
  return all;
}

Image Dataset::image(Split split, int64_t index) const {
  if (!impl_->is_image)
    fail(ErrorCode::kInvalidArgument, "The samples of this data set are arrays, not pictures: {}", impl_->path);
  return impl_->read(split, index, [](const SampleSource& source, int64_t at) { return source.image(at); });
}

Tensor Dataset::input(Split split, int64_t index) const {
  if (impl_->is_image) return preprocess_image(preprocess(), image(split, index));
  return preprocess_array(
      preprocess(), impl_->read(split, index, [](const SampleSource& source, int64_t at) { return source.array(at); }));
}

Tensor Dataset::batch(Split split, int64_t first, int64_t count, int threads) const {
  if (count < 1 || first < 0 || first > size(split) - count)
    fail(ErrorCode::kInvalidArgument, "The split holds {} samples; there are no {} from number {} on in {}",
         size(split), count, first, impl_->path);
  const Tensor head = input(split, first);
  Dims dims = head.dims();
  dims.insert(dims.begin(), count);
  Tensor out(head.dtype(), dims);
  std::byte* to = out.mutable_raw();
  const size_t sample_bytes = head.bytes();
  std::memcpy(to, head.raw(), sample_bytes);
  std::mutex mutex;
  std::exception_ptr error;
  parallel_for(count - 1, threads, [&](int64_t begin, int64_t end) {
    try {
      for (int64_t i = begin + 1; i <= end; ++i) {
        const Tensor sample = input(split, first + i);
        if (sample.dims() != head.dims())
          fail(ErrorCode::kInvalidArgument,
               "The samples' shapes differ; add `resize` and `crop` to `preprocess`: {} is "
               "{}, {} is {}",
               sample_name(split, first), to_string(head.dims()), sample_name(split, first + i),
               to_string(sample.dims()));
        std::memcpy(to + static_cast<size_t>(i) * sample_bytes, sample.raw(), sample_bytes);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (error == nullptr) error = std::current_exception();
    }
  });
  if (error != nullptr) std::rethrow_exception(error);
  return out;
}

std::string Dataset::Impl::digest(const std::vector<std::string>& head, std::initializer_list<Split> which) const {
  Sha256 hash;
  const auto add = [&](const std::string& text) { hash.add(std::to_string(text.size()) + ":" + text); };
  for (const std::string& text : head) add(text);
  add(preprocess_json(description.preprocess));
  for (const std::string& name : resolver->classes()) add(name);
  for (const Split one : which) {
    const SplitData& s = split(one);
    add(std::to_string(s.indices.size()));
    for (size_t i = 0; i < s.indices.size(); ++i) {
      add(s.source->name(s.indices[i]));
      add(fmt::format("{} {}", s.source->sample_bytes(s.indices[i]), s.labels.empty() ? -1 : s.labels[i]));
    }
  }
  return hash.hex();
}

std::string Dataset::digest() const { return impl_->digest({}, {Split::kCalibration, Split::kTest}); }

std::string Dataset::train_digest() const {
  const auto& given = augment();
  return impl_->digest({"train", given ? fmt::format("{} {}", given->crop, given->flip) : ""}, {Split::kTrain});
}

}  // namespace slipway
