"""Bundles brought to cameras over ssh. A camera is a folder, and its fcam a stand-in (camera_standin.py) that keeps to
the contract of `fcam bundle`; where the real program has that verb, it is a camera too. The way there is a stand-in for
ssh that runs the command in the camera's folder, and sshd itself where it is installed.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fcam_tools import __main__
from fcam_tools.ship import deploy

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).with_name("camera_standin.py")
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
HOSTS = ("one", "two", "three")


def signed(folder: Path, name: str = "parts", counter: int = 1, content: bytes = b"network") -> Path:
    """A file of the form that `fcam bundle sign` writes."""
    path = folder / f"{name}-{counter}.fcam"
    release = f"fcam bundle 1: name={name} counter={counter} target=any version=1.0 b"
    comment = f"untrusted comment: x\nabc\ntrusted comment: {release}\ndef\n"
    with tarfile.open(path, "w") as archive:
        for member, octets in (("bundle.tar", content), ("bundle.tar.minisig", comment.encode())):
            header = tarfile.TarInfo(member)
            header.size = len(octets)
            archive.addfile(header, BytesIO(octets))
    return path


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


class Fleet:
    """Cameras in a folder each, and the words that `fcam-tools deploy` needs to reach them."""

    def __init__(self, folder: Path, words: list[str], fcam: Path) -> None:
        self.folder = folder
        self.words = [*words, "--user", getpass.getuser(), "--fcam", str(fcam), "--store", "store", "--wait", "1"]
        for host in HOSTS:
            (folder / host).mkdir()

    def deploy(self, *words: str | Path) -> int:
        return __main__.main(["deploy", *self.words, *map(str, words)])

    def behave(self, host: str, **how: Any) -> None:
        (self.folder / host / "behave.json").write_text(json.dumps(how))

    def calls(self, host: str) -> list[str]:
        """What its fcam was asked, in order: verbs."""
        file = self.folder / host / "calls"
        return file.read_text().split() if file.exists() else []

    def active(self, host: str) -> str:
        state = json.loads((self.folder / host / "state.json").read_text())
        return str(state["active"])


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    return script(tmp_path / "fcam", f'#!/bin/sh\nexec {sys.executable} -B {STANDIN} "$@"\n')


@pytest.fixture
def fleet(tmp_path: Path, camera: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """By a stand-in for ssh; the camera "gone" does not answer."""
    text = f"""#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
