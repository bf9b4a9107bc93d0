# The kernel's camera: its frames are judged; it is taken away while the station runs, and comes back.
#: fcam cameras lists vivid with its formats and controls
#: what is judged is what the camera shows: white is good, black is not
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

# shows ITEM VERDICT: of each frame, with the tests' bundle, which calls dark pictures defective.
shows() {
    sed "/^fps/a controls = { test_pattern = \"$1\" }" /tmp/camera.toml >/tmp/shows.toml
    rm -f /tmp/shows.jsonl
    timeout 60 fcam run --bundle /tiny --config /tmp/shows.toml --frames 5 --json /tmp/shows.jsonl || return 1
    tail -n 1 /tmp/shows.jsonl
    [ "$(grep -c "\"$2\"" /tmp/shows.jsonl)" -ge 1 ] && [ "$(grep -c "\"$2\"" /tmp/shows.jsonl)" = "$(wc -l </tmp/shows.jsonl)" ]
}

contents() { shows "100% White" pass && shows "100% Black" reject; }

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
check "what is judged is what the camera shows: white is good, black is not" contents
: >/tmp/lost.jsonl
fcam run --bundle /tiny --config /tmp/camera.toml --json /tmp/lost.jsonl &
station=$!
check "a camera that is taken away is one fault" lose
check "frames are judged again once it is back" bring_back
check "SIGTERM ends the station, which tells of the fault by its exit code" end
