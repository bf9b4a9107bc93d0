#!/bin/sh
# overlay.sh ROOTFS FCAM.deb [STATION.toml]: lays the package over Linux_for_Tegra/rootfs, before NVIDIA's flash.sh writes it.
# As root, on Debian or Ubuntu for x86-64, with qemu-user-static. NVIDIA's tools and sample root file system are not part of this, and the whole was
# not tried with a Jetson: what was tried is the same script on a root file system of Debian's.
#   sudo board/jetson/overlay.sh .../Linux_for_Tegra/rootfs target/boards/fcam_0.1.0_arm64.deb board/jetson-orin-nano.toml
set -eu
[ $# -ge 2 ] || { sed -n 's/^# \{0,1\}//; 2,5p' "$0" >&2 && exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$1
package=$2
station=${3:-}

[ "$(id -u)" = 0 ] || { echo "the files of a root file system are root's: as root" >&2 && exit 1; }
for needed in "$package" $station; do
    [ -f "$needed" ] || { echo "no file $needed" >&2 && exit 1; }
done
[ -x "$root/usr/bin/dpkg" ] || { echo "$root is no root file system: NVIDIA's sample root file system goes there first (apply_binaries.sh)" >&2 && exit 1; }
wanted=$(chroot "$root" /bin/true 2>/dev/null && echo here || echo foreign)
if [ "$wanted" = foreign ] && [ -z "${FCAM_FOREIGN:-}" ]; then
    FCAM_FOREIGN=1 exec python3 "$here/../image/foreign.py" "$0" "$@"
fi

# Its mounts are seen by nobody else, and gone with it.
[ -n "${FCAM_MOUNTS:-}" ] || FCAM_MOUNTS=own exec unshare --mount "$0" "$@"
mount --rbind /proc "$root/proc"
trap 'rm -f "$root/tmp/fcam.deb"' EXIT
cp "$package" "$root/tmp/fcam.deb"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
inside dpkg --install --force-confold /tmp/fcam.deb
# What the camera and the GPU of a Jetson need beyond the service's own limits.
install -D -m 644 "$here/fcam.conf" "$root/etc/systemd/system/fcam.service.d/jetson.conf"
if [ -n "$station" ]; then
    install -m 644 "$station" "$root/etc/fcam/station.toml"
    inside fcam check /etc/fcam/station.toml
fi
echo "$root has $(inside dpkg-query -W -f '${Package} ${Version}' fcam): flash it as NVIDIA tells"