[ "$1" != gone ] || {{ echo "ssh: connect to host gone port 22: No route to host" >&2; exit 255; }}
cd {tmp_path}/"$1" && exec sh -c "$2"
"""
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "ssh", text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return Fleet(tmp_path, [], camera)


def rows(captured: str) -> dict[str, dict[str, Any]]:
    return {row["host"]: row for row in json.loads(captured)["cameras"]}


def test_canary_first_then_the_others(fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleet.deploy("--json", signed(tmp_path), *HOSTS) == 0
    told = rows(capsys.readouterr().out)
    assert [told[host]["state"] for host in HOSTS] == ["active"] * 3
    assert [told[host]["canary"] for host in HOSTS] == [True, False, False]
    assert [fleet.active(host) for host in HOSTS] == ["parts.1"] * 3
    stamps = {host: (fleet.folder / host / "state.json").stat().st_mtime_ns for host in HOSTS}
    assert min(stamps, key=stamps.__getitem__) == "one"


def test_what_is_done_is_not_done_again(fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.behave("two", activate="the engine is on fire")
    assert fleet.deploy(signed(tmp_path), *HOSTS) == 1
    printed = capsys.readouterr()
    assert "the engine is on fire" in printed.out
    assert "1 of 3 cameras are not well" in printed.err
    fleet.behave("two")
    assert fleet.deploy("--json", signed(tmp_path), *HOSTS) == 0
    told = rows(capsys.readouterr().out)
    assert [told[host]["state"] for host in HOSTS] == ["unchanged", "active", "unchanged"]
    assert fleet.calls("one") == ["list", "install", "activate", "list", "activate"]
    assert fleet.calls("two") == ["list", "install", "activate", "list", "activate"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"activate": "2 of its golden pictures differ"}, "2 of its golden pictures differ"),
        ({"install": "no trusted key has signed it"}, "no trusted key has signed it"),
        ({"withdrawn": "it faulted on its first parts"}, "higher counter"),
        ({"event": "running"}, "not all of the parts have come"),
        ({"event": "next_start"}, "no station runs there"),
        ({"event": "waiting"}, "judges when the PLC asks for job 1"),
        ({"event": "exploded"}, "exploded"),
        ({"list": "what is this"}, "no JSON that is known here"),
    ],
)
def test_a_canary_that_is_not_well_ends_it(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: dict[str, str], said: str
) -> None:
    fleet.behave("one", **how)
    assert fleet.deploy("--json", signed(tmp_path), *HOSTS) == 1
    told = rows(capsys.readouterr().out)
    assert said in told["one"]["detail"]
    assert [told[host]["state"] for host in HOSTS[1:]] == ["not tried"] * 2
    assert not fleet.calls("two") and not fleet.calls("three")


def test_a_camera_that_is_away_is_its_own_matter(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.deploy("--json", signed(tmp_path), "one", "gone", "three") == 1
    told = rows(capsys.readouterr().out)
    assert told["gone"]["detail"] == "ssh: connect to host gone port 22: No route to host"
    assert fleet.active("three") == "parts.1"


def test_trials_are_waited_for_when_it_goes_on(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.behave("one", event="running")
    assert fleet.deploy(signed(tmp_path), *HOSTS) == 1
    assert fleet.deploy("--json", "--accept-trial", signed(tmp_path), "one") == 0
    assert rows(capsys.readouterr().out.splitlines()[-1])["one"]["state"] == "on trial"
    fleet.behave("one", event="passed")
    assert fleet.deploy("--json", signed(tmp_path), "one", "two") == 0
    assert rows(capsys.readouterr().out)["one"]["state"] == "active"
    assert fleet.calls("one").count("install") == 1
    assert fleet.active("two") == "parts.1"


@pytest.mark.parametrize(
    ("how", "state", "good"),
    [
        ({"event": "next_start"}, "next start", False),
        ({"event": "waiting"}, "waiting", False),
        ({"activate": "the station does not answer"}, "failed", False),
        ({"runs": "parts.0"}, "active", True),
        ({}, "unchanged", True),
    ],
)
def test_what_the_disk_says_is_active_is_asked_of_the_station(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: dict[str, str], state: str, good: bool
) -> None:
    """A station that is off, on another job, in trouble or with another bundle is no canary that is well."""
    assert fleet.deploy(signed(tmp_path), "one") == 0
    fleet.behave("one", **how)
    capsys.readouterr()
    assert fleet.deploy("--json", signed(tmp_path), "one", "two") == (not good)
    told = rows(capsys.readouterr().out)
    assert (told["one"]["before"], told["one"]["state"]) == ("parts.1", state)
    assert (told["two"]["state"] == "active") == good
    assert fleet.calls("one").count("install") == 1


def test_a_camera_on_another_job_is_good_enough_if_accepted(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.behave("one", event="waiting")
    assert fleet.deploy("--json", "--accept-trial", signed(tmp_path), "one", "two") == 0
    told = rows(capsys.readouterr().out)
    assert [told[host]["state"] for host in ("one", "two")] == ["waiting", "active"]


def test_a_dry_run_changes_nothing(fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleet.deploy(signed(tmp_path, counter=1), "one") == 0
    assert fleet.deploy("--no-activate", signed(tmp_path, counter=2), "one") == 0
    before = (fleet.folder / "one" / "state.json").read_text()
    capsys.readouterr()
    assert fleet.deploy("--dry-run", "--json", signed(tmp_path, counter=2), "one", "two") == 0
    told = rows(capsys.readouterr().out)
    assert (told["one"]["before"], told["one"]["state"]) == ("parts.1", "would activate")
    assert (told["two"]["before"], told["two"]["state"]) == ("-", "would install")
    assert (fleet.folder / "one" / "state.json").read_text() == before
    assert not (fleet.folder / "two" / "state.json").exists()
    assert fleet.deploy("--dry-run", "--json", signed(tmp_path, counter=1), "one") == 0
    row = rows(capsys.readouterr().out)["one"]
    assert (row["state"], row["detail"]) == ("would activate", "its station is asked whether it runs")


def test_another_file_of_the_same_release_is_the_cameras_to_refuse(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet.deploy(signed(tmp_path), "one") == 0
    assert fleet.deploy("--json", signed(tmp_path, content=b"another"), "one") == 1
    assert "was installed already" in rows(capsys.readouterr().out.splitlines()[-1])["one"]["detail"]


def test_a_camera_that_says_nothing_is_left(fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.behave("one", sleep=60)
    began = time.monotonic()
    assert fleet.deploy("--json", "--limit", "3", signed(tmp_path), "one") == 1
    assert time.monotonic() - began < 40
    assert "nothing for 3 s" in rows(capsys.readouterr().out)["one"]["detail"]


@pytest.mark.parametrize(
    ("wait", "limit", "sleep", "well"),
    [
        (9, 4, 6, True),  # longer than the limit of a step, but the parts are waited for that long
        (4, 9, 6, True),
        (0, 4, 7, False),
        (1, 4, 8, False),
    ],
)
def test_what_is_waited_for_comes_on_top_of_the_limit(
    fleet: Fleet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wait: int,
    limit: int,
    sleep: int,
    well: bool,
) -> None:
    fleet.behave("one", sleep_activate=sleep)
    words = ("--json", "--wait", str(wait), "--limit", str(limit), signed(tmp_path), "one")
    assert fleet.deploy(*words) == (not well)
    row = rows(capsys.readouterr().out.splitlines()[-1])["one"]
    assert row["state"] == "active" if well else row["detail"] == f"nothing for {wait + limit} s"


@pytest.mark.parametrize("answer", ['[{"name": "parts.1"}]', '{"bundles": []}', '"parts.1"', "[7]"])
def test_a_list_of_another_form_is_that_camera_s_failure(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    fleet.behave("two", list=answer)
    assert fleet.deploy("--json", signed(tmp_path), "one", "two") == 1
    told = rows(capsys.readouterr().out)
    assert told["one"]["state"] == "active" and "in no form that is known here" in told["two"]["detail"]


def test_a_bug_on_one_camera_is_told_with_the_others(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    done = deploy.activate

    def activate(camera: deploy.Camera, *rest: Any) -> tuple[str, str]:
        return done(camera, *rest) if camera.host != "two" else {}[camera.host]  # type: ignore[index]

    monkeypatch.setattr(deploy, "activate", activate)
    assert fleet.deploy("--json", signed(tmp_path), *HOSTS) == 1
    told = rows(capsys.readouterr().out)
    assert [told[host]["state"] for host in HOSTS] == ["active", "failed", "active"]
    assert "KeyError: 'two'; this is a bug of fcam-tools" in told["two"]["detail"]
    (log,) = (tmp_path / "state" / "fcam-tools").iterdir()
    assert "in activate" in log.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.fcam", "one"], "missing.fcam"),
        (["--limit", "0", "parts-1.fcam", "one"], "--limit 1 to"),
        (["--wait", "-1", "parts-1.fcam", "one"], "--wait is 0 to"),
        (["--wait", "99999999999", "parts-1.fcam", "one"], "--wait is 0 to"),
        (["plain.fcam", "one"], "is no file of `fcam bundle pack`"),
        (["unsigned.fcam", "one"], "is not signed"),
        (["parts-1.fcam", "one", "one"], "one is named twice"),
        (["--jobs", "0", "parts-1.fcam", "one"], "--jobs"),
    ],
)
def test_refused_before_any_camera_is_asked(
    fleet: Fleet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    signed(tmp_path)
    (tmp_path / "plain.fcam").write_text("a text")
    with tarfile.open(tmp_path / "unsigned.fcam", "w") as archive:
        archive.addfile(tarfile.TarInfo("bundle.tar"))
    monkeypatch.chdir(tmp_path)
    assert fleet.deploy(*words) == 2
    assert said in capsys.readouterr().err
    assert not fleet.calls("one")


# --- sshd ---


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def far(tmp_path: Path, camera: Path) -> Iterator[Fleet]:
    """The cameras behind an sshd of this machine: a port each."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd: install openssh-server")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / key], check=True)
    ports = {host: free_port() for host in HOSTS}
    config = [f"HostKey {tmp_path}/host", f"AuthorizedKeysFile {tmp_path}/user.pub", "ListenAddress 127.0.0.1"]
    config += ["StrictModes no", "UsePAM no", "PidFile none", "PermitRootLogin yes", "PasswordAuthentication no"]
    config += [f"Port {port}" for port in ports.values()]
    for host, port in ports.items():
        forced = f'cd {tmp_path}/{host} && exec sh -c "$SSH_ORIGINAL_COMMAND"'
        config += [f"Match LocalPort {port}", f"ForceCommand {forced}"]
    (tmp_path / "sshd_config").write_text("\n".join(config) + "\n")
    known = (tmp_path / "host.pub").read_text().split()[:2]
    (tmp_path / "known").write_text("".join(f"[127.0.0.1]:{port} {' '.join(known)}\n" for port in ports.values()))
    client = ["Host *", "HostName 127.0.0.1", f"IdentityFile {tmp_path}/user", "IdentitiesOnly yes"]
    client += [f"UserKnownHostsFile {tmp_path}/known"]
    client += [f"Host {host}\nPort {port}" for host, port in ports.items()]
    (tmp_path / "ssh_config").write_text("\n".join(client) + "\n")
    with (tmp_path / "sshd.log").open("w") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=log)
    try:
        for port in ports.values():
            wait_for(port, tmp_path / "sshd.log")
        yield Fleet(tmp_path, ["--ssh-config", str(tmp_path / "ssh_config")], camera)
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def test_over_ssh(far: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of some megabytes arrives whole, and errors come back."""
    file = signed(tmp_path, content=os.urandom(5_000_000))
    far.behave("three", install="the disk is full")
    assert far.deploy("--json", file, *HOSTS) == 1
    told = rows(capsys.readouterr().out)
    assert [told[host]["state"] for host in HOSTS] == ["active", "active", "failed"]
    assert "the disk is full" in told["three"]["detail"]
    assert (far.folder / "two" / "store" / "parts.1.fcam").read_bytes() == file.read_bytes()
    assert far.deploy("--json", file, "one", "two") == 0
    assert [row["state"] for row in rows(capsys.readouterr().out).values()] == ["unchanged"] * 2


def test_a_key_that_is_not_known_is_an_error(far: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "known").write_text("")
    assert far.deploy("--json", signed(tmp_path), "one") == 1
    assert "Host key verification failed" in rows(capsys.readouterr().out)["one"]["detail"]


# --- the real program ---


def test_the_camera_s_own_program(fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Signed by it, taken in by it, over the stand-in for ssh."""
    fcam = Path(os.environ.get("FCAM", ROOT / "target/debug/fcam"))
    if not os.access(fcam, os.X_OK):
        pytest.skip("no fcam binary: build it with cargo")

    def run(*words: str | Path) -> None:
        subprocess.run([fcam, "bundle", *words], cwd=tmp_path, check=True, capture_output=True)

    if subprocess.run([fcam, "bundle", "list", "--help"], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{fcam} has no `bundle`")
    run("keygen", "--no-password")
    run("pack", ROOT / "tests/common/tiny", "--out", "tiny.fcam")
    run("sign", "tiny.fcam", "--counter", "3")
    for host in HOSTS:
        (tmp_path / host / "keys").mkdir()
    for host in HOSTS[:2]:
        shutil.copy(tmp_path / "fcam.pub", tmp_path / host / "keys")
    real = script(tmp_path / "real", f'#!/bin/sh\nexec {fcam} "$@" --keys keys\n')
    words = ("--fcam", real, "--json", tmp_path / "tiny.fcam")
    assert fleet.deploy("--accept-trial", *words, *HOSTS) == 1
    told = rows(capsys.readouterr().out)
    assert [told[host]["state"] for host in HOSTS] == ["next start", "next start", "failed"], told
    assert "key" in told["three"]["detail"]
    assert fleet.deploy("--accept-trial", *words, *HOSTS[:2]) == 0
    told = rows(capsys.readouterr().out)
    assert [(row["before"], row["state"]) for row in told.values()] == [("tiny.3", "next start")] * 2
    assert fleet.deploy(*words, "one", "two") == 1
    assert [row["state"] for row in rows(capsys.readouterr().out).values()] == ["next start", "not tried"]
