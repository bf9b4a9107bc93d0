#!/bin/sh
# updates.sh SLOT.ext4 FOLDER FCAM...: what trial.py gives to the camera: system updates, good and bad, and bundles for the station.
# FCAM is a command that runs the program here. Existing system updates of the same slot are kept.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
slot=$1
folder=$2
shift 2
rauc=$here/../rauc
mkdir -p "$folder"
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
    truncate -s 1M "$folder/small.ext4"
    "$rauc/bundle.sh" "$folder/small.ext4" "$folder/strangers/system.pem" "$folder/strangers/system.key" trial-forged "$folder/forged.raucb"
    stat -c %Y "$slot" >"$folder/slot.time"
fi

# Two releases of the default bundle, which differ in their version, a third one that another key has signed, and one that was changed on its way.
rm -rf "$folder/bundles"
mkdir "$folder/bundles"
cd "$folder/bundles"
for key in shop stranger; do
    "$@" bundle keygen --no-password --secret "$key.key" --public "$key.pub" >/dev/null
done
for release in 1 2 3; do
    cp -R "$here/../../models/default" model
    sed -i "s/^version = .*/version = \"2.0.$release\"/" model/manifest.toml
    "$@" bundle pack model --out "$release.fcam" >/dev/null
    rm -rf model
    key=shop
    [ $release -lt 3 ] || key=stranger
    "$@" bundle sign "$release.fcam" --key "$key.key" --counter "$release" >/dev/null
done
cp 2.fcam changed.fcam
printf 'x' | dd of=changed.fcam bs=1 seek=1000000 conv=notrunc status=none
