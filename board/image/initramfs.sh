#!/bin/sh
# initramfs.sh BUSYBOX ROOT OUT: the kernel's first file system: a static busybox, what disks need, and init. ROOT is the root file system that
# the modules are of.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
busybox=$1
root=$2
out=$3
# The card slot of a Raspberry Pi 4 with its clocks and voltages, disks of QEMU, the file systems, and the board's watchdog. What a kernel has
# built in, or not at all, is left out.
modules="bcm2835-mailbox raspberrypi clk-raspberrypi clk-bcm2711-dvp gpio-raspberrypi-exp gpio-regulator fixed reset-raspberrypi sdhci-iproc bcm2835
    mmc_block bcm2835_wdt virtio_pci virtio_mmio virtio_blk virtio_rng ext4 crc32c_generic crc32c-cryptoapi overlay nls_ascii nls_cp437"

version=$(basename "$root"/usr/lib/modules/*)
work=$(mktemp -d)
trap 'rm -rf "$work" "$work.order"' EXIT
for folder in bin modules proc sys dev run; do
    mkdir -p "$work/$folder"
done
cp "$busybox" "$work/bin/busybox"
for module in $modules; do
    modprobe -d "$root/usr" -S "$version" --show-depends "$module" 2>/dev/null | sed -n 's/^insmod //p' || true
done | awk '!seen[$1]++ { print $1 }' >"$work.order"
# Unpacked here: on a small board that takes longer.
while read -r module; do
    name=$(basename "$module")
    name=${name%%.ko*}
    case "$module" in
        *.xz) xz -dc "$module" >"$work/modules/$name.ko" ;;
        *) cp "$module" "$work/modules/$name.ko" ;;
    esac
    echo "$name" >>"$work/modules/order"
done <"$work.order"
for needed in virtio_blk sdhci-iproc mmc_block ext4 overlay; do
    grep -q -x "$needed" "$work/modules/order" || grep -q "/$(echo "$needed" | tr _- ..).ko" "$root/usr/lib/modules/$version/modules.builtin" ||
        { echo "kernel $version has no module $needed" >&2 && exit 1; }
done
install -m 755 "$here/init" "$work/init"
(cd "$work" && find . -print0 | LC_ALL=C sort -z | cpio --null --quiet --reproducible -o -H newc --owner=0:0) | gzip -9n >"$out"
