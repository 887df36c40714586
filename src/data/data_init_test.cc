#include "data/data_init.h"

#include <gtest/gtest.h>

#include "data/csv.h"
#include "data/image.h"
#include "data/npy.h"
#include "data/test_folder.h"

namespace slipway {
namespace {

Dataset open_written(const TestFolder& folder, std::span<const FeedPort> ports = {}) {
  return Dataset::open(folder.write("data.yaml", data_init_text(folder.path(), "", ports)));
}

void write_array(const TestFolder& folder, const std::string& name, const Tensor& tensor) {
  folder.write(name, "");  // makes its folder
  write_npy(folder.path(name), tensor);
}

Tensor counting(Dims dims) {
  std::vector<int64_t> values(static_cast<size_t>(element_count(dims)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int64_t>(i);
  return Tensor::of<int64_t>(std::move(dims), values);
}

FeedPort port(const std::string& name, DType dtype, std::vector<Dim> dims) { return {name, dtype, Shape(dims)}; }

TEST(CsvCells, StandBetweenCommasSemicolonsOrTabs) {
  const CsvRows expected = {{"a", "b c"}, {"1", "2"}};
  for (const char* text : {"a,b c\n1,2\n", "a;b c\n1;2\n", "a\tb c\n1\t2\n", "\"a\";\"b c\"\n1;2"})
    EXPECT_EQ(parse_csv(text, "t"), expected) << text;
  EXPECT_EQ(parse_csv("f,l\na;b.png,1\n", "t")[1][0], "a;b.png");            // not in every row
  EXPECT_EQ(parse_csv("x;y\n1,5;2,5\n", "t")[1][1], "2,5");                  // commas are decimals here
  EXPECT_EQ(parse_csv("a\n\"b;c\"\n", "t")[1], CsvRows::value_type{"b;c"});  // in quotes
  EXPECT_NE(error_of([] {
              numeric_table(parse_csv("x;y\n1,5;2,5\n", "t"), std::vector<std::string>{"y"}, "t");
            }).find("write decimals with a point: '2,5'"),
            std::string::npos);
}

TEST(DataInitFiles, NpyFilesOfDifferentLengths) {
  const TestFolder flat, classes;
  for (int64_t i = 0; i < 10; ++i) {
    write_array(flat, "sample_" + std::to_string(i) + ".npy", counting({3 + i % 3}));
    write_array(classes, (i % 2 == 0 ? "yes/" : "no/") + std::to_string(i) + ".npy", counting({3 + i % 3}));
  }
  const Dataset data = open_written(flat);
  EXPECT_EQ(data.size(Split::kTest), 8);
  EXPECT_FALSE(data.has_labels());
  EXPECT_EQ(data.input(Split::kTest, 0).dtype(), DType::kInt64);
  EXPECT_EQ(open_written(classes).class_names(), (std::vector<std::string>{"no", "yes"}));
}

TEST(DataInitFiles, LabelsHaveAsManyRowsAsTheirInputs) {
  const TestFolder folder;
  write_array(folder, "x_train.npy", counting({6, 2}));
  write_array(folder, "x_test.npy", counting({4, 2}));
  write_array(folder, "y_test.npy", counting({4}));
  const Dataset data = open_written(folder);
  EXPECT_TRUE(data.has_labels());
  EXPECT_EQ(data.size(Split::kTest) + data.size(Split::kCalibration), 4);
}

TEST(DataInitFiles, TablesOfNumbers) {
  const TestFolder folder;
  std::string rows = "id;length;width;species\n";
  for (int i = 0; i < 12; ++i) rows += fmt::format("{};{}.5;2;{}\n", i, i, i % 3 == 0 ? "setosa" : "virginica");
  folder.write("iris.csv", rows);
  const Dataset data = open_written(folder);
  EXPECT_EQ(data.input(Split::kTest, 0).dims(), (Dims{2}));  // without the id and the label
  EXPECT_EQ(data.class_names(), (std::vector<std::string>{"setosa", "virginica"}));
  const TestFolder pair;
  pair.write("train.csv", "a,b,label\n1,2,0\n3,4,1\n5,6,1\n");
  pair.write("test.csv", "a,b,label\n1,2,1\n3,4,1\n");
  const Dataset splits = open_written(pair);
  EXPECT_EQ(splits.size(Split::kCalibration), 3);
  EXPECT_EQ(splits.label(Split::kTest, 0), 1);
  // Whose labels are in the table, too, must say in which column.
  const std::string ambiguous = "format: csv\ninputs: test.csv\ncolumns: [a, b]\nlabels: test.csv\n";
  EXPECT_NE(error_of([&] { Dataset::open(pair.write("d.yaml", ambiguous)); }).find("add `label_column`"),
            std::string::npos);
}

TEST(DataInitModel, EachInputIsDescribedByItsName) {
  const TestFolder folder;
  for (int64_t i = 0; i < 8; ++i) {
    write_array(folder, "tokens/" + std::to_string(i) + ".npy", counting({3 + i % 3}));
    const auto png = encode_png({4, 6, 3, std::vector<uint8_t>(72, 7)});
    folder.write("photos/" + std::to_string(i) + ".png", {reinterpret_cast<const char*>(png.data()), png.size()});
  }
  std::string facts = "age,height,label\n";
  for (int i = 0; i < 8; ++i) facts += fmt::format("{},1.5,{}\n", i, i % 2);
  folder.write("people.csv", facts);
  const Dim n(std::string("N")), t(std::string("T"));
  std::vector<FeedPort> ports = {port("photo", DType::kFloat32, {n, Dim(2), Dim(2), Dim(3)}),
                                 port("tokens", DType::kInt64, {n, t}), port("attention_mask", DType::kInt64, {n, t}),
                                 port("numbers", DType::kFloat32, {n, Dim(2)})};
  const Dataset data = open_written(folder, ports);
  EXPECT_TRUE(data.has_labels());
  EXPECT_EQ(data.size(Split::kTest), 6);
  const std::vector<Tensor> request = Feed(data, ports).request(Split::kTest, 1);
  EXPECT_EQ(request[0].dims(), (Dims{1, 2, 2, 3}));
  EXPECT_EQ(request[2].dims(), request[1].dims());
  EXPECT_EQ(to_ints(request[2])[0], 1);
  EXPECT_EQ(request[3].dims(), (Dims{1, 2}));
  // What can't be known is said where it is missing.
  ports.push_back(port("depth", DType::kFloat32, {n, Dim(5)}));
  EXPECT_NE(error_of([&] { open_written(folder, ports); }).find("FILL_IN.npy"), std::string::npos);
  const std::vector<FeedPort> others = {port("a", DType::kFloat32, {n, Dim(1), Dim(1), Dim(1), Dim(1)}), ports[4]};
  const TestFolder empty;
  EXPECT_NE(error_of([&] { data_init_text(empty.path(), "", others); }).find("fits an input"), std::string::npos);
}

TEST(DataInitModel, TheOnlyInputSaysHowPicturesBecomeIt) {
  const TestFolder folder;
  for (int i = 0; i < 4; ++i) {
    const auto png = encode_png({4, 6, 3, std::vector<uint8_t>(72, 7)});
    folder.write(fmt::format("{}/{}.png", i % 2 == 0 ? "cat" : "dog", i),
                 {reinterpret_cast<const char*>(png.data()), png.size()});
  }
  const std::vector<FeedPort> ports = {port("x", DType::kFloat32, {Dim(std::string("N")), Dim(5), Dim(3), Dim(1)})};
  EXPECT_EQ(open_written(folder, ports).input(Split::kTest, 0).dims(), (Dims{5, 3, 1}));
}

}  // namespace
}  // namespace slipway
