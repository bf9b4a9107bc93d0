"""Runs the station on emulated 64-bit ARM machines and says what was proven.

In: the folder that initramfs.sh filled, and the names of chapters (all of guest/ if none). Out: a line for each check,
and an exit code: 0 only if every check that a chapter lists came, and came good. The chapters are shared between two
machines that run side by side, one on each of two processors. It never waits for ever: a machine that says nothing
more is ended.
"""

import argparse
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from socket import AF_UNIX, socket

from peer import Peer

GUEST = Path(__file__).parent / "guest"
PLAN = "#: "
# Of the emulator's own processor time: without a word from the guest, and for everything. A guest that hangs comes to
# them, a busy host does not. And of the host's time, for an emulator that hangs itself.
SILENCE_CPU_S, LIMIT_CPU_S, STUCK_S = 100, 400, 600
LOOK_S = 5
# The guest's clock counts instructions, four nanoseconds each, and an idle guest's goes straight to its next timer.
# What the guest waits for, it waits for in that time: a busy host makes a run longer, and no check later.
GUEST_CLOCK = "shift=2,sleep=off"
# Chapters of the first machine, half of the time of all; `boot` is for both, the second has the others.
FIRST = {"serial", "io", "camera", "capture", "lines"}
# The guest's, in QEMU's own network.
ADDRESS = "10.0.2.15"


def chapters() -> dict[str, Path]:
    return {path.stem.split("-", 1)[1]: path for path in sorted(GUEST.glob("[0-9]*-*.sh"))}


def plan(names: list[str]) -> list[str]:
    """The checks that these chapters list."""
    lines = [line for name in names for line in chapters()[name].read_text().splitlines()]
    return [line.removeprefix(PLAN) for line in lines if line.startswith(PLAN)]


