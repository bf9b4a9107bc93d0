#!/bin/sh
# card.sh SLOT.ext4 PARTS OUT.img: the card: firmware, U-Boot, two slots, data. PARTS is what fetch.sh unpacked. genimage writes it, without root and
# without mounts.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
slot=$1
parts=$2/root
out=$3
boot_mb=64
data_mb=512
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/boot/overlays" "$work/empty" "$work/in"

# What the Raspberry Pi's firmware reads: itself, the board's device tree, and U-Boot in place of a kernel.
cp "$parts"/usr/lib/raspi-firmware/start4.elf "$parts"/usr/lib/raspi-firmware/fixup4.dat "$work/boot"
find "$parts" -name 'bcm2711-rpi-*.dtb' -exec cp {} "$work/boot" \;
cp "$parts/usr/lib/u-boot/rpi_arm64/u-boot.bin" "$work/boot"
printf 'arm_64bit=1\nenable_uart=1\nupstream_kernel=1\nkernel=u-boot.bin\n' >"$work/boot/config.txt"
mkimage -q -A arm64 -O linux -T script -C none -n fcam -d "$here/boot.cmd" "$work/boot/boot.scr" >/dev/null
cat >"$work/boot/README.txt" <<'TEXT'
An fcam inspection camera. Copy your public ssh keys to a file "authorized_keys" here, and root may log in with them after the next start; remove the
file, and ssh is off after the next start. There is no password.
TEXT
mkfs.vfat -F 32 -n FCAM -C "$work/in/boot.vfat" $((boot_mb * 1024)) >/dev/null
mcopy -s -i "$work/in/boot.vfat" "$work/boot"/* ::

# Slot A is there, B is empty. What boot.cmd and RAUC write down.
printf 'BOOT_ORDER=A B\nBOOT_A_LEFT=3\nBOOT_B_LEFT=0\n' | mkenvimage -s 0x1000 -o "$work/in/state.bin" -
truncate -s "${data_mb}M" "$work/in/data.ext4"
mke2fs -q -F -t ext4 -m 1 -L fcam-data "$work/in/data.ext4" >/dev/null
ln -s "$(cd "$(dirname "$slot")" && pwd)/$(basename "$slot")" "$work/in/slot.ext4"
# The disk's signature is how the slots are found (root/etc/rauc/system.conf).
cat >"$work/genimage.cfg" <<CONFIG
image card.img {
    hdimage { partition-table-type = "mbr" align = 1M disk-signature = 0xfca30001 }
    partition state { in-partition-table = false offset = 512K image = "state.bin" }
    partition boot { partition-type = 0xC bootable = true image = "boot.vfat" }
    partition root-a { partition-type = 0x83 image = "slot.ext4" }
    partition root-b { partition-type = 0x83 size = $(stat -L -c %s "$slot") }
    partition data { partition-type = 0x83 image = "data.ext4" }
}
CONFIG
genimage --loglevel 1 --config "$work/genimage.cfg" --rootpath "$work/empty" --tmppath "$work/tmp" --inputpath "$work/in" --outputpath "$work/out" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2 && exit 1; }
mv "$work/out/card.img" "$out"
echo "$out: $(stat -c '%s %b' "$out" | awk '{ printf "%.0f MB, %.0f MB of it written", $1 / 1e6, $2 * 512 / 1e6 }')"
echo "  state    512 KiB from the start, 4 KiB: which slot U-Boot starts"
echo "  1 boot   $boot_mb MiB, FAT: firmware, U-Boot, authorized_keys"
echo "  2 root-a $(($(stat -L -c %s "$slot") >> 20)) MiB, ext4: $(basename "$slot")"
echo "  3 root-b $(($(stat -L -c %s "$slot") >> 20)) MiB, empty"
echo "  4 data   $data_mb MiB, ext4: grows to the card's end at the first start"
