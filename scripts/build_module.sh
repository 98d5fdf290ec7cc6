#!/bin/bash
# Builds the nginx module as any nginx module is built: configure a copy of Debian's nginx-dev tree
# with that package's own flags and --add-dynamic-module, then `make modules`. The copy is made anew
# when what configure depends on has changed; otherwise make builds only what is newer.
#
# usage: scripts/build_module.sh [release|asan|mainline]
#   release   build/ngx_http_headgate_module.so
#   asan      build/asan/ngx_http_headgate_module.so, with AddressSanitizer
#   mainline  build/mainline/ngx_http_headgate_module.so and the build/mainline/nginx that it is for, from NGINX_SOURCE
# NGINX_SOURCE=DIR builds against another nginx source tree (a release's or its repository's) instead of nginx-dev's.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
cd "$repo"

variant=${1:-release}
targets=(modules)
cc_opt="-O2 -g1 -fno-omit-frame-pointer -fstack-protector-strong -D_FORTIFY_SOURCE=2"
ld_opt="-Wl,-z,relro -Wl,-z,now"
case $variant in
    release)
        out=build/ngx_http_headgate_module.so ;;
    mainline)
        [[ -n ${NGINX_SOURCE:-} ]] || { echo "build_module.sh: NGINX_SOURCE=DIR says where nginx's sources are" >&2; exit 2; }
        out=build/mainline/ngx_http_headgate_module.so
        targets=(binary modules) ;;
    asan)
        out=build/asan/ngx_http_headgate_module.so
        cc_opt="-O1 -g1 -fno-omit-frame-pointer -fsanitize=address"
        ld_opt="-fsanitize=address" ;;
    *) echo "build_module.sh: unknown variant '$variant'" >&2; exit 2 ;;
esac

source_tree=${NGINX_SOURCE:-/usr/share/nginx/src}
work=build/nginx-$variant
log=$work/build.log
[[ -e $source_tree/auto/configure || -e $source_tree/configure ]] ||
    { echo "build_module.sh: no nginx sources in $source_tree (package nginx-dev)" >&2; exit 1; }

NGX_CONF_FLAGS=(--with-compat --with-debug --with-threads --with-http_ssl_module --with-http_v2_module --with-http_realip_module
    --with-http_auth_request_module --with-http_addition_module --with-http_stub_status_module)
# nginx-dev says here how Debian's nginx was configured.
# shellcheck disable=SC1091
[[ -e $source_tree/conf_flags ]] && . "$source_tree/conf_flags"

fail() {
    # Messages, not the long command lines before them.
    grep -v -e '^cc ' -e $'^\t-o ' -e $'^\t/' "$log" | tail -n 60 >&2
    echo "build_module.sh: $1 (full log: $log)" >&2
    exit 1
}

fingerprint=$({
    cat config config.make common/SOURCES 2>/dev/null
    ls common ngx_module
    dpkg-query -W -f '${Version}\n' nginx-dev 2>/dev/null || true
    echo "$source_tree $repo $cc_opt $ld_opt ${NGX_CONF_FLAGS[*]}"
} | sha256sum)
if [[ $(cat "$work/fingerprint" 2>/dev/null) != "$fingerprint" ]]; then
    rm -rf "$work"
    mkdir -p "$work"
    cp -a "$source_tree/." "$work/"
    rm -rf "$work/objs"
    configure=./configure
    [[ -e $work/configure ]] || configure=auto/configure
    echo "module  configuring for nginx in $source_tree"
    (cd "$work" && "$configure" "${NGX_CONF_FLAGS[@]}" --with-cc-opt="$cc_opt" --with-ld-opt="$ld_opt" \
        --add-dynamic-module="$repo") >"$log" 2>&1 || fail "configure failed"
    echo "$fingerprint" >"$work/fingerprint"
fi

built=$work/objs/ngx_http_headgate_module.so
make -C "$work" -f objs/Makefile -j"${JOBS:-$(nproc)}" "${targets[@]}" >>"$log" 2>&1 || fail "compilation failed"

if [[ $variant == mainline ]] && ! cmp -s "$work/objs/nginx" build/mainline/nginx; then
    install -D "$work/objs/nginx" build/mainline/nginx.new
    mv build/mainline/nginx.new build/mainline/nginx
    echo "module  build/mainline/nginx"
fi
if ! cmp -s "$built" "$out"; then
    mkdir -p "$(dirname "$out")"
    # Never overwrite in place: an nginx that has the old file mapped would crash.
    cp "$built" "$out.new"
    mv "$out.new" "$out"
    echo "module  $out"
fi
