# The end: the first process hangs, and nobody feeds the board's watchdog any more. Only the host can see what happens then.
#: the board is reset when systemd hangs

grep -H . /sys/class/watchdog/watchdog*/identity /sys/class/watchdog/watchdog*/state
say "resets - the board is reset when systemd hangs"
# It freezes after a crash.
kill -SEGV 1
sleep 60
