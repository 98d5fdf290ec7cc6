#!/bin/bash
# Proves that two commands are enough: makes a Debian 12 root with nothing but git and make in it,
# clones this repository's HEAD into it, runs the commands there by chroot, prints the transcript
# with times and exit codes, and removes the root. Fails when a command failed.
#
# usage: scripts/fresh_root.sh [--keep] [--base DIR] [COMMAND...]
#   COMMAND   default: "make run ONCE=1" and "make test"
#   --keep    leave the root there and name it
#   --base    a debootstrap root made before (of the same packages): it is copied, which saves 40 s
#
# Needs root and debootstrap (scripts/install_deps.sh root). Mounts live in a mount namespace and
# processes in a pid namespace of their own: both end with the script, whatever happens.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)

if [[ ${HEADGATE_FRESH_ROOT_INSIDE:-} != 1 ]]; then
    [[ $(id -u) == 0 ]] || { echo "fresh_root.sh: debootstrap and chroot need root" >&2; exit 1; }
    "$repo/scripts/install_deps.sh" root
    HEADGATE_FRESH_ROOT_INSIDE=1 exec unshare --mount --pid --fork --kill-child --mount-proc --propagation private "$0" "$@"
fi

keep=no
base=
while [[ ${1:-} == --* ]]; do
    case $1 in
        --keep) keep=yes ;;
        --base) base=$2; shift ;;
        *) echo "fresh_root.sh: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
commands=("$@")
[[ ${#commands[@]} -gt 0 ]] || commands=("make run ONCE=1" "make test")

# The mirror that this machine's own apt uses for bookworm: one-line or deb822 sources.
own_mirror() {
    local mirror
    mirror=$(sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+) +bookworm +.*/\2/p' /etc/apt/sources.list \
        /etc/apt/sources.list.d/*.list 2>/dev/null | head -n 1)
    [[ -n $mirror ]] || mirror=$(awk '
        /^URIs:/ { uri = $2 }
        /^Suites:/ { for (i = 2; i <= NF; i++) if ($i == "bookworm") found = 1 }
        found && uri != "" { print uri; exit }
        /^$/ { uri = ""; found = 0 }' /etc/apt/sources.list.d/*.sources 2>/dev/null)
    echo "${mirror:-http://deb.debian.org/debian}"
}

# What lets this machine reach its mirrors and registries: sources, proxies, certificates. Settings
# that name programs (hooks) stay behind.
copy_network_settings() {
    local root=$1 file
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    if [[ -e /etc/apt/sources.list.d/debian.sources ]]; then
        cp /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/"
        : >"$root/etc/apt/sources.list"
    fi
    for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
        if [[ -f $file ]] && grep -q '^ *Acquire::' "$file" && ! grep -qE 'Invoke|Cmd' "$file"; then
            cp "$file" "$root${file}"
        fi
    done
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    cp -rL /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
    mkdir -p "$root/etc" "$root/root"
    for file in /etc/npmrc /usr/etc/npmrc ~/.npmrc; do
        [[ -f $file ]] || continue
        # Never tokens: only how to reach the registry.
        grep -E '^ *(registry|proxy|https-proxy|noproxy|cafile|strict-ssl) *=' "$file" >>"$root/root/.npmrc" || true
    done
}

network_environment() {
    env | grep -iE '^(http_proxy|https_proxy|no_proxy|ftp_proxy|all_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_FILE|CURL_CA_BUNDLE)=' || true
}

root=$(mktemp -d "${TMPDIR:-/var/tmp}/headgate-root.XXXXXX")
cleanup() {
    local status=$?
    trap - EXIT
    local point
    for point in dev/pts dev/shm dev proc; do
        umount -l "$root/$point" 2>/dev/null || true
    done
    if [[ $keep == yes ]]; then
        echo "kept    $root"
    elif ! grep -q " $root/" /proc/self/mounts; then
        rm -rf --one-file-system "$root"
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

SECONDS=0
if [[ -n $base ]]; then
    echo "root    copy of $base"
    cp -a --one-file-system "$base/." "$root/"
else
    mirror=$(own_mirror)
    echo "root    debootstrap --variant=minbase bookworm from $mirror"
    if ! debootstrap --variant=minbase --include=ca-certificates,git,make bookworm "$root" "$mirror" >"$root.log" 2>&1; then
        tail -n 40 "$root.log" >&2
        echo "fresh_root.sh: debootstrap failed (full log: $root.log)" >&2
        exit 1
    fi
    rm -f "$root.log"
fi
copy_network_settings "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
git clone -q --no-hardlinks "$repo" "$root/root/headgate"
echo "root    ready after $SECONDS s, commit $(git -C "$root/root/headgate" rev-parse --short HEAD)," \
    "$(chroot "$root" dpkg-query -W -f '.' | wc -c) packages"

mapfile -t settings < <(network_environment)
failed=0
summary=()
for command in "${commands[@]}"; do
    echo
    echo "\$ $command"
    begun=$SECONDS
    code=0
    chroot "$root" /usr/bin/env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${settings[@]}" \
        sh -c "cd /root/headgate && $command" </dev/null 2>&1 || code=$?
    [[ $code == 0 ]] || failed=1
    summary+=("exit $code after $((SECONDS - begun)) s: $command")
done

echo
printf '%s\n' "${summary[@]}"
exit "$failed"
