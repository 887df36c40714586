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
#include <map>
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
  std::vector<std::shared_ptr<const SampleSource>> sources;  ///< by input, as many samples each; empty: no such split
  std::vector<int64_t> indices;
  std::vector<int64_t> labels;  ///< by position in the split; empty without labels

  bool exists() const { return !sources.empty(); }
  /// The first input's: the samples' names and labels are its.
  const SampleSource& lead() const { return *sources.front(); }
};

bool has_names(const SourceDescription& source) { return source.format == "folder" || source.format == "raw"; }

std::string_view without_extension(std::string_view name) { return name.substr(0, name.rfind('.')); }

std::vector<std::shared_ptr<const SampleSource>> open_sources(const std::vector<SourceDescription>& descriptions,
                                                              const DataFile& data, const std::string& path) {
  std::vector<std::shared_ptr<const SampleSource>> sources;
  for (size_t i = 0; i < descriptions.size(); ++i) {
    SourceDescription source = descriptions[i];
    // The labels are the first one's; a CSV of files is also the list of the others' files.
    const bool list = has_names(source) && (has_names(descriptions[0]) || source.labels != descriptions[0].labels);
    if (i > 0 && !list) source.labels.clear();
    sources.push_back(open_source(source));
    if (sources[i]->size() != sources[0]->size())
      fail(ErrorCode::kInvalidArgument,
           "The inputs have different numbers of samples; each needs one for every sample: '{}' has {}, '{}' has {} "
           "({})",
           data.inputs[0].name, sources[0]->size(), data.inputs[i].name, sources[i]->size(), path);
    for (int64_t k = 0; i > 0 && has_names(source) && has_names(descriptions[0]) && k < sources[i]->size(); ++k)
      if (without_extension(sources[i]->name(k)) != without_extension(sources[0]->name(k)))
        fail(ErrorCode::kInvalidArgument,
             "The files of a sample must have the same name for every input: {} for '{}', {} for '{}' ({})",
             sources[0]->name(k), data.inputs[0].name, sources[i]->name(k), data.inputs[i].name, path);
  }
  return sources;
}

/// Of all inputs, each sample once, in order.
std::vector<BadSample> bad_samples_of(const SplitData& split) {
  std::map<int64_t, BadSample> bad;
  for (const auto& source : split.sources)
    for (BadSample& sample : find_bad_samples(*source, split.indices)) bad.emplace(sample.index, std::move(sample));
  std::vector<BadSample> list;
  for (auto& [index, sample] : bad) list.push_back(std::move(sample));
  return list;
}

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
  std::vector<bool> is_image;  ///< by input

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
  /// What `one` makes of the input's source and the sample's index in it.
  template <typename One>
  auto read(Split which, int64_t index, size_t input, const One& one) const {
    const int64_t at = source_index(which, index);
    try {
      return one(*split(which).sources[input], at);
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
  return {.exists = description.calibration.exists, .sources = description.calibration.sources};
}

void Dataset::Impl::open_splits() {
  const SplitDescription &calibration = description.calibration, &test = description.test;
  SplitData &c = splits[0], &t = splits[1];
  const bool shared = calibration.exists && test.exists && calibration.sources == test.sources;
  if (calibration.exists) {
    c.sources = open_sources(calibration.sources, description, path);
    std::vector<int64_t> rest = all_indices(c.lead());
    require_count(calibration, Split::kCalibration, rest.size(), path);
    if (shared && (calibration.count < 0 || calibration.count == static_cast<int64_t>(rest.size())))
      fail(ErrorCode::kInvalidArgument,
           "The calibration split takes all {} samples and leaves none to test; give it a smaller `count`: {}",
           rest.size(), path);
    c.indices = draw(rest, calibration.count, calibration.seed);
    if (shared) {
      t.sources = c.sources;
      require_count(test, Split::kTest, rest.size(), path);
      t.indices = draw(rest, test.count, test.seed);
    }
  }
  if (test.exists && !shared) {
    t.sources = open_sources(test.sources, description, path);
    std::vector<int64_t> rest = all_indices(t.lead());
    require_count(test, Split::kTest, rest.size(), path);
    t.indices = draw(rest, test.count, test.seed);
  }
  for (const auto& source : (t.exists() ? t : c).sources) is_image.push_back(source->is_image());
  if (c.exists()) require_one_kind(c);
}

// The warning that says what was left out; empty without `on_bad_sample: skip` and where nothing was.
std::string Dataset::Impl::skip_bad_samples(SplitData& s, Split which) const {
  if (!description.skip_bad_samples || !s.exists()) return "";
  const std::vector<BadSample> bad = bad_samples_of(s);
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
    const std::vector<BadSample> bad = bad_samples_of(s);
    if (bad.size() > 1) bad_list[at] = list_bad_samples(bad, s.indices.size(), to_string(which));
  });
  fail(first.code(), "{}; `on_bad_sample: skip` in {} leaves such out",
       bad_list[at].empty() ? first.what() : bad_list[at], path);
}

