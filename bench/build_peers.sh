#!/bin/bash
# Builds the peer nginx modules as scripts/build_module.sh builds ours: a copy of Debian's nginx-dev
# tree, configured with that package's own flags. Each directory of bench/peers that has a `config`
# is one module; the result is build/bench/ngx_http_<directory>_module.so.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
out=$repo/build/bench
source_tree=${NGINX_SOURCE:-/usr/share/nginx/src}
NGX_CONF_FLAGS=(--with-compat --with-threads --with-http_ssl_module --with-http_v2_module --with-http_realip_module)
# shellcheck disable=SC1091
[[ -e $source_tree/conf_flags ]] && . "$source_tree/conf_flags"
# The same optimization as our own module.
cc_opt="-O2 -g -fno-omit-frame-pointer -fstack-protector-strong -D_FORTIFY_SOURCE=2"
ld_opt="-Wl,-z,relro -Wl,-z,now"

for addon in "$repo"/bench/peers/*/config; do
    addon=$(dirname "$addon")
    name=ngx_http_$(basename "$addon")_module
    work=$out/nginx-$(basename "$addon")
    log=$work/build.log
    fingerprint=$({
        cat "$addon"/*
        dpkg-query -W -f '${Version}\n' nginx-dev 2>/dev/null || true
        echo "$source_tree $addon $cc_opt ${NGX_CONF_FLAGS[*]}"
    } | sha256sum)
    [[ $(cat "$work/fingerprint" 2>/dev/null) == "$fingerprint" && -e $out/$name.so ]] && continue
    echo "bench   building $name"
    rm -rf "$work"
    mkdir -p "$work"
    cp -a "$source_tree/." "$work/"
    configure=./configure
    [[ -e $work/configure ]] || configure=auto/configure
    (cd "$work" && "$configure" "${NGX_CONF_FLAGS[@]}" --with-cc-opt="$cc_opt" --with-ld-opt="$ld_opt" \
        --add-dynamic-module="$addon" && make -f objs/Makefile -j"${JOBS:-$(nproc)}" modules) >"$log" 2>&1 ||
        { tail -n 40 "$log" >&2; echo "build_peers.sh: $name failed (full log: $log)" >&2; exit 1; }
    mv "$work/objs/$name.so" "$out/$name.so"
    echo "$fingerprint" >"$work/fingerprint"
done
