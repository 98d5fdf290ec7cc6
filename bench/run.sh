#!/bin/bash
# The benchmark table: builds the peers and the load programs, then measures. The report is printed
# and kept as build/bench/results.txt. See README.md here for what is counted and how.
#
# usage: bench/run.sh [ROW...]        ROW = the name of a file in bench/rows; all of them by default
#   PAIRS=7           measurements of each side, in alternation
#   RUN_SECONDS=5     of each HTTP load (`SECONDS` belongs to bash)
#   EVENTS=20000      in each drain
#   TOKENS=20000      distinct ones in guard_rs256
#   BACKLOG_EVENTS=1000000, BACKLOG_LARGE_EVENTS=10000   in backlog and backlog_large
#   ROWS="a b"        as the arguments
#   HEADGATE_MODULE, HEADGATE_BIN   other builds than build/ngx_http_headgate_module.so, build/headgate
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p build/bench
bench/build_peers.sh
scripts/build_cmake.sh build/bench/cmake -DCMAKE_BUILD_TYPE=RelWithDebInfo -DHEADGATE_TESTS=OFF -DHEADGATE_BENCH=ON \
    -- load_events curl_multi_post credentials sqlite_loop publish_and_receive
# shellcheck disable=SC2086  # ROWS is a list of words
exec perl -It/lib -Ibench/lib bench/run.pl "$@" ${ROWS:-}
