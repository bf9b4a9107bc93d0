# Telegrams over a UART to the host, which decodes them: the bundle's twelve samples, each a part.
#: fcam run on the pattern camera ends without a fault
#: the host decodes every verdict and every mask

cat >/tmp/serial.toml <<TOML
[camera]
kind = "pattern"
fps = 2.0
[trigger]
mode = "every-frame"
[plc]
simulated = true
[serial]
port = "/dev/ttyS0"
parts_per_minute = 120
TOML

check "fcam run on the pattern camera ends without a fault" timeout 90 fcam run --config /tmp/serial.toml --frames 12
check "the host decodes every verdict and every mask" host telegrams 12
