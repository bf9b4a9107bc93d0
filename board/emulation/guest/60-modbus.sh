# Modbus: the host is the master, over a UART and over the network.
#: a Modbus RTU master takes four parts through the handshake
#: a Modbus TCP master takes four parts through the handshake
#: SIGTERM ends the station without a fault

ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0

cat >/tmp/modbus.toml <<TOML
[camera]
kind = "pattern"
fps = 10.0
[trigger]
mode = "external"
window_ms = 200
[plc]
simulated = true
[modbus.tcp]
listen = "10.0.2.15:502"
write = true
[modbus.rtu]
port = "/dev/ttyS1"
TOML

end() {
    kill -TERM "$station"
    wait "$station"
}

fcam run --bundle /tiny --config /tmp/modbus.toml &
station=$!
within 30 grep -q ':01F6 ' /proc/net/tcp
check "a Modbus RTU master takes four parts through the handshake" host modbus rtu 4
check "a Modbus TCP master takes four parts through the handshake" host modbus tcp 4
check "SIGTERM ends the station without a fault" end
