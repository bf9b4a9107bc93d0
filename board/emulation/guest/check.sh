# The words that chapters are written in. A chapter lists its checks in lines that begin with `#: `; the host misses each one that is not reported.

say() { echo "$*" >&3; }

# check NAME COMMAND ...: one line to the host, good if the command succeeds.
check() {
    checked=$1
    shift
    echo "check: $checked"
    if "$@"; then say "ok - $checked"; else say "not ok - $checked"; fi
}

# host WORD ...: the host does its part; good if it says so within 60 seconds. Why not is told by the host.
host() {
    say "host $*"
    read -r -t 60 answer <&3 && [ "$answer" = ok ]
}

# within SECONDS COMMAND ...: good once the command succeeds, tried fifty times a second.
within() {
    tries=$(($1 * 50))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        usleep 20000
    done
}

# high NAME, low NAME: the level of a line, as the simulator has it.
high() { [ "$(cat "/tmp/line/$1/value")" = 1 ]; }
low() { [ "$(cat "/tmp/line/$1/value")" = 0 ]; }

# trigger up|down: the level of the line TRIGGER.
trigger() { echo "pull-$1" >/tmp/line/TRIGGER/pull; }

# levels: those of all lines, for people.
levels() {
    for line in /tmp/line/*; do
        printf '%s=%s ' "${line##*/}" "$(cat "$line/value")"
    done
}
