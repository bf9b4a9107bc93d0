#!/bin/sh
# slot.sh BASE.tar PARTS FCAM.deb VERSION OUT.ext4: the root file system of one slot, kernel included. As root, inside foreign.py.
# BASE.tar is root.sh's, PARTS what fetch.sh unpacked.
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
base=$1
parts=$2
package=$3
version=$4
out=$5
size_mb=768

[ -n "${FCAM_MOUNTS:-}" ] || FCAM_MOUNTS=own exec unshare --mount "$0" "$@"
root=$(mktemp -d "$(dirname "$out")/root.XXXXXX")
unmount() { umount --recursive "$root/proc" 2>/dev/null || umount --lazy "$root/proc" 2>/dev/null || true; }
clean() {
    unmount
    mountpoint -q "$root/proc" || rm -rf --one-file-system "$root"
}
trap clean EXIT
trap 'exit 1' INT TERM
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }

chmod 755 "$root"
tar -C "$root" --numeric-owner --exclude='./dev/*' -xf "$base"
mount --rbind /proc "$root/proc" || mount -t proc proc "$root/proc"
# The same numbers in each system: what the station owns is on the data partition, which all have in common.
inside groupadd --system --gid 401 fcam
inside groupadd --system --gid 402 gpio
inside useradd --system --uid 401 --gid 401 --home-dir /var/lib/fcam --no-create-home --shell /usr/sbin/nologin --comment "inspection station" fcam
cp "$package" "$root/tmp/fcam.deb"
inside dpkg --install /tmp/fcam.deb >/dev/null
rm "$root/tmp/fcam.deb"

# The kernel and its modules are unpacked, not installed: nothing in the image builds an initramfs. What they are is listed.
modules=$(find "$parts/root" -type d -path '*lib/modules/*-arm64' | head -n 1)
kernel=$(basename "$modules")
mkdir -p "$root/usr/lib/modules"
cp -R "$modules" "$root/usr/lib/modules/"
# What an inspection camera has no hardware for.
for unused in drivers/gpu drivers/infiniband drivers/isdn drivers/net/wireless drivers/scsi drivers/nvme drivers/accel drivers/iio drivers/thunderbolt \
    drivers/net/ethernet/mellanox drivers/net/ethernet/intel drivers/net/ethernet/broadcom/bnxt drivers/net/ethernet/chelsio drivers/net/ethernet/cavium \
    drivers/media/tuners drivers/media/dvb-frontends drivers/media/pci drivers/bluetooth net/bluetooth net/mac80211 net/wireless sound \
    fs/btrfs fs/xfs fs/ocfs2 fs/gfs2 fs/ceph fs/smb fs/nfs fs/nfsd fs/jfs fs/f2fs fs/bcachefs fs/ubifs; do
    rm -rf "$root/usr/lib/modules/$kernel/kernel/$unused"
done
depmod -b "$root/usr" "$kernel" 2>/dev/null
cp "$(find "$parts/root/boot" -name 'vmlinuz-*')" "$root/boot/Image"
"$here/initramfs.sh" "$parts/root/usr/bin/busybox" "$root" "$root/boot/initramfs.gz"
install -D -m 644 "$parts/packages.list" "$root/usr/share/doc/fcam-image/unpacked.list"

cp -R "$here/root/." "$root"
chown -R 0:0 "$root/usr/lib/fcam-image" "$root/etc/rauc"
ln -s /run/fcam-image/fw_env.config "$root/etc/fw_env.config"
# Nobody logs in with a password; keys, name and number are each camera's own.
inside passwd --lock --quiet root
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id" "$root"/etc/systemd/network/*
: >"$root/etc/machine-id"
echo fcam >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
: >"$root/etc/fstab"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
mkdir -p "$root/etc/rauc-hawkbit-updater" "$root/var/lib/rauc" "$root/var/log/journal"
install -d -m 700 "$root/root/.ssh" "$root/var/lib/fcam-image"
inside systemctl enable --quiet fcam-first-boot.service fcam-good.service ssh.service systemd-networkd.service systemd-resolved.service systemd-timesyncd.service
# Both wait for a configuration that a site makes, or for what this image has in its place.
inside systemctl disable --quiet ssh.socket rauc-hawkbit-updater.service systemd-networkd-wait-online.service 2>/dev/null || true
inside systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-logind.service \
    dev-hugepages.mount proc-sys-fs-binfmt_misc.automount sys-kernel-debug.mount sys-kernel-tracing.mount
# Neither ssh on a local socket, nor partitions that are mounted by what they say they are.
mkdir -p "$root/etc/systemd/system-generators"
for generator in systemd-ssh-generator systemd-gpt-auto-generator; do
    ln -s /dev/null "$root/etc/systemd/system-generators/$generator"
done
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/*-old "$root"/usr/share/doc/*/changelog* "$root"/tmp/*
# A board without a battery starts at this time, until the network tells it better.
touch "$root/usr/lib/clock-epoch"
unmount

# Nothing is newer than what systemd would make of it again at each start (ConditionNeedsUpdate=).
touch "$root/usr"
touch "$root/etc/.updated" "$root/var/.updated"

# The system's name: its version, and what is in it.
echo "$version-$(tar -C "$root" --sort=name --mtime=@0 --exclude=./proc -cf - . | sha256sum | cut -c1-12)" >"$root/usr/lib/fcam-image/id"
rm -f "$out"
mke2fs -q -F -t ext4 -O '^metadata_csum_seed,^orphan_file' -m 0 -L fcam-root -d "$root" "$out" "${size_mb}M" >/dev/null
echo "$out: system $(cat "$root/usr/lib/fcam-image/id"), kernel $kernel, $(du -sm "$root" | cut -f1) of $size_mb MB"
