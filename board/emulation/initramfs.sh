#!/bin/sh
# In: the folder that debian.sh filled, and the program. Out: `initramfs` and `vmlinuz` in that folder: busybox and systemd, kernel modules in the
# order of their loading, the program, the tests' small bundle, and the chapters of guest/. Modules are decompressed here: emulated, that takes seconds.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
fcam=$2
root=$dir/root/usr
modules="vivid gpio-sim i6300esb softdog virtio_net"

version=$(basename "$root"/lib/modules/*)
ln -sf "root/usr/lib/modules/$version/vmlinuz" "$dir/vmlinuz"
tree=$dir/tree
rm -rf "$tree"
for folder in usr/bin usr/lib/systemd/system proc sys dev run tmp var/tmp etc modules chapters; do
    mkdir -p "$tree/$folder"
done
ln -s usr/bin usr/lib "$tree"
cp "$root/bin/busybox" "$tree/bin/busybox"
ln -s busybox "$tree/bin/sh"
cp "$root/bin/systemctl" "$tree/bin/systemctl"
cp -a "$root/lib/ld-linux-aarch64.so.1" "$tree/lib"
for program in systemd systemd-executor systemd-shutdown; do
    cp "$root/lib/systemd/$program" "$tree/lib/systemd"
done
# No unit of Debian's that would start anything.
cp "$root"/lib/systemd/system/*.target "$root"/lib/systemd/system/*.slice "$tree/lib/systemd/system"
mkdir -p "$tree/lib/aarch64-linux-gnu"
cp -a "$root"/lib/aarch64-linux-gnu/*.so* "$root/lib/aarch64-linux-gnu/systemd" "$tree/lib/aarch64-linux-gnu"
aarch64-linux-gnu-strip -o "$tree/bin/fcam" "$fcam"

for module in $modules; do
    modprobe -d "$root" -S "$version" --show-depends "$module" | sed -n 's/^insmod //p'
done | awk '!seen[$1]++ { print $1 }' >"$dir/order"
while read -r module; do
    name=$(basename "$module" .xz)
    xz -dc "$module" >"$tree/modules/$name"
    echo "${name%.ko}" >>"$tree/modules/order"
done <"$dir/order"

cp "$here"/guest/*.sh "$tree/chapters/"
cp -R "$here/guest/etc/." "$tree/etc"
cp -R "$here/../../tests/common/tiny" "$tree/tiny"
# The default bundle, to be proven with the first and the last of its pictures: emulated, each takes seconds, and `./dev test` proves it with all.
bundle=$here/../../models/default
cp -R "$bundle" "$tree/default"
awk 'NR == FNR { last += /^\[\[golden\]\]/; next }
    /^\[\[golden\]\]/ { picture++ }
    /^\[/ { skip = /^\[\[golden\]\]/ && picture > 1 && picture < last }
    !skip' "$bundle/manifest.toml" "$bundle/manifest.toml" >"$tree/default/manifest.toml"
cp "$here/guest/chapters.service" "$here/../systemd/fcam.service" "$tree/lib/systemd/system"
cp "$here/guest/init" "$tree/init"
chmod +x "$tree/init" "$tree/chapters/run.sh"
(cd "$tree" && find . | cpio --quiet -o -H newc) >"$dir/initramfs"
