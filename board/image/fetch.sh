#!/bin/sh
# fetch.sh DIR COMPONENTS PACKAGE...: the files of Debian's packages for 64-bit ARM, each unpacked in DIR. What is there is kept, and its age said.
# A pattern in place of a package's name takes the newest that matches it (apt-cache's regular expressions).
# It refuses to touch this machine's own package sources: apt works on a root of its own, and only its mirror is taken from them.
set -eu
dir=$1
components=$2
shift 2
if [ -d "$dir" ]; then
    echo "$dir is kept: Debian as of $(date -r "$dir" +%F), $((($(date +%s) - $(stat -c %Y "$dir")) / 86400)) days old; remove it for newer packages"
    exit 0
fi
release=trixie

# The mirror of what this machine has under a label.
mirror_of() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Label: $1" 2>/dev/null | sort -u | head -n 1; }
mirror=$(mirror_of Debian)
security=$(mirror_of Debian-Security)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
if [ -z "$mirror" ] || [ ! -f "$keyring" ]; then
    echo "no Debian mirror: this needs Debian, its keyring, and its package lists (\"apt-get update\")" >&2
    exit 1
fi
rm -rf "$dir.new"
mkdir -p "$dir.new/apt/lists/partial" "$dir.new/apt/cache/archives/partial" "$dir.new/packages" "$dir.new/root"
apt=$(cd "$dir.new/apt" && pwd)
cat >"$apt/debian.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: $release
Components: $components
Architectures: arm64
Signed-By: $keyring
SOURCES
if [ -n "$security" ]; then
    sed "s|^URIs:.*|URIs: $security|; s|^Suites:.*|Suites: $release-security|" "$apt/debian.sources" >"$apt/security"
    { echo && cat "$apt/security"; } >>"$apt/debian.sources"
else
    echo "without Debian's security updates: this machine has no source of them"
fi
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
CONF
export APT_CONFIG="$apt/apt.conf"
apt-get update -qq
for wanted in "$@"; do
    package=$(apt-cache search --names-only "$wanted" | cut -d' ' -f1 | sort -V | tail -n 1)
    [ -n "$package" ] || { echo "$release has no package $wanted" >&2 && exit 1; }
    (cd "$dir.new/packages" && apt-get download -qq "$package")
done
for package in "$dir.new/packages/"*.deb; do
    dpkg-deb -x "$package" "$dir.new/root"
    dpkg-deb -W "$package" >>"$dir.new/packages.list"
done
rm -rf "$apt" "$dir.new/packages"
mv "$dir.new" "$dir"
