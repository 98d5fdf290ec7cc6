#!/bin/bash
# The one place that says what Headgate needs from Debian 12 and from npm. make, .ci/run and the
# Dockerfile all call it. It installs only what is missing and does nothing, quickly, when all is
# there. As root it calls apt-get itself, otherwise through sudo.
#
# usage: scripts/install_deps.sh GROUP...
#   build     compiler, libraries and headers for the module and the sidecar
#   run       the servers that `make run` starts
#   test      unit test libraries and test clients (npm packages go to t/clients/node_modules)
#   tidy      clang-tidy and clang-format
#   bench     the load generator and the peers (npm packages go to bench/peers/*/node_modules)
#   fuzz      clang with libFuzzer
#   valgrind  memcheck
#   root      debootstrap, for scripts/fresh_root.sh
#   runtime   only what an installed module and sidecar need (the last stage of the Dockerfile)
set -euo pipefail
cd "$(dirname "$0")/.."

packages_of_group() {
    case $1 in
        build) echo "g++ make cmake ninja-build pkg-config nginx nginx-dev libhiredis-dev libjansson-dev libssl-dev
                     libboost1.81-dev libboost-json1.81-dev libboost-url1.81-dev libcurl4-openssl-dev
                     libsqlite3-dev libpq-dev libspdlog-dev libcli11-dev libtoml11-dev libexpected-dev
                     prometheus-cpp-dev" ;;
        run) echo "nginx redis-server curl" ;;
        test) echo "libcmocka-dev libsimdjson-dev sqlite3 postgresql curl perl wrk binutils $(node_packages)" ;;
        tidy) echo "clang-tidy clang-format" ;;
        bench) echo "wrk redis-tools libnginx-mod-http-lua lua-cjson $(node_packages)" ;;
        fuzz) echo "clang-14 libclang-rt-14-dev" ;;
        valgrind) echo "valgrind" ;;
        root) echo "debootstrap" ;;
        runtime) echo "nginx ca-certificates libhiredis0.14 libjansson4 libssl3 libboost-json1.81.0
                       libboost-url1.81.0 libcurl4 libsqlite3-0 libpq5 libspdlog1.10 libprometheus-cpp-core1.0" ;;
        *) echo "install_deps.sh: unknown group '$1'" >&2; return 2 ;;
    esac
}

# Any Node from 18 on will do, wherever it comes from.
node_packages() {
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
}

missing_packages() {
    local package
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
    done
}

as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "install_deps.sh: not root and no sudo; as root run: apt-get install ${missing[*]}" >&2
        return 1
    fi
}

# The packages' own scripts would start nginx and redis-server as daemons. Headgate runs its own,
# so that is refused for the duration, unless the machine has a policy already.
policy=/usr/sbin/policy-rc.d
policy_is_ours=no
refuse_daemon_starts() {
    [[ -e $policy ]] && return
    policy_is_ours=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
}
allow_daemon_starts() {
    [[ $policy_is_ours == no ]] || as_root rm -f "$policy"
}

install_debian_packages() {
    echo "deps    installing ${missing[*]}"
    trap allow_daemon_starts EXIT
    refuse_daemon_starts
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    local log
    log=$(mktemp)
    # Stale lists are better than none: only the installation decides.
    as_root "${apt[@]}" update >"$log" 2>&1 || echo "deps    apt-get update failed, trying with the lists there are" >&2
    if ! as_root "${apt[@]}" install --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "install_deps.sh: apt-get could not install ${missing[*]} (full log: $log)" >&2
        return 1
    fi
    rm -f "$log"
}

# node_modules belongs to one lock file; the digest of that file is kept inside it.
install_npm_packages() {
    local dir=$1 digest
    digest=$(sha256sum <"$dir/package-lock.json" | cut -d ' ' -f 1)
    [[ $(cat "$dir/node_modules/.lock-digest" 2>/dev/null) == "$digest" ]] && return
    echo "deps    npm ci in $dir"
    local log
    log=$(mktemp)
    if ! (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "install_deps.sh: npm ci failed in $dir (full log: $log)" >&2
        return 1
    fi
    rm -f "$log"
    echo "$digest" >"$dir/node_modules/.lock-digest"
}

[[ $# -gt 0 ]] || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2; }

wanted=()
for group in "$@"; do
    list=$(packages_of_group "$group") || exit
    # shellcheck disable=SC2206  # a list of words is what it is
    wanted+=($list)
done
mapfile -t missing < <(missing_packages "${wanted[@]}" | sort -u)
[[ ${#missing[@]} == 0 ]] || install_debian_packages

for group in "$@"; do
    case $group in
        test) install_npm_packages t/clients ;;
        bench) install_npm_packages bench/peers/fastify && install_npm_packages bench/peers/node_deliver ;;
    esac
done
