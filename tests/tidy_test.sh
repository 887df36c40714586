#!/usr/bin/env bash
# The rules of the tree, as a test: folder layering, file lengths, headers, per-ISA objects, names, formatting.
set -uo pipefail
cd "$(dirname "$0")/.."
bad=0
complain() { echo "tidy: $*" >&2; bad=1; }

# A folder of src/ includes only itself and those that stand before it.
order=(base model engine data metrics report quantize train verify serve load monitor rollout ship cli)
for i in "${!order[@]}"; do
  [ -d "src/${order[$i]}" ] || continue
  allowed=$(IFS='|'; echo "${order[*]:0:$((i + 1))}")
  while IFS= read -r line; do complain "a folder includes one that stands after it: $line"
  done < <(grep -rnE '^#include "' "src/${order[$i]}" --include='*.h' --include='*.cc' | grep -vE "#include \"(($allowed)/|[a-z]+\.(grpc\.)?pb\.h)")
done
# libtorch stays in its own program; metrics depends on base alone; data does not know the engine.
grep -rn '#include "train/' src --include='*.h' --include='*.cc' | grep -v '^src/train/' && complain "train/ is included outside of slipway-torch"
grep -rnE '^#include "(model|engine|data)/' src/metrics && complain "metrics/ depends on more than base/"
grep -rnE '^#include "engine/' src/data && complain "data/ depends on engine/"

# Lengths.
while read -r lines file; do
  [ "$file" = total ] || [ "$lines" -le 800 ] || complain "$file has $lines lines; 800 is the limit"
done < <(git ls-files 'src/*.cc' 'src/*.h' 'tests/*.cc' | xargs wc -l)

# Headers that others include stay light.
heavy='<(regex|iostream|filesystem|ranges|future|dnnl\.hpp|ATen/.*|torch/.*|onnx/.*|google/protobuf/.*|boost/.*|nlohmann/json\.hpp)>'
while IFS= read -r line; do
  case "$line" in src/engine/lower/onednn.h:* | src/model/onnx/proto.h:* | src/train/libtorch.h:* | src/serve/grpc/wire_format.h:*) ;; # the one door to each library
    *) complain "a heavy header in a header: $line" ;; esac
done < <(grep -rnE "^#include $heavy" src --include='*.h')
for header in $(git ls-files 'src/*.h'); do grep -q '^#pragma once' "$header" || complain "$header lacks #pragma once"; done

# Two types of one name in the same namespace are one to the linker, which takes the functions of either.
while IFS= read -r name; do complain "two headers define a type of one name: $name"
done < <(git ls-files 'src/*.h' | xargs grep -hoE '^(struct|class|enum class) [A-Za-z_]+( final)?( :[^;]*)? *\{' |
  sed -E 's/^(struct|class|enum class) ([A-Za-z_]+).*/\2/' | sort | uniq -d)

# ISA files see intrinsics and C headers only, and their objects carry no weak symbols that could replace a baseline copy.
for file in $(git ls-files 'src/*_avx2.cc' 'src/*_avx512*.cc'); do
  grep -nE '^#include <' "$file" | grep -vE '<(immintrin|stdint|stddef|string|math|float)\.h>|<c(stdint|stddef|string|math)>' && complain "$file includes more than intrinsics and C headers"
done
for build in build/release; do
  [ -d "$build" ] || continue
  while IFS= read -r object; do
    weak=$(nm -C "$object" | grep -E ' [WVu] ' || true)
    [ -z "$weak" ] || complain "$object carries weak symbols: $weak"
  done < <(find "$build" -name '*_avx2.cc.o' -o -name '*_avx512*.cc.o')
done

# Names that say nothing, and marks of unfinished work.
while IFS= read -r folder; do complain "a folder's name says nothing: $folder"
done < <(find src -type d \( -name 'util*' -o -name common -o -name core -o -name 'helper*' -o -name 'manager*' \))
git grep -nIE '\b(TODO|FIXME|XXX)\b' -- src && complain "unfinished work is marked"

# Every fuzz target has a seed corpus, every pass its golden file.
for fuzzer in $(find src -name '*_fuzz.cc' -exec basename {} .cc \;); do
  [ -d "tests/corpus/$fuzzer" ] || complain "tests/corpus/$fuzzer is missing"
done

# The two READMEs have the same headings, one for one.
[ "$(grep -c '^#' README.md)" = "$(grep -c '^#' README.ko.md)" ] || complain "README.md and README.ko.md are out of step"

if command -v clang-format-14 >/dev/null; then
  badly=$(git ls-files 'src/*.cc' 'src/*.h' 'tests/*.cc' | xargs clang-format-14 --dry-run -Werror 2>&1 | grep -m5 'warning\|error')
  [ -z "$badly" ] || complain "not formatted; run ./dev fmt: $badly"
fi
[ $bad -eq 0 ] && echo "tidy: all good"
exit $bad
