#!/bin/sh
# fw_printenv of libubootenv 0.3.2 (Debian 12), which reads U-Boot's state from Linux. The guess: it fails for a name that is not there, as U-Boot's own tool does, so that
# "fw_printenv -n NAME || echo 0" has a value in any case. Seen: it prints "NAME=" and exits with 0, with -n an empty line: a missing name is an empty one, and what follows || never runs.
# Source: the package, by running it on an environment in a file.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian libubootenv-tool u-boot-tools
version libubootenv-tool 0.3.2-1
printf 'BOOT_A_LEFT=3\n' >"$place/text"
mkenvimage -s 4096 -o "$place/state" "$place/text"
echo "$place/state 0 0x1000" >"$place/config"
printed=$(fw_printenv -c "$place/config" BOOT_B_LEFT) && code=0 || code=$?
value=$(fw_printenv -n -c "$place/config" BOOT_B_LEFT || echo 0)
echo "a name that is there: $(fw_printenv -c "$place/config" BOOT_A_LEFT)"
echo "one that is not: \"$printed\", exit code $code; \"fw_printenv -n NAME || echo 0\": \"$value\""
[ "$printed $code $value" = "BOOT_B_LEFT= 0 " ] || { echo "it is not as it was" && exit 1; }
