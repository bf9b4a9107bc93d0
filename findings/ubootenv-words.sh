#!/bin/sh
# fw_setenv of libubootenv 0.3.2 (Debian 12), in the place of U-Boot's own tool of that name. The guess: it takes the same arguments and scripts. Seen: words after NAME, which U-Boot's
# tool joins to one value, are read as further pairs: "fw_setenv order A limit" stores "A" and deletes limit. Of a script (-s), lines "NAME value" and "NAME", which U-Boot's
# documentation gives for setting and deleting, do nothing, and blanks around "=" become part of name and value. Each of these exits with 0. Source: U-Boot's documentation of
# its environment's tools; by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian libubootenv-tool u-boot-tools
version libubootenv-tool 0.3.2-1
printf 'order=B A\nlimit=3\n' >"$place/text"
mkenvimage -s 4096 -o "$place/state" "$place/text"
echo "$place/state 0 0x1000" >"$place/config"
state() { fw_printenv -c "$place/config" | sort | sed 's/.*/"&"/' | paste -sd ' '; }
seen=$(
    echo "before: $(state)"
    fw_setenv -c "$place/config" order A limit
    echo "after \"fw_setenv order A limit\": $(state)"
    printf 'mode run\norder\nslot = A\nleft=2\n' >"$place/script"
    fw_setenv -c "$place/config" -s "$place/script"
    echo "after a script of \"mode run\", \"order\", \"slot = A\" and \"left=2\": $(state)"
)
echo "$seen"
[ "$seen" = 'before: "limit=3" "order=B A"
after "fw_setenv order A limit": "order=A"
after a script of "mode run", "order", "slot = A" and "left=2": "left=2" "order=A" "slot = A"' ] || { echo "it is not as it was" && exit 1; }
