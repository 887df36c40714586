// Runs every fuzz target of this folder over its corpus, and over seeded mutations of each file.
#include <gtest/gtest.h>

#include "base/replay_corpus.h"

#define LLVMFuzzerTestOneInput fuzz_image
#include "data/image_fuzz.cc"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_npy
#include "data/npy_fuzz.cc"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_records
#include "data/records_fuzz.cc"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_data_file
#include "data/data_file_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace slipway {
namespace {

TEST(Corpus, Image) { replay_corpus("image_fuzz", fuzz_image); }
TEST(Corpus, Npy) { replay_corpus("npy_fuzz", fuzz_npy); }
TEST(Corpus, Records) { replay_corpus("records_fuzz", fuzz_records); }
TEST(Corpus, DataFile) { replay_corpus("data_file_fuzz", fuzz_data_file); }

}  // namespace
}  // namespace slipway
