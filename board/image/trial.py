"""Boots the card image on an emulated 64-bit ARM machine, again and again, and says what was proven.

In: a folder with the card (card.img), U-Boot for QEMU's machine (u-boot.bin) and what updates.sh made (trial/). Out: a
line for each check, and an exit code: 0 only if all came good. The machine is QEMU's `virt` with a Cortex-A72: firmware
and U-Boot's drivers are not those of a Raspberry Pi; U-Boot's script, kernel, systemd and everything after it are the
card's own. The last chapter has the card's own U-Boot too, and a card slot: QEMU's Raspberry Pi 3, the nearest to a 4
that has been in its releases for long. A power cut is a QEMU that is killed.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, create_connection, socket

from pymodbus.client import ModbusTcpClient

# Where the first partition begins, as mtools takes it.
FIRST = "@@1M"
PLACE = "/var/lib/fcam/system.raucb"
ID = "cat /usr/lib/fcam-image/id"
CAMERA = (
    "echo vivid >/etc/modules-load.d/vivid.conf && "
    "echo options vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0 >/etc/modprobe.d/vivid.conf && "
    "modprobe vivid"
)
# Emulated, on a busy machine, a part takes many seconds: the one thing that is not as a card comes, a drop-in on its
# data partition, where a site has its own.
PATIENCE = "[Service]\nWatchdogSec=300\nTimeoutStartSec=1800\nNice=0\nCPUWeight=100\n"
SLOT_A, DATA, SECTOR = 2, 4, 512
# Where U-Boot's state is, and what a good system has left (card.sh, root/etc/rauc/system.conf).
STATE, LEFT = 0x80000, 3
# The active one's name.
ACTIVE = "runuser -u fcam -- fcam bundle list | awk '/active/ { print $1 }'"
BOOT_S, COMMAND_S, WAIT_S = 1500, 1500, 900
GROWN_MB, WORN_MB = 256, 128
PI_CARD = 2**32  # bytes; its slot takes powers of two alone
READY = 1
# A tiny retraining: a minute on one core, and a network that an emulated processor judges a part with in a second.
PICTURES = "--size 128 --train 200 --val 60 --test 60 --surfaces plastic brushed --defects dent stain"
TRAINING = "--recipe inspection --size 96 --batch 8 --epochs 5 --decoder-epochs 2 --lr 4e-3"
TRAINING += " --precision fp32 --false-reject 0.3"
EXPORT = "--golden 4 --calibration 24 --sample-count 2 --method entropy"
TOOLS = Path(__file__).parents[2] / "tools"
# The address is what QEMU's network gives by DHCP: a station does not listen to every network.
# vivid is the kernel's test camera; every frame that is done with makes room for the newest one: the belt is watched.
STATION = """[bundle]
store = "/var/lib/fcam/bundles"
watch_parts = 5
[camera]
kind = "v4l2"
device = "vivid"
width = 640
height = 360
[modbus.tcp]
listen = "10.0.2.15:502"
[record]
dir = "/var/lib/fcam/record"
keep = "none"
picture = "jpg"
free_mb = 20
"""


def free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Report:
    """What was checked, and when."""

    def __init__(self) -> None:
        self.good, self.bad = 0, 0
        self.began = self.last = time.monotonic()

    def check(self, name: str, good: bool, why: str = "") -> None:
        now = time.monotonic()
        print(f"[{now - self.began:6.1f} +{now - self.last:5.1f}] {'ok' if good else 'not ok'} - {name}", flush=True)
        self.last = now
        self.good, self.bad = self.good + good, self.bad + (not good)
        if not good:
            print(why, file=sys.stderr, flush=True)
            raise BadCheckError(name)

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f}]        {line}", flush=True)


class BadCheckError(Exception):
    """What comes after this check stands on it."""


class Machine:
    """The emulated board, from power on to power off."""

    def __init__(self, folder: Path, card: Path, worn: Path, key: Path, console: Path, scratch: Path) -> None:
        self.ports = {"ssh": free_port(), "modbus": free_port()}
        self.key, self.console, self.monitor, self.socket = key, console, scratch / "monitor", scratch / "ssh.socket"
        self.link: subprocess.Popen[bytes] | None = None
        self.process = subprocess.Popen(self.command(folder, card, worn), stdin=subprocess.DEVNULL)

    def command(self, folder: Path, card: Path, worn: Path) -> list[str]:
        forwards = ",".join(
            f"hostfwd=tcp:127.0.0.1:{self.ports[name]}-:{port}" for name, port in (("ssh", 22), ("modbus", 502))
        )
        return [
            *("qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "cortex-a72", "-accel", "tcg"),
            # Its clock goes by the instructions that it executes: on a busy machine nothing comes too late in there.
            *("-icount", "shift=2", "-rtc", "clock=vm"),
            *("-smp", "1", "-m", "1024", "-nodefaults", "-display", "none"),
            *("-serial", f"file:{self.console}"),
            *("-bios", str(folder / "u-boot.bin"), "-netdev", f"user,id=net,restrict=on,{forwards}"),
            *("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"),
            *("-drive", f"file={card},format=raw,if=none,id=card", "-device", "virtio-blk-pci,drive=card"),
            *("-drive", f"file={worn},format=raw,if=none,id=worn", "-device", "virtio-blk-pci,drive=worn"),
            *("-monitor", f"unix:{self.monitor},server=on,wait=off"),
        ]

    def said(self) -> str:
        """Its console, without colours."""
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)

    def options(self) -> list[str]:
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        options += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=300", "-i", str(self.key)]
        return [*options, "-o", f"ControlPath={self.socket}"]

    def linked(self) -> bool:
        """Whether one login stands, which all commands go through: each takes ten seconds, emulated."""
        if self.link is None or self.link.poll() is not None:
            self.socket.unlink(missing_ok=True)
            words = ["ssh", *self.options(), "-N", "-M", "-p", str(self.ports["ssh"]), "root@127.0.0.1"]
            self.link = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        words = ["ssh", "-O", "check", "-o", f"ControlPath={self.socket}", "root@127.0.0.1"]
        return subprocess.run(words, capture_output=True, timeout=COMMAND_S, check=False).returncode == 0

    def unlink(self) -> None:
        if self.link is not None:
            self.link.kill()
            self.link.wait()
            self.link = None

    def ssh(self, command: str, sent: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        words = ["ssh", *self.options(), "-p", str(self.ports["ssh"]), "root@127.0.0.1", command]
        return subprocess.run(words, input=sent, capture_output=True, timeout=COMMAND_S, check=False)

    def copy(self, file: Path, place: str) -> None:
        words = ["scp", "-q", *self.options(), "-P", str(self.ports["ssh"]), str(file), f"root@127.0.0.1:{place}"]
        subprocess.run(words, timeout=COMMAND_S, check=True)

    def within(self, seconds: float, holds: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if holds():
                return True
            time.sleep(1)
        return False

    def answers(self) -> bool:
        """Somebody speaks ssh on its port."""
        try:
            with create_connection(("127.0.0.1", self.ports["ssh"]), 10) as link:
                link.settimeout(10)
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def registers(self) -> list[int]:
        """STATUS and what follows it (board/plc/modbus.md); empty if nobody answers."""
        with ModbusTcpClient("127.0.0.1", port=self.ports["modbus"], timeout=10, retries=0) as client:
            try:
                answer = client.read_input_registers(0, count=20)
            except Exception:  # pymodbus has several, and a camera that starts gives each
                return []
            return [] if answer.isError() else list(answer.registers)

    def ready(self) -> bool:
        return bool((self.registers() or [0])[0] & READY)

    def parts(self) -> int:
        """Judged since the station's start; -1 if nobody answers."""
        words = self.registers()
        return (words[12] << 16 | words[13]) + (words[14] << 16 | words[15]) if words else -1

    def wear_out(self) -> None:
        """From now on the second disk answers everything with an error."""
        with socket(AF_UNIX) as monitor:
            monitor.settimeout(30)
            monitor.connect(str(self.monitor))
            for command in (b"", b"drive_del worn\n"):
                monitor.sendall(command)
                while not monitor.recv(4096).rstrip().endswith(b"(qemu)"):
                    pass

    def off(self) -> None:
        """The power is cut."""
        self.unlink()
        self.process.kill()
        self.process.wait()


