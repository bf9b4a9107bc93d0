# The kernel's devices: a camera (vivid), a chip of lines (gpio-sim), watchdogs.
#: every module loads
#: vivid is a camera, /dev/video0
#: gpio-sim is a chip of eleven lines
#: a watchdog of the board and one of the kernel are there

load() {
    while read -r module; do
        case $module in
            # One webcam with one input, and nothing else.
            vivid) options="n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0" ;;
            *) options= ;;
        esac
        # shellcheck disable=SC2086
        insmod "/modules/$module.ko" $options || return 1
    done </modules/order
}

# /tmp/line/NAME is where the simulator shows what is driven (value) and takes what comes in (pull). Its label is "board".
lines() {
    mount -t configfs configfs /sys/kernel/config || return 1
    chip=/sys/kernel/config/gpio-sim/station
    set -- TRIGGER READY BUSY OK NG VALID HEALTHY FAULT ACK STROBE ZONE
    mkdir -p "$chip/bank0" /tmp/line && echo $# >"$chip/bank0/num_lines" && echo board >"$chip/bank0/label" || return 1
    number=0
    for name; do
        mkdir "$chip/bank0/line$number" && echo "$name" >"$chip/bank0/line$number/name" || return 1
        number=$((number + 1))
    done
    echo 1 >"$chip/live" || return 1
    place=/sys/devices/platform/$(cat "$chip/dev_name")/$(cat "$chip/bank0/chip_name")
    ln -s "/dev/$(cat "$chip/bank0/chip_name")" /tmp/chip
    number=0
    for name; do
        ln -s "$place/sim_gpio$number" "/tmp/line/$name"
        number=$((number + 1))
    done
    [ -c /tmp/chip ] && [ -e /tmp/line/ZONE/value ]
}

watchdogs() {
    cat /sys/class/watchdog/watchdog*/identity
    grep -q i6300ESB /sys/class/watchdog/watchdog*/identity && grep -q 'Software Watchdog' /sys/class/watchdog/watchdog*/identity
}

check "every module loads" load
check "vivid is a camera, /dev/video0" within 5 test -c /dev/video0
check "gpio-sim is a chip of eleven lines" lines
check "a watchdog of the board and one of the kernel are there" watchdogs
