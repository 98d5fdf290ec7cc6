#!/bin/bash
# Configures (once, or when the options change) and builds CMake targets, quietly unless on a
# terminal. CMake itself looks again when a source file appears or goes.
#
# usage: scripts/build_cmake.sh BUILD_DIR [-DNAME=VALUE...] [-- TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$1
shift
options=()
while [[ $# -gt 0 && $1 != -- ]]; do
    options+=("$1")
    shift
done
[[ ${1:-} == -- ]] && shift

mkdir -p "$dir"
log=$dir/configure.log
if [[ ! -e $dir/build.ninja || $(cat "$dir/options" 2>/dev/null) != "${options[*]}" ]]; then
    if ! cmake -S . -B "$dir" -G Ninja "${options[@]}" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "build_cmake.sh: cmake failed (full log: $log)" >&2
        exit 1
    fi
    echo "${options[*]}" >"$dir/options"
fi

quiet=(--quiet)
[[ -t 1 ]] && quiet=()
exec ninja -C "$dir" "${quiet[@]}" -j"${JOBS:-$(nproc)}" "$@"
