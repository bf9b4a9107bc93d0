# The kernel's camera: its frames are judged; it is taken away while the station runs, and comes back.
#: fcam cameras lists vivid with its formats and controls
#: fcam run judges frames of vivid without a fault
#: a camera that is taken away is one fault
#: frames are judged again once it is back
#: SIGTERM ends the station, which tells of the fault by its exit code

cat >/tmp/camera.toml <<TOML
[camera]
kind = "v4l2"
device = "platform:vivid-000"
width = 640
height = 480
fps = 5.0
TOML

listed() { fcam cameras | tee /dev/console | grep -q 'name *"vivid"' && fcam cameras --json | grep -q brightness; }

judge() {
    timeout 90 fcam run --config /tmp/camera.toml --frames 20 --json /tmp/judged.jsonl || return 1
    [ "$(grep -c '"reject"\|"pass"' /tmp/judged.jsonl)" -ge 3 ] && ! grep -q '"fault"' /tmp/judged.jsonl
}

# judged NUMBER: so many parts of the running station at least.
judged() { [ "$(grep -c '"reject"\|"pass"' /tmp/lost.jsonl)" -ge "$1" ]; }
faults() { grep -c '"fault":"camera"' /tmp/lost.jsonl; }

lose() {
    within 40 judged 3 || return 1
    echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind
    within 20 grep -q '"fault"' /tmp/lost.jsonl && sleep 2 && [ "$(faults)" = 1 ]
}

bring_back() {
    before=$(grep -c '"reject"\|"pass"' /tmp/lost.jsonl)
    echo vivid.0 >/sys/bus/platform/drivers/vivid/bind
    within 30 judged $((before + 3)) && [ "$(grep -c '"fault"' /tmp/lost.jsonl)" = 1 ]
}

end() {
    kill -TERM "$station"
    wait "$station"
    [ $? = 1 ]
}

check "fcam cameras lists vivid with its formats and controls" listed
check "fcam run judges frames of vivid without a fault" judge
fcam run --config /tmp/camera.toml --json /tmp/lost.jsonl &
station=$!
check "a camera that is taken away is one fault" lose
check "frames are judged again once it is back" bring_back
check "SIGTERM ends the station, which tells of the fault by its exit code" end
