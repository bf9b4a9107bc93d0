#!/bin/sh
# bundle.sh SLOT.ext4 CERT.pem KEY.pem VERSION OUT.raucb: a system update of slot.sh's file system, signed.
set -eu
slot=$1
certificate=$2
key=$3
version=$4
out=$5
for tool in rauc mksquashfs; do
    command -v $tool >/dev/null || { echo "no $tool: install rauc and squashfs-tools" >&2 && exit 1; }
done
work=$(mktemp -d "$(dirname "$out")/bundle.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/files"
cp --sparse=always "$slot" "$work/files/rootfs.ext4"
cat >"$work/files/manifest.raucm" <<MANIFEST
[update]
compatible=fcam-rpi
version=$version

[bundle]
format=verity

[image.rootfs]
filename=rootfs.ext4
MANIFEST
rauc bundle --cert="$certificate" --key="$key" --mksquashfs-args="-comp zstd -Xcompression-level 6" "$work/files" "$work/out.raucb" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2 && exit 1; }
mv "$work/out.raucb" "$out"
echo "$out: system $version, $(stat -c %s "$out" | awk '{ printf "%.1f MB", $1 / 1e6 }')"
