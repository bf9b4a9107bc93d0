#!/bin/sh
# root.sh ARCH OUT.tar PACKAGE...: Debian with systemd and these packages, as an archive. One that is there is kept, and its age said.
# As root; for another processor inside foreign.py.
set -eu
arch=$1
out=$2
shift 2
if [ -f "$out" ]; then
    echo "$out is kept: Debian as of $(date -r "$out" +%F), $((($(date +%s) - $(stat -c %Y "$out")) / 86400)) days old; remove it for newer packages"
    exit 0
fi
release=trixie
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$(dirname "$out")/tmp"
TMPDIR=$(cd "$(dirname "$out")/tmp" && pwd)
export TMPDIR
chmod 1777 "$TMPDIR"
# Manuals and translations stay out; an image is exchanged as a whole, and nobody reads them there.
mmdebstrap --format=tar --mode=root --architectures="$arch" --variant=minbase --components=main --keyring="$keyring" \
    --include="$(echo systemd-sysv udev dbus "$@" | tr ' ' ',')" --aptopt='APT::Sandbox::User "root"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    "$release" "$out.new"
mv "$out.new" "$out"
