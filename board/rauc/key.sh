#!/bin/sh
# key.sh FOLDER: who signs system updates: FOLDER/system.key, which stays, and FOLDER/system.pem, which goes to /etc/fcam/system.pem of every camera.
# One certificate that signs itself is enough for a few cameras; a seller has an authority, and certificates that end.
set -eu
folder=$1
[ ! -e "$folder/system.key" ] || exit 0
mkdir -p "$folder"
(
    umask 077
    openssl req -x509 -newkey rsa:3072 -nodes -keyout "$folder/system.key" -out "$folder/system.pem" -days 7300 -subj "/CN=fcam systems" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,digitalSignature,keyCertSign -addext extendedKeyUsage=emailProtection 2>/dev/null
)
chmod 644 "$folder/system.pem"
