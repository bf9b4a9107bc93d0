#!/bin/sh
# In: the folder that kernel.sh filled, and the program. Out: `initramfs` and `vmlinuz` in that folder: busybox, kernel modules in the order of
# their loading, the program with its libraries, and the chapters of guest/. Modules are decompressed here: emulated, that takes seconds.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
program=$2
libc=${3:-/usr/aarch64-linux-gnu}
modules="vivid gpio-sim i6300esb softdog virtio_net"

version=$(basename "$dir"/root/usr/lib/modules/*)
ln -sf "root/usr/lib/modules/$version/vmlinuz" "$dir/vmlinuz"
tree=$dir/tree
rm -rf "$tree"
mkdir -p "$tree/bin" "$tree/lib" "$tree/proc" "$tree/sys" "$tree/dev" "$tree/tmp" "$tree/modules" "$tree/chapters"
cp "$dir/root/usr/bin/busybox" "$tree/bin/busybox"
ln -s busybox "$tree/bin/sh"

for module in $modules; do
    modprobe -d "$dir/root/usr" -S "$version" --show-depends "$module" | sed -n 's/^insmod //p'
done | awk '!seen[$1]++ { print $1 }' >"$dir/order"
while read -r module; do
    name=$(basename "$module" .xz)
    xz -dc "$module" >"$tree/modules/$name"
    echo "${name%.ko}" >>"$tree/modules/order"
done <"$dir/order"

aarch64-linux-gnu-strip -o "$tree/bin/fcam" "$program"
for library in ld-linux-aarch64.so.1 $(aarch64-linux-gnu-readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    cp -L "$libc/lib/$library" "$tree/lib/$library"
done
cp "$here"/guest/*.sh "$tree/chapters/"
cp "$here/guest/init" "$tree/init"
chmod +x "$tree/init"
(cd "$tree" && find . | cpio --quiet -o -H newc) >"$dir/initramfs"
