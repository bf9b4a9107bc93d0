#!/bin/sh
# package.sh PROGRAM FOLDER [VERSION]: FOLDER/fcam_VERSION_ARCH.deb of a stripped program, with its SBOM and licences beside it.
# The same bytes each time, from the same commit.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/..
program=$1
folder=$2
version=${3:-$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || stat -c %Y "$root/Cargo.lock")}
export SOURCE_DATE_EPOCH

case "$(readelf -h "$program" | sed -n 's/^ *Machine: *//p')" in
    AArch64) arch=arm64 ;;
    *X86-64) arch=amd64 ;;
    *) echo "$program is for a processor that nothing is packaged for" >&2 && exit 1 ;;
esac

work=$folder/work
rm -rf "$work"
mkdir -p "$work/fcam/share"
tree=$work/fcam
cp -R "$here/debian" "$tree/debian"
sed 's/^$/./; s/^/ /' "$root/LICENSE-MIT" >>"$tree/debian/copyright"
cp "$here/systemd/fcam.service" "$tree/debian/fcam.service"
cat >"$tree/debian/changelog" <<CHANGELOG
fcam ($version) unstable; urgency=medium

  * CHANGELOG.md of the project tells what is new.

 -- the fcam authors <root@localhost>  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGELOG
cp "$program" "$tree/fcam"
cp "$here"/*.toml "$here"/systemd/*.conf "$tree/share"
cp "$here/jetson/fcam.conf" "$tree/share/jetson.conf"
python3 "$here/sbom.py" "$tree/fcam" "$tree"

(cd "$tree" && dpkg-buildpackage --build=binary --host-arch="$arch" --no-check-builddeps --no-sign >../build.log 2>&1) || {
    cat "$work/build.log" >&2
    exit 1
}
mv "$work/fcam_${version}_$arch.deb" "$folder"
cp "$tree/sbom.cdx.json" "$tree/licences.txt" "$folder"
rm -rf "$work"
echo "$folder/fcam_${version}_$arch.deb: $(stat -c %s "$folder/fcam_${version}_$arch.deb" | awk '{ printf "%.1f MB", $1 / 1e6 }')"
