"""Modbus as others speak it: pymodbus and mbpoll with a running station, on TCP and on a line as slow as a real one."""

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import tty
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/common"))

import telegram  # noqa: E402 (the path is set above)

client = pytest.importorskip("pymodbus.client")
UNIT, BAUD = 7, 115200
READY, BUSY, VALID, TOGGLE, TRIGGER_ACK, MISSED, OVERRUN, OK, NG, FAULT, RUN, SIMULATED = (
    1 << bit for bit in range(12)
)
LATE, HEARTBEAT = 1 << 14, 1 << 15
ENABLE, TRIGGER, ACK, BUFFER, EXECUTE, CLEAR, OFFLINE = (1 << bit for bit in range(7))


class Wire:
    """Two pseudo-terminals, which have no rate, and between them a wire that lets bytes through at one."""

    def __init__(self, baud: int) -> None:
        self.second = 1 / (baud / 10)
        self.ends = [os.openpty() for _ in range(2)]
        for end in self.ends:
            for descriptor in end:
                tty.setraw(descriptor)
        self.paths = [os.ttyname(slave) for _, slave in self.ends]
        self.stopped = False
        ways = [(0, 1), (1, 0)]
        self.threads = [threading.Thread(target=self.carry, args=way, daemon=True) for way in ways]
        for thread in self.threads:
            thread.start()

    def carry(self, source: int, target: int) -> None:
        free = 0.0
        while not self.stopped:
            try:
                taken = os.read(self.ends[source][0], 256)
            except OSError:
                return
            begin = max(free, time.monotonic())
            free = begin + len(taken) * self.second
            sent = 0
            while sent < len(taken):
                due = min(int((time.monotonic() - begin) / self.second), len(taken))
                if due > sent:
                    os.write(self.ends[target][0], taken[sent:due])
                    sent = due
                else:
                    time.sleep(0.0002)


