# The chip's lines: triggers come in, judgements go out, and nothing is left high by a station that is gone.
#: READY rises once the station can judge, and HEALTHY toggles
#: each of five trigger edges ends in VALID and OK, and one part, though the clock steps
#: without a camera READY is low, and a trigger is told as NG
#: SIGTERM leaves READY, OK, VALID and HEALTHY low
#: a defective part ends in VALID and NG, and in the line of its zone
#: what SIGKILL leaves on the lines

# station ITEM: what the camera shows. The tests' bundle calls dark pictures defective.
station() {
    cat >/tmp/lines.toml <<TOML
[camera]
kind = "v4l2"
device = "platform:vivid-000"
width = 640
height = 480
fps = 10.0
controls = { test_pattern = "$1" }
[trigger]
mode = "external"
window_ms = 500
[inspect]
roi = { x = 0, y = 0, width = 320, height = 480 }
[zones]
kind = "polygons"
polygons = [[[0, 0], [300, 0], [300, 400], [0, 400]], [[400, 0], [600, 0], [600, 400], [400, 400]]]
[signals]
hold_ms = 1000
[gpio]
chip = "board"
[gpio.lines]
ready = "READY"
busy = "BUSY"
ok = "OK"
ng = "NG"
valid = "VALID"
healthy = "HEALTHY"
fault = "FAULT"
zones = ["ZONE", "STROBE"]
[gpio.trigger]
line = "TRIGGER"
TOML
    rm -f /tmp/lines.jsonl
    fcam run --bundle /tiny --config /tmp/lines.toml --json /tmp/lines.jsonl &
    station=$!
}

ready() { within 40 high READY && within 5 high HEALTHY && within 5 low HEALTHY && within 5 high HEALTHY; }

# part OK|NG: one trigger, and what it should end in.
part() {
    other=NG zone=low
    [ "$1" = NG ] && other=OK zone=high
    trigger down
    within 10 high READY && trigger up && within 10 high VALID || return 1
    # Read first, and shown then: a busy host takes long for each line.
    # The second zone is outside of what is inspected.
    high "$1" && low "$other" && $zone ZONE && low STROBE
    told=$?
    levels
    [ $told = 0 ] || return 1
    trigger down
    within 5 low VALID
}

# The wall clock steps by hours, there and back, while parts come: nothing on the line goes by it.
parts() {
    for number in 1 2 3 4 5; do
        [ $number = 2 ] && date -s @2000000000
        [ $number = 4 ] && date -s @1700000000
        part OK || return 1
    done
    [ "$(grep -c '"verdict":"pass"' /tmp/lines.jsonl)" = 5 ] && [ "$(wc -l </tmp/lines.jsonl)" = 5 ]
}

blind() {
    echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind
    within 20 low READY || return 1
    trigger up
    within 10 high VALID && high NG && low OK && low READY
    told=$?
    trigger down
    echo vivid.0 >/sys/bus/platform/drivers/vivid/bind
    within 30 high READY && [ $told = 0 ]
}

term() {
    kill -TERM "$station"
    wait "$station"
    levels
    low READY && low OK && low VALID && low HEALTHY
}

# Nobody drives the lines any more. The simulator's fall to their pull; on a board a line may keep its level, hence the advice to pull it down.
murder() {
    within 40 high READY || return 1
    kill -KILL "$station"
    wait "$station"
    say "# after SIGKILL: $(levels)"
    low READY && low OK && low VALID && low HEALTHY
}

station "100% White"
check "READY rises once the station can judge, and HEALTHY toggles" ready
check "each of five trigger edges ends in VALID and OK, and one part, though the clock steps" parts
check "without a camera READY is low, and a trigger is told as NG" blind
check "SIGTERM leaves READY, OK, VALID and HEALTHY low" term
station "100% Black"
check "a defective part ends in VALID and NG, and in the line of its zone" eval 'within 40 high READY && part NG'
check "what SIGKILL leaves on the lines" murder
