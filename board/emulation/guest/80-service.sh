# The service under systemd: board/systemd/fcam.service as it is.
#: systemd hears that the station is ready
#: a station that hangs is killed and started again
#: systemd stops it without a fault

# What udev does on a board.
chgrp dialout /dev/ttyS0
chgrp video /dev/video0
chgrp gpio /tmp/chip
chmod 660 /dev/ttyS0 /dev/video0 /tmp/chip

show() { systemctl show --value --property "$1" fcam.service; }
state() { [ "$(show ActiveState)" = "$1" ]; }
# Each look is a program that asks systemd, and costs more than the nap between two.
other() { usleep 500000 && [ "$(show MainPID)" != "$1" ] && state active; }

hang() {
    hung=$(show MainPID)
    kill -STOP "$hung"
    within 30 other "$hung" && [ "$(show NRestarts)" = 1 ]
}

stop() { systemctl --no-ask-password stop fcam.service && state inactive && [ "$(show Result)" = success ] && [ "$(show ExecMainStatus)" = 0 ]; }

check "systemd hears that the station is ready" systemctl --no-ask-password start fcam.service
check "a station that hangs is killed and started again" hang
check "systemd stops it without a fault" stop