class Plc:
    """A PLC's program in a few lines: registers by name, and conditions that are polled for."""

    def __init__(self, connection: "client.ModbusBaseSyncClient", order: str = "big") -> None:
        self.connection, self.order = connection, order
        assert connection.connect()

    def read(self, address: int, count: int, mirror: bool = False) -> list[int]:
        if mirror:
            answer = self.connection.read_holding_registers(1000 + address, count=count, device_id=UNIT)
        else:
            answer = self.connection.read_input_registers(address, count=count, device_id=UNIT)
        assert not answer.isError(), answer
        return answer.registers

    def write(self, address: int, *values: int) -> None:
        answer = self.connection.write_registers(address, list(values), device_id=UNIT)
        assert not answer.isError(), answer

    def wait(self, condition: Callable[[list[int]], bool], within: float = 20.0) -> list[int]:
        until = time.monotonic() + within
        while not condition(words := self.read(0, 20)):
            assert time.monotonic() < until, f"{words} after {within} s"
        return words

    def long(self, words: list[int], address: int) -> int:
        pair = words[address : address + 2]
        high, low = pair if self.order == "big" else reversed(pair)
        return high << 16 | low

    def inspect(self, part: int, control: int = ENABLE) -> list[int]:
        """The whole handshake of one part."""
        self.wait(lambda words: bool(words[0] & READY))
        halves = divmod(part, 1 << 16)
        self.write(0, control | TRIGGER, 0, *(halves if self.order == "big" else reversed(halves)))
        number = self.wait(lambda words: bool(words[0] & TRIGGER_ACK))[3]
        self.write(0, control)
        words = self.wait(lambda words: bool(words[0] & VALID) and words[2] == number)
        self.write(0, control | ACK)
        self.wait(lambda words: not words[0] & VALID)
        self.write(0, control)
        return words

    def mask(self) -> tuple[list[int], bytes]:
        head = self.read(88, 8)
        total, pages = self.long(head, 0), b""
        for page in range(-(-total // 250)):
            self.write(4, page)
            pages += b"".join(word.to_bytes(2, "big") for word in self.read(96, 125))
        return head, pages[:total]


class Station:
    """`fcam run` in a folder of its own, triggered from outside."""

    def __init__(self, fcam: Path, folder: Path, modbus: str, plc: str = "") -> None:
        bundle = json.dumps(str(ROOT / "tests/common/tiny"))
        # A camera's program: the pictures of a pattern are simulated, and never OK.
        camera = json.dumps([sys.executable, str(ROOT / "tests/common/frames.py"), "50"])
        self.folder = folder
        (folder / "station.toml").write_text(
            f'[bundle]\npath = {bundle}\n[camera]\nkind = "pipe"\ncommand = {camera}\n'
            'format = "gray8"\nwidth = 64\nheight = 64\ntimeout_ms = 30000\n'
            f'[trigger]\nmode = "external"\nwindow_ms = 2000\nqueue = 8\n[plc]\n{plc}\n{modbus}\n'
        )
        self.log = (folder / "log").open("w+")
        command = [fcam, "run", "--config", "station.toml", "--json", "out.jsonl"]
        environment = os.environ | {"RUST_LOG": "info"}
        self.process = subprocess.Popen(command, cwd=folder, stderr=self.log, env=environment)

    def parts(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]

    def has_written(self, count: int) -> bool:
        """Lines come behind the registers, by a thread of their own."""
        patience = time.monotonic() + 5
        while len(self.parts()) < count and time.monotonic() < patience:
            time.sleep(0.01)
        return len(self.parts()) == count

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def text(self) -> str:
        return (self.folder / "log").read_text()

    def says(self, words: str) -> None:
        until = time.monotonic() + 30
        while words not in self.text():
            assert time.monotonic() < until, self.text()
            time.sleep(0.02)


@pytest.fixture
def start(fcam: Path, tmp_path: Path) -> Iterator[Callable[..., Station]]:
    stations = []

    def new(modbus: str, plc: str = "") -> Station:
        stations.append(Station(fcam, tmp_path, modbus, plc))
        return stations[-1]

    yield new
    for station in stations:
        station.process.kill()
        station.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def on_tcp(port: int, write: bool = True) -> str:
    return f'[modbus.tcp]\nlisten = "127.0.0.1:{port}"\nwrite = {str(write).lower()}\n'


def tcp(port: int, order: str = "big") -> Plc:
    connection = client.ModbusTcpClient("127.0.0.1", port=port, timeout=5)
    until = time.monotonic() + 20
    while not connection.connect():
        assert time.monotonic() < until
        time.sleep(0.05)
    return Plc(connection, order)


def rtu(path: str) -> Plc:
    return Plc(client.ModbusSerialClient(path, baudrate=BAUD, parity="N", timeout=2, retries=10))


def agree(plc: Plc, seen: dict[int, list[int]], parts: list[dict]) -> None:
    """What the PLC was told of each of its parts is what the JSON lines say."""
    told = {part["part_id"]: part for part in parts}
    for part, words in seen.items():
        verdict = told[part]["verdict"]
        assert plc.long(words, 10) == part
        assert words[2] == told[part]["sequence"] % 65535 + 1
        assert (words[0] & (OK | NG)) == (OK if verdict == "pass" else NG)
        assert not words[0] & SIMULATED
        score = told[part]["score"]
        assert abs(words[5] / 1e4 - (score or 0.0)) < 1e-4
    assert {"pass", "reject"} == {next(iter(v)) if isinstance(v := p["verdict"], dict) else v for p in parts}


def report(what: str, plc: Plc, count: int) -> None:
    """Latency of reading 20 registers."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        plc.read(0, 20)
        times.append((time.perf_counter() - begin) * 1e3)
    cuts = statistics.quantiles(times, n=100)
    print(f"{what}: {count} requests of 20 registers, p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms")


def masks_belong(plc: Plc, rejects: list[list[int]]) -> None:
    assert rejects
    for _ in range(20):  # the mask comes a moment after the result
        head, data = plc.mask()
        if head[5] == rejects[-1][2]:
            break
        time.sleep(0.05)
    assert head[5] == rejects[-1][2] and len(data) == plc.long(head, 0) > 0 and head[2] == 1
    assert zlib.crc32(data) == plc.long(head, 6)
    runs = telegram.runs(data)
    assert sum(runs) == head[3] * head[4]
    count, regions = plc.read(19, 1)[0], plc.read(20, 64)
    left, top, across, down = plc.read(221, 4)
    area = sum(plc.long(regions, 8 * region + 6) for region in range(count))
    assert abs(sum(runs[1::2]) * across * down / (head[3] * head[4]) - area) <= max(count, 1)
    assert all(left <= regions[8 * n] < left + across and top <= regions[8 * n + 1] < top + down for n in range(count))


@pytest.mark.parametrize("order", ["big", "little"])
def test_parts_by_pymodbus_on_tcp(start: Callable[..., Station], order: str) -> None:
    port = free_port()
    station = start(f'[modbus]\nword_order = "{order}"\n{on_tcp(port)}')
    plc = tcp(port, order)
    seen = {part: plc.inspect(part) for part in range(0x00FFFFF0, 0x01000010)}
    rejects = [words for words in seen.values() if words[4] != 0xFFFF]
    while plc.inspect(9)[0] & OK:  # its mask is the newest then
        pass
    masks_belong(plc, [plc.read(0, 20)])
    assert plc.read(0, 88, mirror=True)[2:20] == plc.read(0, 88)[2:20]
    words = plc.read(0, 20)
    assert words[0] & (RUN | READY | FAULT | MISSED | LATE) == RUN | READY
    assert rejects and station.has_written(plc.long(words, 12) + plc.long(words, 14))
    report("TCP on loopback", plc, 2000)
    assert station.stop() == 0, station.text()
    agree(plc, seen, station.parts())


def test_parts_by_pymodbus_on_a_line(start: Callable[..., Station]) -> None:
    wire = Wire(BAUD)
    station = start(f'[modbus.rtu]\nport = "{wire.paths[1]}"\nbaud = {BAUD}\nparity = "none"\nunit = {UNIT}')
    station.says("Modbus unit")
    plc = rtu(wire.paths[0])
    seen = {part: plc.inspect(part) for part in range(100, 112)}
    while plc.inspect(9)[0] & OK:
        pass
    masks_belong(plc, [plc.read(0, 20)])
    report(f"RTU at {BAUD} baud, paced", plc, 300)
    # All units are told to go offline; none answers, and all have a moment before the next request.
    plc.connection.write_register(0, OFFLINE, device_id=0, no_response_expected=True)
    time.sleep(0.1)
    words = plc.wait(lambda words: not words[0] & RUN)
    assert words[1] == 32 and not words[0] & READY
    assert station.stop() == 0, station.text()
    agree(plc, seen, station.parts())


def test_what_goes_wrong_is_told(start: Callable[..., Station]) -> None:
    port = free_port()
    station = start(on_tcp(port))
    plc = tcp(port)
    plc.wait(lambda words: bool(words[0] & READY))
    # A trigger while offline takes a number and ends in NG.
    plc.write(0, ENABLE | OFFLINE)
    before = plc.wait(lambda words: not words[0] & READY)
    plc.write(0, ENABLE | OFFLINE | TRIGGER, 0, 0, 77)
    words = plc.wait(lambda words: bool(words[0] & VALID))
    assert words[0] & (MISSED | NG | OK) == MISSED | NG
    assert words[2] == words[3] and plc.long(words, 16) == 1 and plc.long(words, 10) == 77
    assert plc.read(84, 1) == [9] and before[0] & MISSED == 0
    # Back, cleared, and the next part is judged.
    plc.write(0, ENABLE | CLEAR)
    words = plc.wait(lambda words: bool(words[0] & READY))
    assert words[0] & (MISSED | FAULT) == 0 and words[1] == 0
    number = plc.inspect(78)[2]
    assert number == words[3] + 1
    # A trigger that is not enabled is missed too.
    plc.write(0, TRIGGER)
    assert plc.wait(lambda words: bool(words[0] & MISSED))[3] == number + 1
    assert station.stop() == 1, "a missed part is no clean end"
    assert [part["part_id"] for part in station.parts()][:2] == [77, 78]


def test_buffered_results_wait_for_their_acknowledgement(start: Callable[..., Station]) -> None:
    port = free_port()
    start(on_tcp(port))
    plc = tcp(port)
    plc.wait(lambda words: bool(words[0] & READY))
    for part in range(1, 6):
        plc.wait(lambda words: bool(words[0] & READY))
        plc.write(0, ENABLE | BUFFER | TRIGGER, 0, 0, part)
        plc.write(0, ENABLE | BUFFER)
    plc.wait(lambda _: plc.read(85, 1) == [5])
    toggles = []
    for part in range(1, 6):
        words = plc.wait(lambda words: bool(words[0] & VALID))
        assert plc.long(words, 10) == part
        toggles.append(bool(words[0] & TOGGLE))
        plc.write(0, ENABLE | BUFFER | ACK)
        plc.wait(lambda words: not words[0] & VALID)
        plc.write(0, ENABLE | BUFFER)
    assert all(a != b for a, b in pairwise(toggles))
    assert plc.read(85, 1) == [0]


def test_both_hearts_beat(start: Callable[..., Station]) -> None:
    port = free_port()
    start(on_tcp(port), plc="heartbeat_ms = 1500")
    plc = tcp(port)
    plc.wait(lambda words: bool(words[0] & READY))
    beats, until = set(), time.monotonic() + 4
    while time.monotonic() < until:
        plc.write(5, int(time.monotonic() * 1000) & 0xFFFF)
        words = plc.read(0, 2)
        beats.add(words[0] & HEARTBEAT)
        assert words[0] & READY and words[1] == 0
        time.sleep(0.05)
    assert beats == {0, HEARTBEAT}
    words = plc.wait(lambda words: not words[0] & READY, within=6)
    assert words[1] == 22, "the PLC's heart stands still"
    plc.write(5, 1)
    plc.wait(lambda words: bool(words[0] & READY))


def test_pymodbus_reads_who_it_is_and_what_it_refuses(start: Callable[..., Station]) -> None:
    port = free_port()
    start(on_tcp(port, write=False) + '[modbus.rtu]\nport = "/dev/none"')
    plc = tcp(port)
    for code, objects in [(1, {0, 1, 2}), (2, {0, 1, 2, 4}), (3, {0, 1, 2, 4})]:
        answer = plc.connection.read_device_information(read_code=code, object_id=0, device_id=UNIT)
        assert set(answer.information) == objects and answer.information[0] == b"fcam"
    ask = plc.connection
    refusals = [
        (1, ask.read_coils(0, count=1, device_id=UNIT)),
        (1, ask.write_register(0, 3, device_id=UNIT)),
        (1, ask.report_device_id(device_id=UNIT)),
        (2, ask.read_input_registers(990, count=11, device_id=UNIT)),
        (2, ask.read_holding_registers(10, count=20, device_id=UNIT)),
        (2, ask.read_device_information(read_code=4, object_id=9, device_id=UNIT)),
    ]
    assert [answer.exception_code for _, answer in refusals] == [code for code, _ in refusals]
    plc.write(4, 3)
    assert ask.read_holding_registers(0, count=5, device_id=UNIT).registers == [0, 0, 0, 0, 3]


def mbpoll(*arguments: str) -> subprocess.CompletedProcess:
    if shutil.which("mbpoll") is None:
        pytest.skip("no mbpoll")
    command = ["mbpoll", "-0", "-1", "-q", "-a", str(UNIT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def values(done: subprocess.CompletedProcess) -> dict[int, int]:
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line[1:].split("]:") for line in done.stdout.splitlines() if line.startswith("[")]
    return {int(address): int(value.split()[0]) for address, value in rows}


def test_mbpoll_on_tcp_and_on_a_line(start: Callable[..., Station]) -> None:
    port, wire = free_port(), Wire(BAUD)
    rtu_section = f'[modbus.rtu]\nport = "{wire.paths[1]}"\nbaud = {BAUD}\nparity = "none"\nunit = {UNIT}'
    start(on_tcp(port) + rtu_section)
    plc = tcp(port)
    plc.wait(lambda words: bool(words[0] & READY))
    seen = plc.inspect(0x10002)
    line = ["-m", "rtu", "-b", str(BAUD), "-P", "none", wire.paths[0]]
    for way in (["-m", "tcp", "-p", str(port), "127.0.0.1"], line):
        *options, device = way
        found = values(mbpoll(*options, "-t", "3", "-r", "0", "-c", "20", device))
        assert sorted(found) == list(range(20)) and [found[n] for n in range(2, 8)] == seen[2:8]
        assert values(mbpoll(*options, "-t", "4", "-r", "1010", "-c", "2", device)) == {1010: 1, 1011: 2}
        longs = values(mbpoll(*options, "-t", "3:int", "-B", "-r", "10", "-c", "1", device))
        assert longs == {10: 0x10002}
        assert values(mbpoll(*options, "-t", "4", "-r", "0", "-c", "4", device))[3] == 2
        done = mbpoll(*options, "-t", "3", "-r", "900", "-c", "1", device)
        assert "Illegal data address" in done.stdout + done.stderr
        assert mbpoll(*options, "-t", "4", "-r", "1", device, "5").returncode == 0
        assert plc.connection.read_holding_registers(1, count=1, device_id=UNIT).registers == [5]
        plc.write(1, 0)


def test_a_station_that_stops_lets_its_masters_go(start: Callable[..., Station]) -> None:
    port = free_port()
    station = start(on_tcp(port))
    plc = tcp(port)
    plc.wait(lambda words: bool(words[0] & READY))
    plc.inspect(1)
    assert station.stop() == 0
    answer = None
    with pytest.raises(Exception, match=r"(?i)connect|modbus"):
        answer = plc.connection.read_input_registers(0, count=1, device_id=UNIT)
    assert answer is None
    assert "requests" in station.text()
