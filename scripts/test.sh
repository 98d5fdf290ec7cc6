#!/bin/bash
# What `make test` and `make asan` do: dependencies, build, integration tests, unit tests under AddressSanitizer and
# UBSan (`make unit` has them all as they are released). Goes on after a failure to show all of them, and
# says in its last line what failed.
#
# usage: scripts/test.sh [--asan] [t/FILE.t...]
#   --asan   run every integration test with the sanitized module too (otherwise only those that
#            ask for it)
set -euo pipefail
cd "$(dirname "$0")/.."

asan=no
if [[ ${1:-} == --asan ]]; then
    asan=yes
    shift
fi
files=("$@")
[[ ${#files[@]} -gt 0 ]] || files=(t/*.t)

failed=()
begun=$SECONDS
step() {
    local name=$1 from=$SECONDS
    shift
    echo "== $name"
    if "$@"; then
        echo "== $name: ok ($((SECONDS - from)) s)"
    else
        echo "== $name: FAILED ($((SECONDS - from)) s)"
        failed+=("$name")
    fi
}

finish() {
    local seconds=$((SECONDS - begun))
    if [[ ${#failed[@]} == 0 ]]; then
        echo "PASS: everything, in $((seconds / 60)) min $((seconds % 60)) s"
        exit 0
    fi
    local IFS=,
    echo "FAIL: ${failed[*]} (after $((seconds / 60)) min $((seconds % 60)) s)"
    exit 1
}

build_all() {
    # shellcheck disable=SC2046  # a list of target names
    scripts/build_module.sh release &&
        scripts/build_cmake.sh build/cmake -DCMAKE_BUILD_TYPE=RelWithDebInfo -DHEADGATE_TESTS=ON \
            -- headgate headgate-failpoints $(unit_tests_of released) &&
        ln -sf cmake/headgate build/headgate &&
        ln -sf cmake/headgate-failpoints build/headgate-failpoints &&
        scripts/build_module.sh asan
}

# unit_tests_of released|sanitized: each test is compiled once, as building takes most of the time. Sanitized is everything
# with --asan; otherwise not the tests of the management API and the command line, whose libraries (Beast, CLI11) take longer to
# compile than all the rest.
unit_tests_of() {
    local source wanted=$1 kind
    for source in lua-free-tests/test_*.cpp; do
        kind=sanitized
        if [[ $asan == no ]] && head -n 1 "$source" | grep -qE 'headgate_(api|app|cli)'; then
            kind=released
        fi
        [[ $kind != "$wanted" ]] || basename -s .cpp "$source"
    done
}

# -O0 compiles a third faster than -O1, which is more than the tests then lose; -g1 has file and line for their reports.
# A part at a time is half the work; the released build compiles every file by itself.
build_sanitized_tests() {
    local tests
    tests=$(unit_tests_of sanitized)
    # shellcheck disable=SC2086  # a list of target names
    scripts/build_cmake.sh build/asan-unit -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-O0 -g1" \
        -DCMAKE_UNITY_BUILD=ON -DHEADGATE_TESTS=ON -DHEADGATE_SANITIZE=address,undefined -- $tests
}

# unit_tests DIR NAMES: as they were built there.
unit_tests() {
    local dir=$1 names=$2
    [[ -n $names ]] || return 0
    ctest --test-dir "$dir" --output-on-failure -j"$(($(nproc) + 1))" --no-tests=error -R "^($(paste -sd '|' <<<"$names"))\$" >"$dir/ctest.log" 2>&1 ||
        { cat "$dir/ctest.log"; return 1; }
    grep 'tests passed' "$dir/ctest.log"
}

integration_tests() {
    [[ $asan == no ]] || export HEADGATE_TEST_ASAN=1
    # Most of them wait most of the time: for leases, backoffs and starts of servers.
    prove -j"$(($(nproc) + 1))" --timer -It/lib "${files[@]}"
}

step dependencies scripts/install_deps.sh build run test
[[ ${#failed[@]} == 0 ]] || finish
step build build_all
[[ ${#failed[@]} == 0 ]] || finish

# The sanitized build uses the processor where the integration tests wait.
nice -n 10 bash -c "asan=$asan; $(declare -f unit_tests_of build_sanitized_tests); build_sanitized_tests" >build/asan-unit.log 2>&1 &
sanitized_build=$!
trap 'kill "$sanitized_build" 2>/dev/null || true' EXIT

step 'unit tests as released' unit_tests build/cmake "$(unit_tests_of released)"
step 'integration tests' integration_tests

sanitized() {
    wait "$sanitized_build" || { tail -n 60 build/asan-unit.log; return 1; }
    unit_tests build/asan-unit "$(unit_tests_of sanitized)"
}
step 'unit tests under ASan and UBSan' sanitized
finish