class Pi(Machine):
    """QEMU's Raspberry Pi 3 with the card in its slot, without a network."""

    def command(self, folder: Path, card: Path, worn: Path) -> list[str]:
        parts = folder / "parts/root/usr/lib"
        tree = next(parts.glob("linux-image-*/broadcom/bcm2837-rpi-3-b.dtb"))
        return [
            *("qemu-system-aarch64", "-M", "raspi3b", "-nodefaults", "-display", "none"),
            *("-kernel", str(parts / "u-boot/rpi_arm64/u-boot.bin"), "-dtb", str(tree)),
            *("-drive", f"file={card},format=raw,if=sd"),
            # The console is the second of its UARTs.
            *("-serial", "null", "-serial", f"file:{self.console}"),
        ]


class Watch:
    """Asks the station every half second whether it is READY, and how many parts it has judged."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.asked = self.low = self.silent = 0
        self.first = self.last = machine.parts()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.done.wait(0.5):
            words = self.machine.registers()
            self.asked += 1
            self.silent += not words
            self.low += bool(words) and not words[0] & READY

    def end(self) -> str:
        self.done.set()
        self.thread.join()
        self.last = self.machine.parts()
        return (
            f"READY asked {self.asked} times, low {self.low}, no answer {self.silent}, {self.last - self.first} parts"
        )


class Trial:
    """The chapters, in their order: each goes on with the card that the one before it left."""

    machine: Machine

    def __init__(self, folder: Path, report: Report, fcam_tools: list[str]) -> None:
        self.folder, self.report, self.fcam_tools = folder, report, fcam_tools
        self.given, self.scratch = folder / "trial", folder / "scratch"
        self.card, self.worn, self.key, self.name = (self.scratch / name for name in ("card", "worn", "key", "name"))
        self.starts = 0

    def begin(self) -> None:
        """A card as it comes, a disk that will be worn out, a key for ssh."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        subprocess.run(["cp", "--sparse=always", self.folder / "card.img", self.card], check=True)
        # A card is larger than the image.
        with self.card.open("r+b") as card:
            card.truncate(self.card.stat().st_size + GROWN_MB * 2**20)
        self.prepare(self.card)
        with self.worn.open("wb") as worn:
            worn.truncate(WORN_MB * 2**20)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)

    def change(self, card: Path, partition: int, commands: list[str]) -> None:
        """Edits the file system of a partition, which the master boot record tells the place of."""
        with card.open("rb") as opened:
            entry = opened.read(SECTOR)[446 + 16 * (partition - 1) :]
        first = int.from_bytes(entry[8:12], "little") * SECTOR
        words = ["debugfs", "-w", "-f", "-", f"{card}?offset={first}"]
        subprocess.run(words, input="\n".join(commands), text=True, capture_output=True, check=True)

    def prepare(self, card: Path) -> None:
        """Puts the drop-in on the data partition."""
        file = self.scratch / "slow.conf"
        file.write_text(PATIENCE)
        place, commands = "", []
        for folder in ("etc", "systemd", "system", "fcam.service.d"):
            place += f"/{folder}"
            commands.append(f"mkdir {place}")
        commands.append(f"write {file} {place}/slow.conf")
        self.change(card, DATA, commands)

    def go_on(self) -> None:
        """The card as the run before left it, switched on."""
        self.start()
        self.ready("READY")
        self.up("ssh answers")

    def start(self, machine: type[Machine] = Machine) -> None:
        self.starts += 1
        console = self.folder / f"console.{self.starts}.log"
        console.unlink(missing_ok=True)
        self.machine = machine(self.folder, self.card, self.worn, self.key, console, self.scratch)

    def end(self) -> None:
        if self.starts:
            self.machine.off()

    def on(self, name: str, command: str, sent: str | bytes = b"") -> str:
        """Something that must come good on the camera. Returns what it says."""
        done = self.machine.ssh(command, sent.encode() if isinstance(sent, str) else sent)
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        self.report.check(name, done.returncode == 0, said)
        return said

    def expect(self, name: str, seconds: float, holds: Callable[[], bool]) -> None:
        good = self.machine.within(seconds, holds)
        self.report.check(name, good, "" if good else self.machine.said()[-4000:])

    def said(self, words: str, times: int = 1) -> Callable[[], bool]:
        """The console, from this power on."""
        return lambda: self.machine.said().count(words) >= times

    def left(self, slot: str) -> int:
        """So often U-Boot may start a slot (boot.cmd); -1 if that is being written."""
        with self.card.open("rb") as card:
            card.seek(STATE)
            found = re.search(rf"BOOT_{slot}_LEFT=(\d)".encode(), card.read(0x1000))
        return int(found[1]) if found else -1

    def up(self, name: str) -> None:
        """ssh lets the key in that is on the card."""
        self.expect(name, BOOT_S, self.machine.linked)

    def ready(self, name: str) -> None:
        self.expect(name, WAIT_S, self.machine.ready)

    def fresh(self) -> None:
        """The card as it comes."""
        self.start()
        self.expect("U-Boot starts slot A", BOOT_S, self.said("fcam: slot A"))
        self.expect("the start is counted", BOOT_S, lambda: self.left("A") == LEFT - 1)
        self.expect("the system comes up as a whole", BOOT_S, self.said("login:"))
        # Its console is the login's from now on; what RAUC writes down once the station was READY for 10 s is not.
        self.expect("a card as it comes starts a station that is READY", BOOT_S, lambda: self.left("A") == LEFT)
        self.report.check("nobody answers for ssh", not self.machine.answers())
        self.report.check("nobody answers for Modbus", not self.machine.registers())
        self.machine.off()

    def first(self) -> None:
        """With the site's key on the first partition, as README.txt there says."""
        place = f"{self.card}{FIRST}"
        subprocess.run(["mcopy", "-o", "-i", place, self.key.with_suffix(".pub"), "::authorized_keys"], check=True)
        self.start()
        self.up("after a power cut, and with a key on the card, ssh answers")
        name = self.on("it has a name of its own", r"hostname | grep -x 'fcam-[0-9a-f]\{8\}'")
        self.name.write_text(name)
        self.on(
            "it has a pair of keys of its own",
            "openssl pkey -in /etc/fcam/device.key -pubout | cmp - /etc/fcam/device.pub && "
            "[ $(stat -c %a%U /etc/fcam/device.key) = 600root ]",
        )
        self.on(
            "nobody has a password", "! cut -d: -f2 /etc/shadow | grep -q '^[^*!]' && ! grep -q '^[^:]*::' /etc/shadow"
        )
        self.on(
            "ssh takes keys alone",
            "sshd -T | grep -x 'passwordauthentication no' && sshd -T | grep -x 'kbdinteractiveauthentication no'",
        )
        self.on(
            "the root file system is read-only, under an overlay in memory",
            "findmnt -no FSTYPE / | grep -x overlay && findmnt -no OPTIONS /run/fcam-image/root | grep -w ro && "
            "! touch /run/fcam-image/root/lost 2>/dev/null",
        )
        least = (512 + GROWN_MB) * 9 // 10
        self.on(
            "the data partition has what the card has",
            f"[ $(df -m --output=size /var/lib/fcam | tail -n 1) -ge {least} ]",
        )
        self.on("no unit failed", "systemctl --failed --no-legend | { ! grep . ; }")
        self.on("nothing listens but ssh", "ss -Hltn | grep -v -e ':22 ' -e '127.0.0.5[34]' | { ! grep . ; }")
        self.on("a station file of this site: the kernel's test camera, Modbus", "cat >/etc/fcam/station.toml", STATION)
        self.on("the test camera is there at each start", CAMERA)
        self.on("the station file has nothing wrong", "fcam check /etc/fcam/station.toml")
        # The tests' small bundle takes the place of the program's own, which takes seconds a part, emulated.
        self.machine.copy(self.given / "bundles/shop.pub", "/etc/fcam/keys/shop.pub")
        release = (self.given / "bundles/first.fcam").read_bytes()
        self.on("a signed bundle is installed", "runuser -u fcam -- fcam bundle install -", release)
        self.on("it is the next start's", "systemctl stop fcam; runuser -u fcam -- fcam bundle activate tiny")
        self.on("the station starts on it", "systemctl restart fcam")
        self.ready("Modbus: READY")
        self.expect("Modbus: parts are judged", WAIT_S, lambda: self.machine.parts() >= 2)
        self.on("what is written beside the kept folders is in memory", "touch /usr/lost /etc/lost")

    def cut(self) -> None:
        """The power is cut while the station judges and records, and while somebody writes."""
        self.records("all")
        self.ready("READY, and each part is recorded")
        self.machine.ssh("dd if=/dev/zero of=/var/lib/fcam/filler bs=1M count=64 >/dev/null 2>&1 &")
        time.sleep(2)
        self.machine.off()
        self.start()
        self.ready("after the power was cut: Modbus: READY")
        self.up("ssh answers")
        self.on("its name stays", f"hostname | grep -x {self.name.read_text()}")
        self.on("what was in memory is gone", "! test -e /usr/lost && ! test -e /etc/lost")
        self.on("no unit failed", "systemctl --failed --no-legend | { ! grep . ; }")
        self.expect("parts are judged", WAIT_S, lambda: self.machine.parts() >= 2)

    def wear(self) -> None:
        """Records go to a disk of their own, which dies: with an error at every access, as a card that is worn out."""
        self.on(
            "records go to a disk of their own",
            "mkfs.ext4 -q /dev/vdb && mkdir -p /var/lib/fcam/record && mount /dev/vdb /var/lib/fcam/record && "
            "chown fcam: /var/lib/fcam/record && systemctl restart fcam",
        )
        recorded = "find /var/lib/fcam/record -name '*.json' | grep -q ."
        self.expect("parts are recorded", WAIT_S, lambda: self.machine.ssh(recorded).returncode == 0)
        self.machine.wear_out()
        why = "journalctl -u fcam -b | grep 'are not recorded'"
        self.expect("the disk fails, and the station says why", WAIT_S, lambda: self.machine.ssh(why).returncode == 0)
        self.report.say(self.on("it says so", why).splitlines()[-1])
        before = self.machine.parts()
        self.expect("parts are judged as before", WAIT_S, lambda: self.machine.parts() >= before + 3)
        self.report.check("READY", self.machine.ready())
        self.on("once for all of them", f"[ $({why} | wc -l) = 1 ]")
        self.on("it stops, with the disk dead", "systemctl stop fcam")
        counted = "journalctl -u fcam -b -o cat | grep 'stopped: .* record drop' | tail -n 1"
        self.report.say(self.on("and has counted what it dropped", f"{counted} | grep ."))
        self.on("it starts again on the card", "umount -l /var/lib/fcam/record")
        self.records("none")
        self.ready("READY")

    def records(self, which: str) -> None:
        """Records of all parts take most of an emulated processor: nothing else comes to its turn."""
        # Written down: the power may be cut right after.
        change = f"sed -i 's/^keep = .*/keep = \"{which}\"/' /etc/fcam/station.toml && sync && systemctl restart fcam"
        self.on(f"a station file that keeps {which}", change)

    def deploy(self) -> None:
        """fcam-tools over ssh, while parts run."""
        self.swap("a second release, between two parts", lambda name: self.deployed(name, "second", "active"))
        self.deployed("a file that was changed on its way is refused", "changed", "failed")
        self.deployed("a stranger's release is refused", "strange", "failed")
        self.deployed("an older release is refused", "old", "failed")
        self.on("the second one is active still", f"{ACTIVE} | grep -x tiny.6")
        self.swap("rollback", lambda name: self.on(name, "runuser -u fcam -- fcam bundle rollback"))
        self.on("the first one is active again", f"{ACTIVE} | grep -x tiny.5")
        self.swap("the default bundle", lambda name: self.deployed(name, "default", "active"))
        self.on("rollback", "runuser -u fcam -- fcam bundle rollback")
        self.on("the first one is active again", f"{ACTIVE} | grep -x tiny.5")

    def swap(self, name: str, change: Callable[[str], object]) -> None:
        """A change of bundle or system, and what the PLC sees of it."""
        watch = Watch(self.machine)
        change(name)
        told = watch.end()
        self.report.say(told)
        good = not watch.low and watch.last > watch.first
        self.report.check("READY was never low, and parts went on", good, told)

    def deployed(self, name: str, bundle: str, state: str) -> None:
        file = self.given / "bundles" / f"{bundle}.fcam"
        self.told(name, state, "deploy", str(file), "camera", *self.reached())

    def retrain(self) -> None:
        """From pictures to the camera by one command of the workstation, while parts run."""
        pictures, out = self.scratch / "pictures", self.scratch / "out"
        made = ["synth", str(pictures), *PICTURES.split(), "--force", "--workers", "1"]
        began = time.monotonic()
        subprocess.run([*self.fcam_tools, *made], check=True, stdout=subprocess.DEVNULL)
        self.report.say(f"320 pictures with defects made in {time.monotonic() - began:.0f} s")
        shutil.rmtree(out, ignore_errors=True)
        words = ["redeploy", str(pictures), "camera", "--name", "parts", "--key", str(self.given / "bundles/shop.key")]
        words += ["--out", str(out), "--least-auroc", "0.7", f"--train={TRAINING}", f"--export={EXPORT}"]
        words += [f"--deploy={shlex.join(self.reached())}"]
        self.swap("retrained, exported, signed and deployed", lambda name: self.told(name, "active", *words))
        self.on("the new network is active", f"{ACTIVE} | grep -x parts.1")
        self.on("rollback", "runuser -u fcam -- fcam bundle rollback")
        self.on("the one before it is active again", f"{ACTIVE} | grep -x tiny.5")

    def reached(self) -> list[str]:
        """Words for fcam-tools: how ssh reaches the host `camera`, and its patience."""
        config = self.scratch / "ssh"
        config.write_text(
            f"Host camera\n HostName 127.0.0.1\n Port {self.machine.ports['ssh']}\n User root\n"
            f" IdentityFile {self.key}\n StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n"
        )
        return ["--ssh-config", str(config), "--wait", str(WAIT_S)]

    def told(self, name: str, state: str, *words: str) -> None:
        """A verb of fcam-tools that ends with the camera's row, and this state in it."""
        done = subprocess.run(
            [*self.fcam_tools, *words], capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
        for line in done.stderr.splitlines():
            if line.startswith("== "):
                self.report.say(line)
        rows = [line for line in done.stdout.splitlines() if line.startswith("camera *")]
        self.report.check(
            name,
            done.returncode == (state == "failed") and len(rows) == 1 and state in rows[0],
            done.stdout + done.stderr,
        )
        self.report.say(rows[0])

    def refused(self) -> None:
        """Systems that nobody should have."""
        self.on(
            "the certificate of who makes systems",
            "cat >/etc/fcam/system.pem",
            (self.given / "keys/system.pem").read_bytes(),
        )
        self.machine.copy(self.given / "forged.raucb", PLACE)
        self.on(
            "a system that a stranger has signed is refused",
            f"! rauc install {PLACE} >/tmp/why 2>&1 && cat /tmp/why && grep 'signature verification failed' /tmp/why",
        )
        self.machine.copy(self.given / "good.raucb", PLACE)
        told = self.on(
            "a system that was damaged on its way is refused",
            f"cp {PLACE} {PLACE}.bad && "
            f"printf damaged | dd of={PLACE}.bad bs=1 seek=9000000 conv=notrunc status=none && "
            f"! rauc install {PLACE}.bad >/tmp/why 2>&1 && rm {PLACE}.bad && "
            "grep 'LastError: .*Input/output error' /tmp/why",
        )
        self.report.say(told)
        self.on("and U-Boot would not start it", "[ $(fw_printenv -n BOOT_B_LEFT) = 0 ]")

    def update(self) -> None:
        """A good system: installed, started, found good, started for good."""
        self.swap("a new system is taken into slot B", lambda name: self.on(name, f"rauc install {PLACE}"))
        self.restarts("it restarts into slot B", "B")
        self.ready("READY on the new system")
        self.up("ssh answers")
        self.on("it is the new one", f"{ID} | grep -x trial-good")
        self.expect(
            "it is marked good",
            WAIT_S,
            lambda: self.machine.ssh("grep -x trial-good /var/lib/fcam-image/good").returncode == 0,
        )
        self.on("U-Boot has it first from now on", "fw_printenv -n BOOT_ORDER | grep '^B'")
        self.on("its name stays", f"hostname | grep -x {self.name.read_text()}")
        self.on("its bundles stay", f"{ACTIVE} | grep -x tiny.5")

    def restarts(self, name: str, slot: str) -> None:
        seen = self.machine.said().count(f"fcam: slot {slot}")
        self.machine.ssh("systemctl reboot")
        self.machine.unlink()
        self.expect(name, BOOT_S, self.said(f"fcam: slot {slot}", seen + 1))

    def sick(self) -> None:
        """A system that starts, and whose station is never ready."""
        self.falls_back("a system without a working station", "sick")

    def dead(self) -> None:
        """A system that does not even start."""
        self.falls_back("a system whose kernel panics", "dead")

    def falls_back(self, what: str, name: str) -> None:
        """Installs a system that is no good, and sees the one that runs come back by itself."""
        slot, before = self.on("what runs", f". /run/fcam-image/slot && echo $SLOT && {ID}").split()
        other = {"A": "B", "B": "A"}[slot]
        self.machine.copy(self.given / f"{name}.raucb", PLACE)
        self.on(f"{what} is taken into slot {other}", f"rauc install {PLACE}")
        self.restarts(f"it restarts into slot {other}", other)
        seen = self.machine.said().count(f"fcam: slot {slot}")
        back = self.said(f"fcam: slot {slot}", seen + 1)
        self.expect(f"U-Boot goes back to slot {slot}", 3 * BOOT_S, back)
        self.ready("READY on the system before it")
        self.up("ssh answers")
        self.on("it is the one before", f"{ID} | grep -x {before}")

    def closed(self) -> None:
        """The key is taken off the card, and the power cut."""
        self.end()
        subprocess.run(["mdel", "-i", f"{self.card}{FIRST}", "::authorized_keys"], check=True)
        self.start()
        self.ready("without the key on the card: READY")
        self.expect("the system comes up as a whole", BOOT_S, self.said("login:"))
        self.report.check("nobody answers for ssh", not self.machine.answers())

    def pi(self) -> None:
        """The card as it comes in QEMU's Raspberry Pi."""
        self.end()
        self.scratch.mkdir(exist_ok=True)
        self.card = self.scratch / "pi"
        subprocess.run(["cp", "--sparse=always", self.folder / "card.img", self.card], check=True)
        os.truncate(self.card, PI_CARD)
        self.prepare(self.card)
        # QEMU resets this machine as soon as its watchdog is set.
        self.change(self.card, SLOT_A, ["rm /usr/lib/systemd/system.conf.d/fcam.conf"])
        self.start(Pi)
        self.expect("the card's U-Boot starts slot A", BOOT_S, self.said("fcam: slot A"))
        self.expect("the start is counted on the card", BOOT_S, lambda: self.left("A") == LEFT - 1)
        self.expect("its kernel finds the card, and systemd starts", BOOT_S, self.said("Welcome to Debian"))
        self.expect("the station is READY, and the system marked good", BOOT_S, lambda: self.left("A") == LEFT)


CHAPTERS = ("fresh", "first", "deploy", "retrain", "cut", "wear", "refused", "update", "dead", "sick", "closed", "pi")
# These switch the machine on themselves.
FROM_OFF = ("fresh", "first", "closed", "pi")


def main() -> int:
    # Whoever ends this program ends the machine too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with card.img, u-boot.bin and trial/")
    parser.add_argument("--from", dest="first", choices=CHAPTERS, default="", help="go on with the last run's card")
    parser.add_argument("--until", dest="last", choices=CHAPTERS, default=CHAPTERS[-1], help="the last chapter to run")
    args = parser.parse_args()
    for tool in ("qemu-system-aarch64", "ssh", "scp", "debugfs", "mcopy", "mdel"):
        if shutil.which(tool) is None:
            raise SystemExit(f"no {tool}: install qemu-system-arm, openssh-client, e2fsprogs, mtools")
    # A camera that starts does not answer, and pymodbus would say so each time.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    report = Report()
    os.environ |= {"PYTHONPATH": str(TOOLS), "FCAM": str((args.folder / "trial/fcam").resolve())}
    trial = Trial(args.folder, report, [sys.executable, "-m", "fcam_tools"])
    chapters = CHAPTERS[CHAPTERS.index(args.first or CHAPTERS[0]) : CHAPTERS.index(args.last) + 1]
    try:
        if not args.first:
            trial.begin()
        elif args.first not in FROM_OFF:
            trial.go_on()
        for chapter in chapters:
            print(f"# {chapter}", flush=True)
            getattr(trial, chapter)()
    except BadCheckError:
        print(f"the machine's consoles are {args.folder}/console.*.log", file=sys.stderr)
    finally:
        trial.end()
    print(f"{report.good} checks good, {report.bad} bad, {time.monotonic() - report.began:.0f} s")
    return 1 if report.bad else 0


if __name__ == "__main__":
    sys.exit(main())
