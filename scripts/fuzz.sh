#!/bin/bash
# Builds the fuzzers with clang and AddressSanitizer and runs each for FUZZ_SECONDS (60), or only those that are named.
# Each begins with its committed corpus and keeps what it finds in build/fuzz/corpus/NAME; an input that fails is left
# in build/fuzz/crashes/NAME-*. Copy what is worth keeping into lua-free-tests/fuzz/corpus, which the unit tests replay.
#
# usage: scripts/fuzz.sh [NAME...]    NAME as in lua-free-tests/fuzz/fuzz_NAME.cpp
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
names=("$@")
if [[ ${#names[@]} == 0 ]]; then
    for source in lua-free-tests/fuzz/fuzz_*.cpp; do
        name=$(basename "$source" .cpp)
        names+=("${name#fuzz_}")
    done
fi

scripts/build_cmake.sh build/fuzz -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER=clang++-14 -DHEADGATE_TESTS=ON \
    -DHEADGATE_FUZZ=ON -- "${names[@]/#/fuzz_}"

mkdir -p build/fuzz/crashes
status=0
for name in "${names[@]}"; do
    mkdir -p "build/fuzz/corpus/$name"
    log=build/fuzz/$name.log
    if "$(find build/fuzz -name "fuzz_$name" -type f)" -max_total_time="$seconds" -timeout=10 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/crashes/$name-" "build/fuzz/corpus/$name" \
        "lua-free-tests/fuzz/corpus/$name" >"$log" 2>&1; then
        echo "fuzz_$name: $(awk '/number_of_executed_units/ { print $2 }' "$log") inputs in $seconds s, nothing found"
    else
        echo "fuzz_$name: FAILED, see $log"
        tail -n 30 "$log"
        status=1
    fi
done
exit "$status"
