# The words that chapters are written in. A chapter lists its checks in lines that begin with `#: `; the host misses each one that is not reported.

say() { echo "$*" >&3; }

# check NAME COMMAND ...: one line to the host, good if the command succeeds.
check() {
    checked=$1
    shift
    echo "check: $checked"
    if "$@"; then say "ok - $checked"; else say "not ok - $checked"; fi
}

# host WORD ...: the host does its part; good if it says so. Why not is told by the host.
# A loop keeps a processor busy until then: the time of an idle machine runs ahead of the host's, that of a busy one does not.
host() {
    say "host $*"
    while :; do :; done &
    busy=$!
    # shellcheck disable=SC3045 # busybox has it
    read -r -t 240 answer <&3
    kill $busy
    wait $busy 2>/dev/null
    [ "$answer" = ok ]
}

# within SECONDS COMMAND ...: good once the command succeeds. No process is made but the command's and a nap's: emulated, each costs milliseconds.
within() {
    seconds=$1
    shift
    read -r now _ </proc/uptime
    end=$((${now%.*} + seconds + 1))
    until "$@"; do
        read -r now _ </proc/uptime
        [ "${now%.*}" -lt "$end" ] || return 1
        usleep 20000
    done
}

# high NAME, low NAME: the level of a line, as the simulator has it.
high() { read -r driven <"/tmp/line/$1/value" && [ "$driven" = 1 ]; }
low() { read -r driven <"/tmp/line/$1/value" && [ "$driven" = 0 ]; }

# trigger up|down: the level of the line TRIGGER.
trigger() { echo "pull-$1" >/tmp/line/TRIGGER/pull; }

# levels: those of all lines, for people.
levels() {
    for line in /tmp/line/*; do
        printf '%s=%s ' "${line##*/}" "$(cat "$line/value")"
    done
}
