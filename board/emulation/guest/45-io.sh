# The hand at the lines: `fcam io` lists, reads and forces them, and keeps off while the station runs. And the lamp, which a trigger's edge lights.
#: fcam io lists the lines with their names
#: a line that is not there is told with the nearest names
#: an input is read, active low too
#: an output is forced for its time, and is inactive after it
#: an input is not forced, nor a line that the file does not name
#: a running station keeps its lines
#: each edge lights the lamp for its time

cat >/tmp/io.toml <<TOML
[bundle]
path = "/tiny"
[camera]
kind = "v4l2"
device = "platform:vivid-000"
width = 640
height = 480
fps = 10.0
[trigger]
mode = "external"
window_ms = 500
[gpio]
chip = "board"
[gpio.lines]
ready = "READY"
ok = { name = "OK", active_low = true }
ng = "NG"
valid = "VALID"
fault = "FAULT"
[gpio.trigger]
line = "TRIGGER"
ack = { name = "ACK", active_low = true }
[gpio.strobe]
line = "STROBE"
delay_us = 1000
width_us = 400000
TOML

listed() { fcam io | tee /dev/console | grep -q 'READY .*put' && fcam io --json | grep -q '"name":"STROBE"'; }

near() {
    sed 's/"VALID"/"VALDI"/' /tmp/io.toml >/tmp/near.toml
    fcam io get valid --config /tmp/near.toml 2>&1 | tee /dev/console | grep -q 'no GPIO line VALDI on board; the nearest names are VALID'
}

# level KEY: as fcam io reads it.
level() { fcam io get "$1" --config /tmp/io.toml | sed 's/.* //'; }

read_levels() {
    trigger up
    [ "$(level trigger)" = 1 ] && [ "$(level ack)" = 1 ] || return 1
    trigger down
    echo pull-up >/tmp/line/ACK/pull
    [ "$(level trigger)" = 0 ] && [ "$(level ack)" = 0 ]
    told=$?
    echo pull-down >/tmp/line/ACK/pull
    return $told
}

force() {
    fcam io set ng 1 --for 2s --config /tmp/io.toml &
    forced=$!
    within 5 high NG && sleep 1 && high NG && wait $forced && low NG || return 1
    # Active low: active is the low level. The pull would leave it low as well, so the inactive one is looked at.
    fcam io set ok 0 --for 2s --config /tmp/io.toml &
    within 5 high OK && wait $!
}

refuse() {
    ! fcam io set trigger 1 --config /tmp/io.toml 2>/tmp/refused && grep -q 'is an input' /tmp/refused || return 1
    ! fcam io set HEALTHY 1 --config /tmp/io.toml 2>/tmp/refused && grep -q 'names no line HEALTHY' /tmp/refused || return 1
    fcam io set 1 --chip board --line HEALTHY --for 2s &
    within 5 high HEALTHY && wait $!
}

running() {
    fcam run --config /tmp/io.toml 2>/tmp/io.log &
    station=$!
    within 60 high READY || return 1
    ! fcam io set ng 1 --config /tmp/io.toml 2>/tmp/refused || return 1
    cat /tmp/refused
    grep -q 'the station runs' /tmp/refused || return 1
    ! fcam io get valid --config /tmp/io.toml 2>/tmp/refused && grep -q 'held by "fcam"' /tmp/refused && low NG
}

lamp() {
    for _ in 1 2 3; do
        low STROBE && trigger up && within 5 high STROBE && within 5 low STROBE || return 1
        trigger down
        usleep 100000
    done
    kill -TERM "$station"
    wait "$station"
    cat /tmp/io.log
    low STROBE && low READY
}

check "fcam io lists the lines with their names" listed
check "a line that is not there is told with the nearest names" near
check "an input is read, active low too" read_levels
check "an output is forced for its time, and is inactive after it" force
check "an input is not forced, nor a line that the file does not name" refuse
check "a running station keeps its lines" running
check "each edge lights the lamp for its time" lamp
