# From the edge of the trigger to the edge of VALID: by the kernel's trace, which knows nothing of the station, and by the station's own stages.
#: the kernel saw twenty triggers and a VALID for each
#: VALID was high for its 300 ms each time

trace=/sys/kernel/tracing
mount -t tracefs tracefs $trace

cat >/tmp/latency.toml <<TOML
[camera]
kind = "v4l2"
device = "platform:vivid-000"
width = 640
height = 480
fps = 30.0
[trigger]
mode = "external"
window_ms = 500
[signals]
hold_ms = 300
[gpio]
chip = "board"
[gpio.lines]
ready = "READY"
valid = "VALID"
[gpio.trigger]
line = "TRIGGER"
TOML

# Milliseconds from each interrupt of the trigger's line to the next rise of VALID, sorted; and in /tmp/widths, how long VALID was high. READY
# and VALID are the only lines that are driven; READY is the lower number.
edges() {
    awk '
        function at() { match($0, /[0-9]+\.[0-9]+: /); return substr($0, RSTART, RLENGTH - 2) * 1000 }
        /irq_handler_entry/ && /name=fcam/ { edge = at() }
        /gpio_value/ {
            match($0, /gpio_value: [0-9]+ set [01]/); split(substr($0, RSTART, RLENGTH), word, " ")
            if (!ready || word[2] < ready) ready = word[2]
            if (word[2] > ready && word[4] && !level[word[2]] && edge) { print at() - edge; edge = 0; rose = at() }
            if (word[2] > ready && !word[4] && rose) { print at() - rose >"/tmp/widths"; rose = 0 }
            level[word[2]] = word[4]
        }' "$trace/trace" | sort -n
}

measure() {
    fcam run --bundle /tiny --config /tmp/latency.toml 2>/tmp/latency.log &
    station=$!
    within 40 high READY || return 1
    echo mono >$trace/trace_clock
    echo 'name == "fcam"' >$trace/events/irq/irq_handler_entry/filter
    echo 1 >$trace/events/gpio/gpio_value/enable
    echo 1 >$trace/events/irq/irq_handler_entry/enable
    number=0
    while [ $number -lt 20 ]; do
        within 10 high READY && trigger up && within 10 high VALID
        trigger down
        within 5 low VALID
        number=$((number + 1))
    done
    sleep 1
    echo 0 >$trace/tracing_on
    kill -TERM "$station"
    wait "$station"
    cat /tmp/latency.log
    edges >/tmp/edges
    grep -v '^#' $trace/trace | head -n 20
    say "# trigger edge to VALID edge by the kernel: $(awk '{ ms[NR] = $1 } END { printf "p50 %.1f, p99 %.1f, max %.1f ms of %d", ms[int(NR / 2 + 1)], ms[int(NR * 0.99) + 1], ms[NR], NR }' /tmp/edges)"
    sed -n '/^ *stage /,$p' /tmp/latency.log | while read -r line; do say "# $line"; done
    [ "$(wc -l </tmp/edges)" = 20 ]
}

# Never shorter, and hardly longer: the guest's time does not depend on how busy the host is.
widths() {
    say "# VALID was high for $(sort -n /tmp/widths | sed -n '1p;$p' | tr '\n' ' ')ms at least and at most"
    awk '$1 < 299.9 || $1 > 320 { wrong++ } END { exit NR != 20 || wrong }' /tmp/widths
}

check "the kernel saw twenty triggers and a VALID for each" measure
check "VALID was high for its 300 ms each time" widths