class Machine:
    """QEMU, and the host's ends of its lines."""

    def __init__(self, folder: Path, names: list[str], scratch: Path, console: Path) -> None:
        self.ports = {way: free_port() for way in ("rtu", "tcp")}
        self.log = console.open("wb")
        listeners = {name: listen(scratch / name) for name in ("telegrams", "checks", "qmp")}
        self.process = subprocess.Popen(
            command(folder, names, scratch, self.ports),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self.events: list[str] = []
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        try:
            self.lines = {name: accept(listener) for name, listener in listeners.items()}
            self.lines["qmp"].sendall(b'{"execute": "qmp_capabilities"}')
        except OSError as error:
            self.end()
            raise SystemExit(f"QEMU did not start: {console.read_text(errors='replace')}") from error
        except BaseException:
            self.end()
            raise
        self.watcher.start()

    def watch(self) -> None:
        """Keeps what QEMU tells of the machine: WATCHDOG, SHUTDOWN and its reason."""
        for line in self.lines["qmp"].makefile():
            message = json.loads(line)
            if "event" in message:
                reason = message.get("data", {}).get("reason", "")
                self.events.append(f"{message['event']} {reason}".strip())

    def used(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.watcher.is_alive():
            self.watcher.join(5)
        self.log.close()


def command(folder: Path, names: list[str], scratch: Path, ports: dict[str, int]) -> list[str]:
    """A machine with a Cortex-A72 (Raspberry Pi 4), by translation alone, so that it is the same on every host."""
    chardevs = [f"socket,id={name},path={scratch / name}" for name in ("telegrams", "checks")]
    chardevs.append(f"socket,id=modbus,host=127.0.0.1,port={ports['rtu']},server=on,wait=off")
    return [
        *("qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "cortex-a72", "-accel", "tcg,thread=single"),
        *("-icount", GUEST_CLOCK, "-rtc", "clock=vm"),
        *("-smp", "2", "-m", "768", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"),
        *("-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initramfs")),
        *("-append", f"console=ttyAMA0 quiet panic=-1 random.trust_cpu=on 8250.nr_uarts=4 chapters={','.join(names)}"),
        *(word for chardev in chardevs for word in ("-chardev", chardev)),
        *("-device", "pci-serial-4x,chardev1=telegrams,chardev2=modbus,chardev3=checks", "-device", "i6300esb"),
        *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{ports['tcp']}-{ADDRESS}:502"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-qmp", f"unix:{scratch / 'qmp'}"),
    ]


def free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listen(path: Path) -> socket:
    listener = socket(AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    listener.settimeout(20)
    return listener


def accept(listener: socket) -> socket:
    connection, _ = listener.accept()
    connection.settimeout(None)
    return connection


class Report:
    """What was listed, what came, and when."""

    def __init__(self, mark: str, planned: list[str]) -> None:
        self.mark = mark
        self.planned = planned
        self.good: list[str] = []
        self.bad: list[str] = []
        self.began = time.monotonic()
        self.reset = ""

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f}]{self.mark} {line}", flush=True)

    def hear(self, line: str) -> None:
        verdict, _, name = line.partition(" - ")
        (self.good if verdict == "ok" and name in self.planned else self.bad).append(name)
        self.say(line if name in self.planned else f"{line} (not listed in its chapter)")

    def close(self, events: list[str]) -> bool:
        """True if all that was listed came, and came good. Only now is it known whether the machine was reset."""
        if self.reset:
            self.hear(f"{'ok' if 'WATCHDOG' in events else 'not ok'} - {self.reset}")
        missing = [name for name in self.planned if name not in self.good and name not in self.bad]
        for name in missing:
            self.say(f"not ok - {name} (never reported)")
        return not missing and not self.bad and len(self.good) == len(self.planned)


def follow(machine: Machine, peer: Peer, report: Report) -> None:
    """Everything that the guest says, until it has nothing more to say."""
    heard: queue.Queue[str] = queue.Queue()
    checks = machine.lines["checks"]

    def read() -> None:
        for line in checks.makefile(errors="replace"):
            heard.put(line.strip())
        heard.put("")

    threading.Thread(target=read, daemon=True).start()
    spoke, moved = machine.used(), (machine.used(), time.monotonic())
    while True:
        try:
            line = heard.get(timeout=LOOK_S)
        except queue.Empty:
            used, now = machine.used(), time.monotonic()
            if used > moved[0] + 1:
                moved = used, now
            if used > min(spoke + SILENCE_CPU_S, LIMIT_CPU_S) or now > moved[1] + STUCK_S:
                return report.hear("not ok - the machine ends by itself")
            continue
        if not line:
            return None
        spoke = machine.used()
        answer(line, checks, peer, report)


def answer(line: str, checks: socket, peer: Peer, report: Report) -> None:
    if line.startswith("resets - "):
        report.reset = line.partition(" - ")[2]
    if not line.startswith("host "):
        return report.hear(line) if line.startswith(("ok - ", "not ok - ")) else report.say(line)
    try:
        peer.do(*line.split()[1:])
        checks.sendall(b"ok\n")
    except Exception as error:  # whatever the peer stumbles over is the answer
        report.say(f"# host: {error or type(error).__name__}")
        checks.sendall(b"wrong\n")
    return None


class Run:
    """A machine, its peer, and what is heard of it."""

    def __init__(self, folder: Path, names: list[str], scratch: Path, mark: str) -> None:
        scratch.mkdir()
        self.console = folder / f"console{mark}.log"
        self.report = Report(mark, plan(names))
        self.machine = Machine(folder, names, scratch, self.console)
        peer = Peer(self.machine.lines["telegrams"], self.machine.ports)
        self.follower = threading.Thread(target=follow, args=(self.machine, peer, self.report), daemon=True)
        self.follower.start()

    def close(self) -> bool:
        good = self.report.close(self.machine.events)
        if not good:
            print(f"the machine's console is in {self.console}; its last lines:", file=sys.stderr)
            lines = self.console.read_text(errors="replace").splitlines()
            print("\n".join(lines[-30:]), file=sys.stderr)
        return good


def share(names: list[str]) -> list[list[str]]:
    """The chapters of each machine; one that would only boot is not started."""
    shares = [[name for name in names if name == "boot" or (name in FIRST) == first] for first in (True, False)]
    return [share for share in shares if len(share) > 1] or [names]


def main() -> int:
    # Whoever ends this program ends the machine too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    known = list(chapters())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where initramfs.sh put kernel and initramfs")
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help=", ".join(known))
    args = parser.parse_args()
    if unknown := [name for name in args.chapters if name not in known]:
        parser.error(f"no chapter {unknown[0]!r}; there are {', '.join(known)}")
    names = [name for name in known if not args.chapters or name in ("boot", *args.chapters)]
    began = time.monotonic()
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for mark, chosen in zip("AB", share(names), strict=False):
                runs.append(Run(args.folder, chosen, Path(scratch) / mark, mark))
            for run in runs:
                run.follower.join()
        finally:
            for run in runs:
                run.machine.end()
        good = all([run.close() for run in runs])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, cpu = time.monotonic() - began, used.ru_utime + used.ru_stime
    proven, planned = sum(len(run.report.good) for run in runs), sum(len(run.report.planned) for run in runs)
    print(f"{proven} of {planned} checks good; {wall:.0f} s from power-on to the end, {cpu:.0f} s of CPU")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
