#!/bin/sh
# run.sh DIGITS: those of the chosen chapters whose number begins with one of these digits.
# To the host: 3 carries checks and what the host is asked to do. What programs print goes to the console, which the host keeps.
exec 3<>/dev/ttyS2
. /chapters/check.sh
for chapter in $(sed -n 's/.*chapters=\([^ ]*\).*/\1/p' /proc/cmdline | tr ',' ' '); do
    # shellcheck disable=SC2231 # $1 is a pattern
    for script in /chapters/$1[0-9]-"$chapter".sh; do
        [ -f "$script" ] || continue
        say "# $chapter at $(cut -d' ' -f1 /proc/uptime) s"
        # shellcheck disable=SC1090
        (. "$script")
    done
done
