# All of it at once, with the default bundle: a trigger's edge, a frame of the kernel's camera, the network's verdict on lines and UART. Its proof,
# with two pictures here, is most of the time: emulated, the network is hundreds of times slower than on a board.
#: the default bundle is proven on this processor with two pictures, and READY rises
#: three trigger edges are three parts on the lines
#: the host decodes their verdicts
#: SIGTERM ends the station without a fault

cat >/tmp/station.toml <<TOML
[camera]
kind = "v4l2"
device = "vivid"
width = 640
height = 480
fps = 10.0
[trigger]
mode = "external"
window_ms = 500
[signals]
hold_ms = 1000
[serial]
port = "/dev/ttyS0"
[gpio]
chip = "board"
[gpio.lines]
ready = "READY"
ok = "OK"
ng = "NG"
valid = "VALID"
[gpio.trigger]
line = "TRIGGER"
TOML

part() {
    within 20 high READY && trigger up && within 40 high VALID || return 1
    if high OK; then low NG; else high NG; fi || return 1
    trigger down
    within 5 low VALID
}

end() {
    kill -TERM "$station"
    wait "$station"
}

trigger down
host forget
fcam run --bundle /default --config /tmp/station.toml &
station=$!
check "the default bundle is proven on this processor with two pictures, and READY rises" within 250 high READY
check "three trigger edges are three parts on the lines" eval 'part && part && part'
check "SIGTERM ends the station without a fault" end
check "the host decodes their verdicts" host telegrams 3
