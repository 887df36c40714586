#include "data/preview.h"

#include <gtest/gtest.h>

#include "data/corruption.h"
#include "data/data_init.h"
#include "data/npy.h"
#include "data/test_folder.h"

namespace slipway {
namespace {

const std::string kCorpus = SLIPWAY_SOURCE_DIR "/tests/corpus/image_fuzz/";

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

void copy_picture(const TestFolder& folder, const char* picture, const std::string& to) {
  const auto bytes = read_file(kCorpus + picture);
  folder.write(to, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

Dataset open_described(const TestFolder& folder, const std::string& text) {
  return Dataset::open(folder.write("data.yaml", text));
}

/// Writes what data_init_text says into the folder and opens it.
Dataset open_guess(const TestFolder& folder) { return open_described(folder, data_init_text(folder.path())); }

TEST(Pictures, FolderOfFoldersCsvAndPattern) {
  const TestFolder folder;
  copy_picture(folder, "rgb.png", "set/dog/a.png");
  copy_picture(folder, "rgb_420.jpg", "set/cat/b.JPG");
  copy_picture(folder, "gray.jpg", "set/cat/c.jpeg");
  folder.write("set/cat/notes.txt", "no picture");
  const std::string resize = "preprocess: {resize: [8, 8]}\n";
  const Dataset by_folder = open_described(folder, "format: folder\nfolder: set\n" + resize);
  EXPECT_EQ(by_folder.class_names(), (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(by_folder.sample_name(Split::kTest, 2), "dog/a.png");
  EXPECT_EQ(by_folder.label(Split::kTest, 2), 1);
  EXPECT_EQ(by_folder.batch(Split::kTest, 0, 3, 2).dims(), (Dims{3, 3, 8, 8}));

  folder.write("set/labels.csv", "file,class,width\ncat/b.JPG,tabby,37\ndog/a.png,terrier,15\n");
  const Dataset by_csv =
      open_described(folder, "format: csv\nlabels: set/labels.csv\nclasses: [terrier, tabby]\n" + resize);
  EXPECT_EQ(by_csv.size(Split::kTest), 2);
  EXPECT_EQ(by_csv.label(Split::kTest, 0), 1);
  const Dataset by_number = open_described(
      folder, "format: csv\nlabels: set/labels.csv\nlabel_column: width\nlabel_map: {37: 5, 15: 6}\n" + resize);
  EXPECT_EQ(by_number.label(Split::kTest, 1), 6);
  EXPECT_TRUE(
      contains(error_of([&] { open_described(folder, "format: csv\nlabels: set/labels.csv\nlabel_column: size\n"); }),
               "no such column"));

  copy_picture(folder, "rgb.png", "flat/x_7_1.png");
  const Dataset flat = open_described(folder, "format: folder\nfolder: flat\nlabel_pattern: \"*_{label}_*.png\"\n");
  EXPECT_EQ(flat.label(Split::kTest, 0), 7);
  EXPECT_EQ(open_described(folder, "format: folder\nfolder: flat\n").label(Split::kTest, 0), -1);
  EXPECT_TRUE(
      contains(error_of([&] { open_described(folder, "format: folder\nfolder: flat\nlabel_pattern: \"q{label}\"\n"); }),
               "does not fit `label_pattern`: x_7_1.png"));
}

TEST(Pictures, HalfReadableSetNamesTheFile) {
  const TestFolder folder;
  copy_picture(folder, "rgb_420.jpg", "set/a.jpg");
  copy_picture(folder, "truncated.jpg", "set/b.jpg");
  copy_picture(folder, "rgb_420.jpg", "set/c.jpg");
  const Dataset data = open_described(folder, "format: folder\nfolder: set\npreprocess: {resize: [8, 8]}\n");
  EXPECT_EQ(data.size(Split::kTest), 3);
  EXPECT_TRUE(contains(error_of([&] { data.batch(Split::kTest, 0, 3, 2); }), "set/b.jpg"));
  EXPECT_EQ(data.input(Split::kTest, 2).dims(), (Dims{3, 8, 8}));

  folder.write("set/labels.csv", "a.jpg,1\nmissing.jpg,2\n");
  EXPECT_TRUE(contains(error_of([&] { open_described(folder, "format: csv\nlabels: set/labels.csv\n"); }),
                       "`folder`: missing.jpg"));
  copy_picture(folder, "rgb.png", "set/d.png");
  const Dataset sizes =
      open_described(folder, "format: folder\nfolder: set\nlabel_pattern: \"{label}.*\"\nclasses: [a, b, c, d]\n");
  EXPECT_TRUE(contains(error_of([&] { sizes.batch(Split::kTest, 2, 2); }), "shapes differ"));
}

TEST(Pictures, ImagenetteByItsCsv) {
  const std::string set = assets_folder() + "/data/imagenette/labels.csv";
  if (!file_exists(set)) GTEST_SKIP() << "no " << set;
  const TestFolder folder;
  const Dataset data = open_described(folder, "format: csv\nlabels: " + set +
                                                  "\ncalibration: {count: 100}\n"
                                                  "preprocess: {resize: 256, crop: 224}\n");
  EXPECT_EQ(data.size(Split::kTest), 900);
  EXPECT_EQ(data.input(Split::kTest, 1).dims(), (Dims{3, 224, 224}));
}

TEST(Arrays, RawRecordsOfKeywords) {
  const std::string set = assets_folder() + "/data/kws_mfcc";
  if (!is_folder(set)) GTEST_SKIP() << "no " << set;
  const TestFolder folder;
  const Dataset data = open_described(folder, "format: raw\nfolder: " + set + "\nlabels: " + set +
                                                  "/y_labels.csv\nlabel_column: 3\ndims: [49, 10, 1]\ndtype: i8\n"
                                                  "preprocess: {mean: 83, std: 1.71}\n");
  EXPECT_EQ(data.size(Split::kTest), 1000);
  EXPECT_FALSE(data.is_image());
  EXPECT_EQ(data.label(Split::kTest, 0), 7);
  EXPECT_EQ(data.preprocess().scale, 1);
  EXPECT_EQ(data.batch(Split::kTest, 0, 2).dims(), (Dims{2, 49, 10, 1}));
  const Dataset by_name = open_described(folder, "format: raw\nfolder: " + set +
                                                     "\nlabel_pattern: \"tst_*_*_{label}.bin\"\n"
                                                     "dims: [490]\ndtype: i8\n");
  for (int64_t i = 0; i < 1000; i += 99) EXPECT_EQ(by_name.label(Split::kTest, i), data.label(Split::kTest, i));
  EXPECT_TRUE(contains(error_of([&] {
                         open_described(folder, "format: raw\nfolder: " + set +
                                                    "\nlabel_pattern: \"tst_*_{label}.bin\"\ndims: [48]\ndtype: i8\n");
                       }),
                       "490 bytes, not 48"));
}

TEST(DataInit, GuessesWhatItWrites) {
  {
    const TestFolder folder;
    folder.write("train-images-idx3-ubyte", std::string("\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x02"
                                                        "abcd",
                                                        20));
    folder.write("train-labels-idx1-ubyte", std::string("\0\0\x08\x01\0\0\0\x02\0\x01", 10));
    folder.write("t10k-images-idx3-ubyte", std::string("\0\0\x08\x03\0\0\0\x01\0\0\0\x01\0\0\0\x02"
                                                       "ef",
                                                       18));
    folder.write("t10k-labels-idx1-ubyte", std::string("\0\0\x08\x01\0\0\0\x01\x01", 9));
    const Dataset data = open_guess(folder);
    EXPECT_EQ(data.size(Split::kCalibration), 2);
    EXPECT_EQ(data.label(Split::kTest, 0), 1);
    EXPECT_EQ(data.preprocess().color, "gray");
    std::string text = data_init_text(folder.path());
    for (const char* hint : {"# train: {count: 10000}", "# augment: "}) {
      ASSERT_TRUE(contains(text, hint)) << text;
      text.erase(text.find(hint), 2);
    }
    text.replace(text.find("10000"), 5, "1");
    const Dataset trained = open_described(folder, text);
    EXPECT_EQ(trained.size(Split::kTrain), 1);
    EXPECT_EQ(trained.augment(), (Augment{4, true}));
  }
  {
    const TestFolder folder;
    folder.write("test_batch.bin", std::string(2 * 3073, '\1'));
    const Dataset data = open_guess(folder);
    EXPECT_EQ(data.size(Split::kTest), 1);
    EXPECT_EQ(data.class_names()[1], "automobile");
    std::string text = data_init_text(folder.path());
    text.replace(text.find("# train: {}"), 2, "");
    text.replace(text.find("test: {}"), 8, "test: {count: 1}");
    EXPECT_EQ(open_described(folder, text).size(Split::kTrain), 1);
  }
  {
    const TestFolder folder;
    write_npy(folder.path("x_test.npy"), Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6}));
    write_npy(folder.path("y_test.npy"), Tensor::of<int32_t>({2}, {1, 0}));
    const Dataset data = open_guess(folder);
    EXPECT_EQ(data.size(Split::kTest), 1);
    EXPECT_TRUE(data.has_labels());
  }
  {
    const TestFolder folder;
    copy_picture(folder, "rgb.png", "train/a b/1.png");
    copy_picture(folder, "rgb_420.jpg", "train/c/2.jpg");
    copy_picture(folder, "rgb.png", "val/a b/3.png");
    copy_picture(folder, "rgb_420.jpg", "val/c/4.jpg");
    const Dataset data = open_guess(folder);
    EXPECT_EQ(data.size(Split::kTest), 2);
    EXPECT_EQ(data.input(Split::kTest, 0).dims(), (Dims{3, 224, 224}));  // the sizes differ, so it resizes and crops
    EXPECT_EQ(data.preprocess().resize_shorter, 256);
  }
  {
    const TestFolder folder;
    copy_picture(folder, "rgb.png", "p/1.png");
    copy_picture(folder, "rgb.png", "p/2.png");
    folder.write("list of labels.csv", "file,label\np/1.png,4\np/2.png,5\n");
    const Dataset data = open_guess(folder);
    EXPECT_EQ(data.label(Split::kTest, 0) + data.label(Split::kCalibration, 0), 9);
  }
  {
    const TestFolder folder;
    folder.write("a.dat", "1234");
    folder.write("b.dat", "5678");
    folder.write("y.csv", "a.dat,12,1\nb.dat,12,2\n");
    const Dataset data = open_guess(folder);
    EXPECT_EQ(data.input(Split::kTest, 0).dims(), (Dims{4}));
  }
  const TestFolder empty;
  EXPECT_TRUE(contains(error_of([&] { data_init_text(empty.path()); }), "No data were recognised"));
  EXPECT_TRUE(contains(error_of([&] { data_init_text(empty.path("x")); }), "no such folder"));
}

TEST(DataInit, PrefixesPaths) {
  const std::string folder = "/usr/share/datasets/fashion-mnist";
  if (!is_folder(folder)) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  const TestFolder other;
  const Dataset data = open_described(other, data_init_text(folder, folder));
  EXPECT_EQ(data.size(Split::kCalibration), 256);
  EXPECT_EQ(data.size(Split::kTest), 10000);
}

TEST(Preview, WarningsAreOneList) {
  const TestFolder folder;
  copy_picture(folder, "rgb.png", "set/dog/a.png");
  copy_picture(folder, "rgb_420.jpg", "set/cat/b.jpg");
  const auto warnings = [&](const char* scale) {
    return input_warnings(
        open_described(folder,
                       fmt::format("format: folder\nfolder: set\npreprocess: {{resize: [8, 8], scale: {}}}\n", scale)),
        Split::kTest);
  };
  EXPECT_TRUE(warnings("1/255").empty());
  ASSERT_EQ(warnings("1").size(), 1u);
  EXPECT_TRUE(contains(warnings("1")[0], "values far above 1"));
}

TEST(Preview, NoiseSuitsWhatMeasuresSomething) {
  const TestFolder folder;
  write_npy(folder.path("ids.npy"), Tensor::of<int64_t>({2, 3}, {1, 2, 3, 4, 5, 6}));
  write_npy(folder.path("floats.npy"), Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6}));
  const auto continuous = [&](const char* file, const char* how) {
    return open_described(folder, fmt::format("format: npy\ninputs: {}\npreprocess: {{{}}}\n", file, how))
        .is_continuous();
  };
  EXPECT_FALSE(continuous("ids.npy", "dtype: i64"));
  EXPECT_FALSE(continuous("ids.npy", "dtype: f32")) << "ids that the model takes as floats";
  EXPECT_TRUE(continuous("ids.npy", "dtype: f32, mean: 3, std: 2"));
  EXPECT_TRUE(continuous("floats.npy", ""));
  EXPECT_FALSE(continuous("floats.npy", "dtype: i32"));
}

TEST(Preview, ShowsPicturesLabelsAndRange) {
  const TestFolder folder;
  copy_picture(folder, "rgb.png", "set/<dog>/a.png");
  copy_picture(folder, "rgb_420.jpg", "set/cat/b.jpg");
  const Dataset data = open_described(folder, "format: folder\nfolder: set\npreprocess: {resize: [8, 8], scale: 1}\n");
  const InputStatistics s = input_statistics(data, Split::kTest, 10);
  EXPECT_EQ(s.samples, 2);
  EXPECT_EQ(s.values, 2 * 3 * 64);
  EXPECT_TRUE(contains(s.remark, "values far above 1"));
  const std::vector<int64_t> predictions = {0, 0};
  const std::string html = contact_sheet_html(data, Split::kTest, 10, predictions);
  EXPECT_TRUE(contains(html, "&lt;dog>"));
  EXPECT_FALSE(contains(html, "<dog>"));
  EXPECT_TRUE(contains(html, "data:image/png;base64,iVBORw0KGgo"));
  EXPECT_TRUE(contains(html, "class=\"wrong\""));
  EXPECT_TRUE(contains(html, "class=\"right\""));
  EXPECT_FALSE(contains(html, "http"));
  const std::string text = contact_sheet_text(data, Split::kTest, 10, predictions);
  EXPECT_TRUE(contains(text, "test split: 2 samples, 2 classes with 1 samples each"));
  EXPECT_TRUE(contains(text, "model: 0 (<dog>)  WRONG"));
  const std::string first_row = contact_sheet_text(data, Split::kTest, 10, predictions, 1);
  EXPECT_TRUE(contains(first_row, "a.png"));
  EXPECT_FALSE(contains(first_row, "b.jpg"));
  const Dataset both = open_described(folder, "format: folder\nfolder: set\ntest: {count: 1}\ntrain: {}\n");
  EXPECT_TRUE(contains(contact_sheet_text(both, Split::kTrain, 1), "train split: 1 samples"));
  EXPECT_TRUE(contains(contact_sheet_html(both, Split::kTrain, 1), "Train split: 1 samples"));
}

TEST(Preview, ShowsArraysAsHeatMaps) {
  const TestFolder folder;
  write_npy(folder.path("x.npy"), Tensor::of<float>({1, 2, 3, 1}, {1, 2, 3, 4, 5, 6}));
  const Dataset data = open_described(folder, "format: npy\ninputs: x.npy\n");
  EXPECT_TRUE(contains(contact_sheet_html(data, Split::kTest, 5), "iVBORw0KGgo"));
  EXPECT_TRUE(contains(contact_sheet_text(data, Split::kTest, 5), "input [2,3,1] from 1 to 6, mean 3.5, std 1.708"));
}

TEST(Corruption, DarkNoiseBlur) {
  Image flat{40, 50, 3, std::vector<uint8_t>(6000, 100)};
  EXPECT_EQ(corrupt(flat, Corruption::kDark, 0).pixels, std::vector<uint8_t>(6000, 30));
  EXPECT_EQ(corrupt(flat, Corruption::kBlur, 0), flat);
  const Image noisy = corrupt(flat, Corruption::kNoise, 5);
  EXPECT_EQ(noisy, corrupt(flat, Corruption::kNoise, 5));
  EXPECT_NE(noisy, corrupt(flat, Corruption::kNoise, 6));
  double sum = 0, squares = 0;
  for (const uint8_t pixel : noisy.pixels) sum += pixel - 100.0, squares += (pixel - 100.0) * (pixel - 100.0);
  EXPECT_NEAR(sum / 6000, 0, 1);
  EXPECT_NEAR(std::sqrt(squares / 6000), 0.08 * 255, 0.7);

  Image dot{9, 9, 1, std::vector<uint8_t>(81, 0)};
  dot.pixels[40] = 255;
  const Image soft = corrupt(dot, Corruption::kBlur, 0);
  EXPECT_NEAR(soft.pixels[40], 255 / (2 * 3.14159), 1);           // the density of a unit Gaussian at its centre
  EXPECT_NEAR(soft.pixels[41], 255 / (2 * 3.14159) * 0.6065, 1);  // one σ beside
  EXPECT_EQ(soft.pixels[41], soft.pixels[49]);
  EXPECT_EQ(to_string(Corruption::kBlur), "blur");
}

TEST(Corruption, NoiseOnArrays) {
  std::vector<float> values(4000, 0);
  values[0] = 10;
  const Tensor noisy = add_noise(Tensor::of<float>({4000}, values), 1);
  double squares = 0;
  for (size_t i = 1; i < values.size(); ++i) squares += noisy.values<float>()[i] * noisy.values<float>()[i];
  EXPECT_NEAR(std::sqrt(squares / 3999), 0.8, 0.04);
  EXPECT_EQ(add_noise(Tensor::of<int8_t>({2}, {-128, 127}), 1).dtype(), DType::kInt8);
}

}  // namespace
}  // namespace slipway
