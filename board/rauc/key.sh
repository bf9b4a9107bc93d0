#!/bin/sh
# key.sh FOLDER: who signs system updates: FOLDER/system.key, which stays, and FOLDER/system.pem, which goes to /etc/fcam/system.pem of every camera.
# A pair that is there is kept. It refuses to complete half of one: cameras trust the certificate that they have.
# One certificate that signs itself is enough for a few cameras; a seller has an authority, and certificates that end.
set -eu
folder=$1
mkdir -p "$folder"
there=
for file in system.key system.pem; do
    [ ! -s "$folder/$file" ] || there="$there $file"
done
case "$there" in
    " system.key system.pem") exit 0 ;;
    ?*) echo "$folder has$there alone: bring the other one back, or remove it for a new pair, whose system.pem every camera then needs" >&2 && exit 1 ;;
esac

# Both are made aside, so that what fails leaves nothing.
work=$(mktemp -d "$folder/key.XXXXXX")
trap 'rm -rf "$work"' EXIT
(
    umask 077
    openssl req -x509 -newkey rsa:3072 -nodes -keyout "$work/system.key" -out "$work/system.pem" -days 7300 -subj "/CN=fcam systems" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,digitalSignature,keyCertSign -addext extendedKeyUsage=emailProtection
) >"$work/log" 2>&1 || { cat "$work/log" >&2 && exit 1; }
chmod 644 "$work/system.pem"
mv "$work/system.pem" "$work/system.key" "$folder"
