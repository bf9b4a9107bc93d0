#!/bin/sh
# updates.sh SLOT.ext4 FOLDER FCAM: what trial.py gives to the camera: system updates, good and bad, and bundles for the station.
# FCAM is the board's program, which FOLDER/fcam runs under emulation. Existing system updates of the same slot are kept.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
slot=$1
folder=$2
fcam=$(cd "$(dirname "$3")" && pwd)/$(basename "$3")
rauc=$here/../rauc
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
program=$folder/fcam
printf '#!/bin/sh\nexec qemu-aarch64 -cpu cortex-a72 -L /usr/aarch64-linux-gnu "%s" "$@"\n' "$fcam" >"$program"
chmod +x "$program"
"$rauc/key.sh" "$folder/keys"
"$rauc/key.sh" "$folder/strangers"

# altered NAME COMMANDS...: the slot with some files replaced, as an update.
altered() {
    name=$1
    shift
    cp --sparse=always "$slot" "$folder/$name.ext4"
    printf '%s\n' "$@" | debugfs -w -f - "$folder/$name.ext4" >"$folder/debugfs.log" 2>&1
    "$rauc/bundle.sh" "$folder/$name.ext4" "$folder/keys/system.pem" "$folder/keys/system.key" "trial-$name" "$folder/$name.raucb"
    rm "$folder/$name.ext4"
}
if [ "$(cat "$folder/slot.time" 2>/dev/null)" != "$(stat -c %Y "$slot")" ]; then
    for name in good sick; do
        echo "trial-$name" >"$folder/id.$name"
    done
    # Another name, and nothing else.
    altered good "rm /usr/lib/fcam-image/id" "write $folder/id.good /usr/lib/fcam-image/id"
    # A station that ends at once.
    printf '#!/bin/sh\nexit 1\n' >"$folder/fcam.sick"
    altered sick "rm /usr/lib/fcam-image/id" "write $folder/id.sick /usr/lib/fcam-image/id" "rm /usr/bin/fcam" "write $folder/fcam.sick /usr/bin/fcam" \
        "sif /usr/bin/fcam mode 0100755"
    # No systemd: the kernel panics.
    altered dead "rm /usr/lib/systemd/systemd"
    head -c 1000000 /dev/urandom >"$folder/small.ext4"
    "$rauc/bundle.sh" "$folder/small.ext4" "$folder/strangers/system.pem" "$folder/strangers/system.key" trial-forged "$folder/forged.raucb"
    stat -c %Y "$slot" >"$folder/slot.time"
fi

# Releases of the tests' small bundle: two in a row, an older one, one that another key has signed, one that was changed on its way; then the default
# bundle, which takes seconds a part, emulated.
rm -rf "$folder/bundles"
mkdir "$folder/bundles"
tiny=$(cd "$here/../../tests/common/tiny" && pwd)
default=$(cd "$here/../../models/default" && pwd)
cd "$folder/bundles"
for key in shop stranger; do
    "$program" bundle keygen --no-password --secret "$key.key" --public "$key.pub" >/dev/null
done
# release NAME DIR COUNTER KEY
release() {
    cp -R "$2" model
    sed -i "s/^version = .*/version = \"1.0.$3\"/" model/manifest.toml
    "$program" bundle pack model --out "$1.fcam" >/dev/null
    rm -rf model
    "$program" bundle sign "$1.fcam" --key "$4.key" --counter "$3" >/dev/null
}
release old "$tiny" 4 shop
release first "$tiny" 5 shop
release second "$tiny" 6 shop
release strange "$tiny" 7 stranger
release changed "$tiny" 8 shop
release default "$default" 1 shop
printf 'x' | dd of=changed.fcam bs=1 seek=$(($(stat -c %s changed.fcam) / 2)) conv=notrunc status=none
