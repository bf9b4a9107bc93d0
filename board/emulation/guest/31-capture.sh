# What the kernel's camera can be asked for: formats, a control from one program to the next, refusals, lost and damaged frames, several planes.
#: yuyv, rgb8, nv12, i420 and gray8 are captured at 30 frames a second, and the cheapest if none is named
#: controls are as the station file sets them, seen by another process
#: a control out of its range is refused, with the range
#: a size and a rate that the camera has not are refused, with those that it has
#: frames that the driver drops are counted as lost
#: a picture that the driver calls damaged is a fault, and the frames after it are judged
#: a driver with the multi-planar interface is a camera too

# capture NAME LINES...: 30 frames, with the tests' small bundle, of a station file with these lines in [camera]; what it says is in /tmp/NAME.log.
capture() {
    name=$1
    shift
    printf '%s\n' '[camera]' 'kind = "v4l2"' 'device = "vivid"' "$@" >"/tmp/$name.toml"
    timeout 60 fcam run --bundle /tiny --config "/tmp/$name.toml" --frames 30 --json "/tmp/$name.jsonl" 2>&1 | tee /dev/console >"/tmp/$name.log"
    grep -q 'stopped: 30 frames' "/tmp/$name.log"
}

VGA="width = 640
height = 480
fps = 30.0"

clean() { capture "$@" && ! grep -q '"fault"' "/tmp/$1.jsonl"; }
# says NAME WORDS: what the station said of it.
says() { grep -q -F -e "$2" "/tmp/$1.log"; }

formats() {
    for format in yuyv rgb8 nv12 i420 gray8 auto; do
        clean "$format" "$VGA" "format = \"$format\"" || return 1
    done
    says auto Nv12 && says gray8 Gray8
}

controls() {
    clean controls "$VGA" 'controls = { brightness = 77, contrast = 99, "Horizontal Flip" = true, test_pattern = "100% Red" }' || return 1
    fcam cameras >/tmp/controls
    grep -q 'brightness = 77 ' /tmp/controls && grep -q 'contrast = 99 ' /tmp/controls && grep -q 'horizontal_flip = true ' /tmp/controls &&
        grep -q 'test_pattern = "100% Red" ' /tmp/controls
}

range() {
    capture range "$VGA" 'controls = { brightness = 999, nonsense = 1 }'
    says range 'brightness = 999 is not allowed: 0 to 255' && says range 'there is no control nonsense; there are '
}

sizes() {
    capture size 'width = 642' 'height = 480'
    capture rate 'width = 640' 'height = 480' 'fps = 7.77'
    says size 'has no 642 x 480 pixels; it has 320x180, ' && says rate 'does not run at 7.77 fps with 640 x 480 pixels; it has NV12, YU12, YUYV, RGB3, GREY: 1, 2, '
}

lost() { capture lost "$VGA" 'controls = { percentage_of_dropped_buffers = 30 }' && says lost ' lost by the camera'; }

damaged() {
    capture damaged "$VGA" 'controls = { percentage_of_dropped_buffers = 0, inject_v4l2_buf_flag_error = true }'
    says damaged 'is damaged' && says damaged 'stopped: 30 frames' && says damaged '1 fault (camera 1)'
}

planes() {
    rmmod vivid && insmod /modules/vivid.ko n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0 multiplanar=2 || return 1
    within 5 test -c /dev/video0 && clean planes "$VGA" && fcam cameras | grep -q multi-planar || return 1
    rmmod vivid && insmod /modules/vivid.ko n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0
}

check "yuyv, rgb8, nv12, i420 and gray8 are captured at 30 frames a second, and the cheapest if none is named" formats
check "controls are as the station file sets them, seen by another process" controls
check "a control out of its range is refused, with the range" range
check "a size and a rate that the camera has not are refused, with those that it has" sizes
check "frames that the driver drops are counted as lost" lost
check "a picture that the driver calls damaged is a fault, and the frames after it are judged" damaged
check "a driver with the multi-planar interface is a camera too" planes