void Dataset::Impl::require_one_kind(const SplitData& other) const {
  for (size_t i = 0; i < is_image.size(); ++i)
    if (other.sources[i]->is_image() != is_image[i])
      fail(ErrorCode::kInvalidArgument, "One split holds pictures and the other arrays; set `samples` in both: {}",
           path);
}

void Dataset::Impl::resolve_labels() {
  resolver = std::make_unique<LabelResolver>(description, path);
  std::vector<const SampleSource*> sources;
  for (const SplitData& s : splits)
    if (s.exists()) sources.push_back(&s.lead());
  resolver->name_classes_after(sources);
  for (SplitData& s : splits) resolve_labels(s);
}

void Dataset::Impl::resolve_labels(SplitData& s) const {
  if (s.exists() && !s.lead().labels.empty())
    for (const int64_t index : s.indices) s.labels.push_back(resolver->resolve(s.lead(), index));
}

SplitData Dataset::Impl::open_train() const {
  const SplitDescription wanted = description_of(Split::kTrain);
  SplitData result;
  if (!wanted.exists) return result;
  const bool tested = description.test.exists && wanted.sources == description.test.sources;
  if (tested)
    result.sources = splits[1].sources;
  else if (description.calibration.exists && wanted.sources == description.calibration.sources)
    result.sources = splits[0].sources;
  else
    result.sources = open_sources(wanted.sources, description, path);
  require_one_kind(result);
  const std::vector<int64_t> all = all_indices(result.lead()), &test = splits[1].indices;
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
  if (!s.exists() || !t.exists() || s.sources[0] == t.sources[0]) return;
  const SplitDescription about = description_of(which);
  std::unordered_set<std::string> tested;
  for (const int64_t index : t.indices) tested.insert(identity(description.test.sources[0], t.lead(), index));
  const auto overlap = std::count_if(s.indices.begin(), s.indices.end(), [&](int64_t index) {
    return tested.count(identity(about.sources[0], s.lead(), index)) > 0;
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
  if (impl->description.augment && std::count(impl->is_image.begin(), impl->is_image.end(), true) == 0)
    fail(ErrorCode::kInvalidArgument,
         "Only pictures can be augmented, and the samples are arrays; remove `augment`: {}", yaml_path);
  for (size_t i = 0; i < impl->is_image.size(); ++i) {
    InputDescription& input = impl->description.inputs[i];
    if (impl->is_image[i]) continue;
    if (!input.has_scale) input.preprocess.scale = 1;
    if (input.keeps_dtype && input.preprocess.keeps_values()) input.preprocess.dtype = "";
  }
  return Dataset(std::move(impl));
}

int64_t Dataset::size(Split split) const { return static_cast<int64_t>(impl_->split(split).indices.size()); }

int64_t Dataset::label(Split split, int64_t index) const {
  impl_->source_index(split, index);
  const auto& labels = impl_->split(split).labels;
  return labels.empty() ? -1 : labels[static_cast<size_t>(index)];
}

std::string Dataset::sample_name(Split split, int64_t index, size_t input) const {
  const int64_t at = impl_->source_index(split, index);
  return impl_->split(split).sources[input]->name(at);
}

bool Dataset::has_labels(Split split) const { return !impl_->split(split).labels.empty(); }
const std::vector<std::string>& Dataset::class_names() const { return impl_->resolver->classes(); }

size_t Dataset::inputs() const { return impl_->description.inputs.size(); }
const std::string& Dataset::input_name(size_t input) const { return impl_->description.inputs[input].name; }
const std::vector<ConstantInput>& Dataset::constants() const { return impl_->description.constants; }
const Preprocess& Dataset::preprocess(size_t input) const { return impl_->description.inputs[input].preprocess; }
const std::optional<Augment>& Dataset::augment() const { return impl_->description.augment; }
bool Dataset::is_image(size_t input) const { return impl_->is_image[input]; }

bool Dataset::is_continuous(size_t input) const {
  if (is_image(input)) return true;
  const Preprocess& how = preprocess(input);
  if (!how.dtype.empty() && how.dtype[0] != 'f') return false;
  const SplitData& test = impl_->split(Split::kTest);
  return !how.keeps_values() || is_float(test.sources[input]->array(test.indices.front()).dtype());
}
const std::string& Dataset::path() const { return impl_->path; }
const std::vector<std::string>& Dataset::warnings() const { return impl_->warnings; }

std::vector<std::string> Dataset::train_warnings() const {
  std::vector<std::string> all = impl_->warnings;
  if (!impl_->description.train.exists) impl_->warn_of_overlap(Split::kTrain, all);
  return all;
}

Image Dataset::image(Split split, int64_t index, size_t input) const {
  if (!is_image(input))
    fail(ErrorCode::kInvalidArgument, "The samples of this data set are arrays, not pictures: {}", impl_->path);
  return impl_->read(split, index, input, [](const SampleSource& source, int64_t at) { return source.image(at); });
}

Tensor Dataset::input(Split split, int64_t index, size_t input) const {
  if (is_image(input)) return preprocess_image(preprocess(input), image(split, index, input));
  return preprocess_array(
      preprocess(input),
      impl_->read(split, index, input, [](const SampleSource& source, int64_t at) { return source.array(at); }));
}

Tensor Dataset::batch(Split split, int64_t first, int64_t count, int threads, size_t which) const {
  if (count < 1 || first < 0 || first > size(split) - count)
    fail(ErrorCode::kInvalidArgument, "The split holds {} samples; there are no {} from number {} on in {}",
         size(split), count, first, impl_->path);
  const Tensor head = input(split, first, which);
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
        const Tensor sample = input(split, first + i, which);
        if (sample.dims() != head.dims())
          fail(ErrorCode::kInvalidArgument, "The samples' shapes differ, and a batch has one{}: {} is {}, {} is {}",
               is_image(which) ? "; add `resize` and `crop` to `preprocess`" : "", sample_name(split, first),
               to_string(head.dims()), sample_name(split, first + i), to_string(sample.dims()));
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
  for (const InputDescription& input : description.inputs) add(preprocess_json(input.preprocess));
  for (const ConstantInput& c : description.constants)
    add(fmt::format("{} {} {} {}", c.name, c.value, to_string(c.dims), c.like));
  for (const std::string& name : resolver->classes()) add(name);
  for (const Split one : which) {
    const SplitData& s = split(one);
    add(std::to_string(s.indices.size()));
    for (size_t i = 0; i < s.indices.size(); ++i) {
      add(s.lead().name(s.indices[i]));
      add(fmt::format("{} {}", s.lead().sample_bytes(s.indices[i]), s.labels.empty() ? -1 : s.labels[i]));
      for (size_t k = 1; k < s.sources.size(); ++k)
        add(fmt::format("{} {}", s.sources[k]->name(s.indices[i]), s.sources[k]->sample_bytes(s.indices[i])));
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
