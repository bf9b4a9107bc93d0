#!/bin/sh
# package_test.sh ROOT.tar OLD.deb NEW.deb: installs, upgrades, removes and purges the package in a root file system, and looks.
# As root; for another processor inside foreign.py.
set -eu
# Its mounts are seen by nobody else, and gone with it.
[ -n "${FCAM_MOUNTS:-}" ] || FCAM_MOUNTS=own exec unshare --mount "$0" "$@"
base=$1
old=$2
new=$3
root=$(mktemp -d "$(dirname "$base")/package.XXXXXX")
clean() {
    umount --recursive "$root/proc" 2>/dev/null || umount --lazy "$root/proc" 2>/dev/null
    mountpoint -q "$root/proc" || rm -rf --one-file-system "$root" "$root.before" "$root.after" "$root.log"
}
trap clean EXIT
trap 'exit 1' INT TERM

fail() { echo "not ok - $*" >&2 && exit 1; }
ok() {
    name=$1 && shift
    "$@" || fail "$name"
    echo "ok - $name"
}
not() { ! "$@"; }
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
apt() {
    inside apt-get -q -y --allow-downgrades -o Dpkg::Options::=--force-confold -o APT::Sandbox::User=root "$@" >"$root.log" 2>&1 ||
        { cat "$root.log" >&2 && false; }
}
# Everything that is there, with its owner and mode; not what dpkg and apt keep for themselves, nor users, which stay.
listing() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./tmp -o -path ./var/lib/dpkg -o -path ./var/lib/apt -o -path ./var/cache -o -path ./var/log -o -path ./run \) -prune \
        -o -printf '%p %M %u %g %l\n' | grep -v -E '^\./etc/(passwd|group|shadow|gshadow|subuid|subgid|\.pwd\.lock|ld\.so\.cache)-? ' |
        grep -v -E '^\./(etc|root|var/lib/systemd/deb-systemd-helper-enabled) ' | sort)
}
status() { inside dpkg-query -W -f '${db:Status-Status} ${Version}' fcam; }
version() { dpkg-deb -f "$1" Version; }
# Numbers of the root file system's own users mean nothing outside: names are looked up inside.
owned() { [ "$(inside stat -c '%a %U %G' "$1")" = "$2" ]; }
of_this_program() {
    python3 -c 'import hashlib, json, sys
top = json.load(open(sys.argv[1]))["metadata"]["component"]
sys.exit(top["hashes"][0]["content"] != hashlib.sha256(open(sys.argv[2], "rb").read()).hexdigest())' \
        "$root/usr/share/doc/fcam/sbom.cdx.json" "$root/usr/bin/fcam"
}
in_group() { inside id -nG fcam | tr ' ' '\n' | grep -q -x "$1"; }

tar -C "$root" --numeric-owner --exclude='./dev/*' -xf "$base"
mount --rbind /proc "$root/proc" || mount -t proc proc "$root/proc"
[ -e "$root/dev/null" ] || : >"$root/dev/null"
cp "$old" "$new" "$root/tmp"
listing >"$root.before"

apt install "/tmp/$(basename "$old")" || fail "apt install ./fcam_*.deb"
echo "ok - apt install ./fcam_*.deb"
ok "it is the old version" [ "$(status)" = "installed $(version "$old")" ]
ok "the station starts with the system" test -L "$root/etc/systemd/system/multi-user.target.wants/fcam.service"
for group in video dialout gpio; do
    ok "the station's user is in group $group" in_group "$group"
done
ok "its state is its own" owned /var/lib/fcam "750 fcam fcam"
ok "keys that are trusted are root's" owned /etc/fcam/keys "755 root root"
ok "its station file has nothing wrong" inside runuser -u fcam -- fcam check /etc/fcam/station.toml
ok "it says what is in it" test -s "$root/usr/share/doc/fcam/sbom.cdx.json" -a -s "$root/usr/share/doc/fcam/licences.txt"
ok "the SBOM is JSON, and of this program" of_this_program

echo '# of this site' >>"$root/etc/fcam/station.toml"
inside runuser -u fcam -- touch /var/lib/fcam/bundles/kept
ok "an upgrade" apt install "/tmp/$(basename "$new")"
ok "it is the new version" [ "$(status)" = "installed $(version "$new")" ]
ok "the site's station file stays" grep -q 'of this site' "$root/etc/fcam/station.toml"
ok "what was installed on the camera stays" test -f "$root/var/lib/fcam/bundles/kept"
ok "going back to the old version" apt install "/tmp/$(basename "$old")"

ok "removing it" apt remove fcam
ok "the program is gone" not test -e "$root/usr/bin/fcam"
ok "station file and state stay" test -f "$root/etc/fcam/station.toml" -a -f "$root/var/lib/fcam/bundles/kept"
ok "purging it" apt purge fcam
listing >"$root.after"
ok "nothing is left of it but its user" diff "$root.before" "$root.after"
