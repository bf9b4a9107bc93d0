# shellcheck shell=sh
# The card image of the Raspberry Pi 4 (board/image).

# What the card's root file system has beside the station.
IMAGE_PACKAGES="e2fsprogs fdisk iproute2 kmod libgcc-s1 libubootenv-tool openssh-server openssl rauc rauc-service
    systemd-resolved systemd-timesyncd"
# What is unpacked beside it: kernel, firmware, boot loaders (QEMU's is for the test). Debian's names change with the kernel's version.
IMAGE_PARTS="^linux-image-6[0-9.]*\\+deb13[0-9.]*-arm64\$ ^u-boot-rpi\$ ^u-boot-qemu\$ ^raspi-firmware\$ ^busybox-static\$"

image() {
    case "${1:-}" in
        rpi) image_rpi ;;
        test) shift && image_test "$@" ;;
        *) echo "./dev image rpi | test" >&2 && exit 2 ;;
    esac
}

# have TOOL PACKAGE...: pairs; says all that is missing.
have() {
    missing=
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || missing="$missing $1 (Debian: $2)"
        shift 2
    done
    [ -z "$missing" ] || { echo "./dev image needs$missing" >&2 && exit 1; }
}

image_rpi() {
    if command -v apt-get >/dev/null; then
        packages arch-test cpio dosfstools e2fsprogs genimage kmod mmdebstrap mtools openssl python3 qemu-user-static u-boot-tools xz-utils
    fi
    PATH="$PATH:/usr/sbin:/sbin"
    have apt-get apt cpio cpio depmod kmod genimage genimage mcopy mtools mkenvimage u-boot-tools mkfs.vfat dosfstools mkimage u-boot-tools mke2fs e2fsprogs \
        mmdebstrap mmdebstrap openssl openssl python3 python3 qemu-aarch64-static qemu-user-static xz xz-utils
    [ -f "$(newest_package)" ] || package_make
    say "the station is $(newest_package) (\"./dev package\" makes it anew)"
    [ -d "$IMAGE/parts" ] || say "kernel, firmware and boot loader of Debian (120 MB, once)"
    # shellcheck disable=SC2086
    board/image/fetch.sh "$IMAGE/parts" "main non-free-firmware" $IMAGE_PARTS
    [ -f "$IMAGE/card.tar" ] || say "Debian for 64-bit ARM in $IMAGE/card.tar (some minutes, once)"
    # shellcheck disable=SC2086
    as_root python3 board/image/foreign.py board/image/root.sh arm64 "$IMAGE/card.tar" $IMAGE_PACKAGES
    say "a slot"
    as_root python3 board/image/foreign.py board/image/slot.sh "$IMAGE/card.tar" "$IMAGE/parts" "$(newest_package)" "$(fcam_version)" "$IMAGE/slot.ext4"
    say "the card"
    board/image/card.sh "$IMAGE/slot.ext4" "$IMAGE/parts" "$IMAGE/card.img"
    say "to flash: sudo dd if=$IMAGE/card.img of=/dev/sdX bs=4M conv=fsync status=progress (board/README.md)"
}

image_test() {
    [ -f "$IMAGE/card.img" ] || image_rpi
    if command -v apt-get >/dev/null; then
        packages e2fsprogs mtools openssh-client openssl python3-venv qemu-system-arm qemu-user rauc squashfs-tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    fi
    PATH="$PATH:/usr/sbin:/sbin"
    have debugfs e2fsprogs mcopy mtools mksquashfs squashfs-tools openssl openssl qemu-aarch64 qemu-user qemu-system-aarch64 qemu-system-arm rauc rauc \
        scp openssh-client ssh-keygen openssh-client
    need_python
    say "system updates and bundles, good and bad"
    dpkg-deb --fsys-tarfile "$(newest_package)" | tar -xO ./usr/bin/fcam >"$IMAGE/fcam"
    chmod +x "$IMAGE/fcam"
    board/image/updates.sh "$IMAGE/slot.ext4" "$IMAGE/trial" "$IMAGE/fcam"
    cp "$IMAGE/parts/root/usr/lib/u-boot/qemu_arm64/u-boot.bin" "$IMAGE/u-boot.bin"
    say "the card on an emulated machine"
    "$VENV/bin/python" board/image/trial.py "$IMAGE" "$@"
}
