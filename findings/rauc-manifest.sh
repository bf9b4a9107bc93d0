#!/bin/sh
# RAUC 1.8 (Debian 12) signs a bundle of a folder with a manifest. The guess: the manifest goes into the bundle as it is, a checksum in it is checked, and the format is the recommended
# one. Seen: the manifest in the caller's own folder is written anew, without its comments; a sha256 and a size that do not fit the image are replaced and not refused;
# and without a [bundle] section the bundle is "plain", not "verity". Source: the documentation of bundle formats; by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian rauc squashfs-tools
version rauc 1.8
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$place/key.pem" -out "$place/certificate.pem" -days 30 -subj /CN=finding 2>/dev/null
mkdir "$place/files"
head -c 100000 /dev/zero >"$place/files/rootfs.ext4"
cat >"$place/files/manifest.raucm" <<'MANIFEST'
# as it was agreed
[update]
compatible=finding
version=1

[image.rootfs]
filename=rootfs.ext4
sha256=0000000000000000000000000000000000000000000000000000000000000000
size=7
MANIFEST
rauc bundle --cert="$place/certificate.pem" --key="$place/key.pem" "$place/files" "$place/out.raucb" 2>"$place/log" || { cat "$place/log" && exit 1; }
rauc info --keyring="$place/certificate.pem" "$place/out.raucb" 2>/dev/null >"$place/told"
sum=$(sha256sum "$place/files/rootfs.ext4" | cut -d' ' -f1)
seen=$(
    grep 'Bundle Format' "$place/told" | tr -d '\t'
    echo "the image's checksum and size in the bundle: $(grep -c -e "$sum" -e '100000' "$place/told") of 2"
    echo "in the folder's manifest afterwards: $(grep -c -e "^sha256=$sum" -e '^size=100000' "$place/files/manifest.raucm") of 2, comments: $(grep -c '^#' "$place/files/manifest.raucm")"
)
echo "$seen"
[ "$seen" = "Bundle Format: plain
the image's checksum and size in the bundle: 2 of 2
in the folder's manifest afterwards: 2 of 2, comments: 0" ] || { echo "it is not as it was" && exit 1; }
