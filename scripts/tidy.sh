#!/bin/bash
# clang-tidy over the two programs (tests have other needs: they copy and allocate as they like): the CMake part from its compile commands (configured apart, without
# gcc's precompiled headers and with every file by itself), the module with the flags of nginx's build. Fails when it finds anything.
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=${JOBS:-$(nproc)}
status=0
mkdir -p build/tidy
cmake -S . -B build/tidy -G Ninja -DHEADGATE_TESTS=ON -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON -DCMAKE_UNITY_BUILD=OFF >build/tidy/configure.log 2>&1 ||
    { cat build/tidy/configure.log >&2; exit 1; }
git ls-files -co --exclude-standard 'common/*.cpp' 'sidecar/*.cpp' |
    xargs -r -P "$jobs" -n 1 clang-tidy -p build/tidy --quiet --extra-arg=-Wno-unknown-warning-option || status=1

nginx=build/nginx-release
if [[ ! -e $nginx/objs/Makefile ]]; then
    scripts/build_module.sh release
fi
includes=()
for dir in src/core src/event src/event/modules src/os/unix src/http src/http/modules src/http/v2 objs; do
    includes+=(-isystem "$nginx/$dir")
done
git ls-files -co --exclude-standard 'ngx_module/*.cpp' |
    xargs -r -P "$jobs" -I{} clang-tidy --quiet {} -- -std=c++20 -I. "${includes[@]}" || status=1
exit "$status"
