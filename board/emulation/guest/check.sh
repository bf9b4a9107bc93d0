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

# within SECONDS COMMAND ...: good once the command succeeds, tried ten times a second.
within() {
    tries=$(($1 * 10))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        usleep 100000
    done
}

# value FILE: its first line.
value() { head -n 1 "$1"; }

# is FILE TEXT: good if that is its first line.
is() { [ "$(value "$1")" = "$2" ]; }
