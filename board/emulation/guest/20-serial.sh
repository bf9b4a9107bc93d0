# Telegrams over a UART to the host, which decodes them: thirteen pictures, bright and dark in turn, each a part. The last one
# is bright: a station that ends gives up the mask that is on its way.
#: fcam run on the pattern camera ends without a fault
#: the host decodes every verdict and every mask

cat >/tmp/serial.toml <<TOML
[camera]
kind = "pattern"
fps = 4.0
[trigger]
mode = "every-frame"
queue = 16
[plc]
simulated = true
[serial]
port = "/dev/ttyS0"
TOML

host forget
check "fcam run on the pattern camera ends without a fault" timeout 90 fcam run --bundle /tiny --config /tmp/serial.toml --frames 13
# Bright pictures are good, but no part on a line: the PLC is told why they are not OK (19, simulated). Dark ones are rejects (1).
check "the host decodes every verdict and every mask" host telegrams 13 19 1
