#!/bin/sh
# In: a folder. Out: in its `root` what of Debian for 64-bit ARM the board runs: the newest kernel with all modules, a static busybox, systemd
# with its libraries. A root that is there is kept.
# It refuses to touch this machine's own package sources: apt works on a root of its own, and only its mirror is taken from them.
set -eu
dir=$1
[ -d "$dir/root" ] && exit 0
release=trixie
# gpio-sim is in Debian's kernels from 7.3 on.
oldest=7.3

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 2>/dev/null | sort -u | head -n 1)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
if [ -z "$mirror" ] || [ ! -f "$keyring" ]; then
    echo "no Debian mirror: this needs Debian, its keyring, and its package lists (\"apt-get update\")" >&2
    exit 1
fi

rm -rf "$dir/apt" "$dir/root.new"
mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/apt/packages" "$dir/root.new"
apt=$(cd "$dir/apt" && pwd)
cat >"$apt/debian.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: $release $release-backports
Components: main
Architectures: arm64
Signed-By: $keyring
SOURCES
cat >"$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt/debian.sources";
Dir::Etc::sourceparts "-";
Dir::State::lists "$apt/lists";
Dir::State::status "/dev/null";
Dir::Cache "$apt/cache";
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
export APT_CONFIG="$apt/apt.conf"

apt-get update -qq
version=$(apt-cache search --names-only '^linux-binary-[0-9.]+\+deb[0-9]+-arm64$' | sed 's/^linux-binary-\([^ ]*\) .*/\1/' | sort -V | tail -n 1)
if [ "$(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1)" != "$oldest" ]; then
    echo "$release-backports has no kernel from $oldest on" >&2
    exit 1
fi
(cd "$apt/packages" && apt-get download -qq "linux-binary-$version" "linux-modules-$version" busybox-static)
apt-get install -qq --download-only -y --no-install-recommends systemd >/dev/null
for package in "$apt/packages/"*.deb "$apt/cache/archives/"*.deb; do
    dpkg-deb -x "$package" "$dir/root.new"
done
depmod -b "$dir/root.new/usr" "$version" 2>"$dir/depmod.log"
rm -rf "$dir/apt"
mv "$dir/root.new" "$dir/root"
