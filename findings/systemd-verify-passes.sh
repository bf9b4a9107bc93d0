#!/bin/sh
# systemd-analyze verify of systemd 252 (Debian 12), by which a changed service file is checked before a board restarts with it. The guess: an unknown key is a warning, a value that
# cannot be read (WatchdogSec=abc, ProtectSystem=stric, NoNewPrivileges=yess) is an error. Seen: each is "ignored" and the exit code 0, so that a script that checks by the code installs
# a service without its watchdog; only a program that is not there gives 1. Source: the manual page tells of warnings; by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian systemd
version systemd 252
export LD_LIBRARY_PATH="$LD_LIBRARY_PATH:$place/debian/usr/lib/${libraries##*/}/systemd:$place/debian/lib/${libraries##*/}/systemd"
for line in WatchdogSec=abc ProtectSystem=stric NoNewPrivileges=yess WatchdogSecs=3 ExecStartPre=/no/such/program; do
    printf '[Service]\nExecStart=/bin/true\n%s\n' "$line" >"$place/station.service"
    code=0
    systemd-analyze --man=no verify "$place/station.service" >"$place/told" 2>&1 || code=$?
    echo "$line: exit code $code, $(grep -c -e gnoring "$place/told" || true) line(s) of something ignored"
done | tee "$place/seen"
[ "$(cat "$place/seen")" = "WatchdogSec=abc: exit code 0, 1 line(s) of something ignored
ProtectSystem=stric: exit code 0, 1 line(s) of something ignored
NoNewPrivileges=yess: exit code 0, 1 line(s) of something ignored
WatchdogSecs=3: exit code 0, 1 line(s) of something ignored
ExecStartPre=/no/such/program: exit code 1, 0 line(s) of something ignored" ] || { echo "it is not as it was" && exit 1; }
