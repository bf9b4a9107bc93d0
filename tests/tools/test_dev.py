"""The one door on machines that have this and lack that, with stand-ins for all that installs or builds.

What it asks for, and what it says when it cannot go on. `./dev fresh` does the same with nothing but Debian.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("dev", "Cargo.toml", "rust-toolchain.toml", "tools/requirements.lock")
# All that the set-up takes for granted; find is not among them.
GRANTED = ["sh", "sed", "cut", "grep", "sort", "head", "mkdir", "rm", "cat", "dirname", "mktemp", "sha256sum"]
GRANTED += ["paste", "env", "wc", "tail", "chmod", "date", "basename"]


class Machine:
    """A clone, a home, and a PATH with nothing on it but what is granted and the stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.clone, self.bin, self.home = (folder / name for name in ("clone", "bin", "home"))
        self.record = folder / "calls"
        for place in (self.clone, self.bin, self.home):
            place.mkdir()
        for name in FILES:
            (self.clone / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.clone / name)
        shutil.copytree(ROOT / "tools/dev", self.clone / "tools/dev")
        for name in GRANTED:
            (self.bin / name).symlink_to(shutil.which(name) or name)
        self.stand_in("uname", "echo x86_64")
        self.stand_in("id", "echo 0")
        self.stand_in("dpkg-query", f'grep -qx "$4" {folder}/installed && echo install ok installed')
        self.stand_in("apt-get", f"[ $1 = update ] && exit; shift; for word; do echo $word; done >>{folder}/installed")

    def stand_in(self, name: str, does: str = "", folder: Path | None = None) -> None:
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.record}\n{does}\n')
        path.chmod(0o755)

    def rust(self) -> None:
        """As rustup sets it up."""
        self.stand_in("cc")
        self.stand_in("rustc", "[ $1 = --print ] && echo /sysroot || echo rustc 1.95.0")
        self.stand_in("rustup", "echo 1.95.0-x86_64-unknown-linux-gnu")
        for name in ("cargo", "cargo-deny"):
            self.stand_in(name)

    def user(self, sudo: bool) -> None:
        self.stand_in("id", "echo 1000")
        if sudo:
            self.stand_in("sudo", '"$@"')

    def dev(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.bin), "HOME": str(self.home)} | environment
        return subprocess.run([self.clone / "dev", *words], env=environment, capture_output=True, text=True)

    def calls(self, name: str) -> list[str]:
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def internet(machine: Machine) -> Machine:
    """curl brings rustup's script, which installs a rustup that has the toolchain."""
    rustup = machine.home / ".cargo/bin/rustup"
    script = f'echo "rustup-init $*" >>{machine.record}; mkdir -p {rustup.parent}; '
    script += f"echo 'echo 1.95.0-x86_64' >{rustup}; chmod +x {rustup}"
    machine.stand_in("curl", f"while [ $1 != -o ]; do shift; done; cat >$2 <<'SCRIPT'\n{script}\nSCRIPT")
    return machine


def last(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[-1].replace("\x1b[1m== ", "").replace("\x1b[0m", "")


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The only thing that is said of a failure."""
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line]
    return line


@pytest.mark.parametrize("who", ["root", "a user with sudo"])
def test_nothing_is_installed(internet: Machine, who: str) -> None:
    if who != "root":
        internet.user(sudo=True)
    done = internet.dev("ready", "unit")
    assert done.returncode == 0, done.stdout + done.stderr
    asked = [call for call in internet.calls("apt-get") if call.startswith("install")]
    assert asked[0].endswith(" --no-install-recommends gcc libc6-dev") and " ffmpeg " in asked[1] and len(asked) == 2
    assert "--default-toolchain 1.95.0" in internet.calls("rustup-init")[0]
    assert len(internet.calls("sudo")) == (0 if who == "root" else 4)
    # The second time nothing is asked for.
    assert internet.dev("ready", "unit").returncode == 0
    assert len(internet.calls("apt-get")) == 4 and len(internet.calls("rustup-init")) == 1


def test_without_sudo_the_packages_are_named(machine: Machine) -> None:
    machine.user(sudo=False)
    line = one_line(machine.dev("ready", "unit"))
    assert line.startswith("dev: no sudo here. As root: ") and line.endswith(' gcc libc6-dev"; then this again')
    assert not machine.calls("apt-get")


def test_a_distribution_s_rust_is_left_alone(internet: Machine) -> None:
    for name, says in (("rustc", "rustc 1.63.0 (Debian)"), ("cargo", "cargo 1.65.0"), ("cc", "")):
        internet.stand_in(name, f"echo '{says}'")
    done = internet.dev("ready", "docs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rustc 1.63.0 is older than Rust 1.95" in done.stdout
    assert len(internet.calls("rustup-init")) == 1 and not internet.calls("apt-get")


def test_a_rust_that_is_new_enough_serves(machine: Machine) -> None:
    machine.rust()
    (machine.bin / "rustup").unlink()
    assert machine.dev("ready", "docs").returncode == 0
    assert not machine.calls("curl")


def test_rustup_brings_the_pinned_toolchain(machine: Machine) -> None:
    machine.rust()
    machine.stand_in("rustup", "[ $2 = install ] || echo stable-x86_64")
    assert machine.dev("ready", "docs").returncode == 0
    assert machine.calls("rustup")[1].startswith("toolchain install 1.95.0 --profile minimal --component rustfmt")


def test_without_a_way_to_rustup_it_says_so(machine: Machine) -> None:
    machine.stand_in("cc")
    machine.stand_in("curl", "echo 'curl: (6) no such host' >&2; exit 6")
    done = machine.dev("ready", "docs")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        "dev: Rust 1.95.0 could not be installed: install rustup (https://rustup.rs), then this again"
    ]


@pytest.mark.parametrize("name", ["HOME", "CARGO_HOME"])
def test_a_home_that_cannot_be_written(machine: Machine, name: str) -> None:
    machine.rust()
    line = one_line(machine.dev("ready", "docs", **{name: "/dev/null/home"}))
    assert "cannot be written" in line and line.endswith("set CARGO_HOME to a folder that can")


def test_a_place_for_the_toolchain_that_cannot_be_written(internet: Machine) -> None:
    internet.stand_in("cc")
    line = one_line(internet.dev("ready", "docs", RUSTUP_HOME="/dev/null/rustup"))
    assert line.startswith("dev: /dev/null/rustup cannot be written: set RUSTUP_HOME")
    assert not internet.calls("rustup-init")


def test_no_home_at_all(machine: Machine) -> None:
    done = subprocess.run(
        [machine.clone / "dev", "ready", "docs"], env={"PATH": str(machine.bin)}, capture_output=True, text=True
    )
    assert one_line(done) == "dev: HOME is not set: set it to a folder that can be written"


def test_an_old_python_is_refused_by_name(machine: Machine) -> None:
    machine.rust()
    machine.stand_in("python3", "[ $1 = --version ] && echo Python 3.9.2 || exit 1")
    line = one_line(machine.dev("ready", "py"))
    assert "python3 is Python 3.9.2, and Python 3.11 is the oldest that works" in line
    assert "PYTHON=python3.12" in line


def test_another_python_can_be_named(machine: Machine) -> None:
    machine.rust()
    machine.stand_in("python3", "exit 1")
    machine.stand_in("python3.12", f'[ "$2" != venv ] || exec {machine.bin}/made $3')
    pip = f"printf '#!/bin/sh\necho \"pip $*\" >>{machine.record}\n' >$1/bin/python; chmod +x $1/bin/python"
    machine.stand_in("made", f"mkdir -p $1/bin; {pip}")
    done = machine.dev("ready", "py", PYTHON="python3.12")
    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.calls("python3.12")[-1] == "-m venv .venv"


@pytest.fixture
def python(machine: Machine) -> Machine:
    """Rust, a Python whose environments record what pip is asked for, and an `uname` of a PC."""
    machine.rust()
    machine.stand_in("python3", f'[ "$2" != venv ] || exec {machine.bin}/made $3')
    pip = f"printf '#!/bin/sh\necho \"pip $*\" >>{machine.record}\n' >$1/bin/python; chmod +x $1/bin/python"
    machine.stand_in("made", f"mkdir -p $1/bin; {pip}")
    return machine


def test_without_a_gpu_its_packages_are_left_out(python: Machine) -> None:
    assert python.dev("ready", "py", FCAM_GPU="no").returncode == 0
    whole, lock = (python.clone / name for name in ("tools/requirements.lock", "target/requirements.lock"))
    left_out = set(packages_in(whole)) - set(packages_in(lock))
    assert left_out == set(gpu_alone()) and packages_in(lock)["torch"] == packages_in(whole)["torch"]


@pytest.mark.parametrize("environment", [{"FCAM_GPU": "yes"}, {}])
def test_with_a_gpu_or_another_processor_all_packages_come(python: Machine, environment: dict[str, str]) -> None:
    python.stand_in("uname", "echo aarch64")
    assert python.dev("ready", "py", **environment).returncode == 0
    assert not (python.clone / "target/requirements.lock").exists()


def test_a_wrong_word_for_the_gpu_is_refused(python: Machine) -> None:
    assert one_line(python.dev("ready", "py", FCAM_GPU="1")) == "dev: FCAM_GPU=1 is neither yes nor no"


def packages_in(lock: Path) -> dict[str, str]:
    """Each package with the lines of its hashes."""
    blocks = re.split(r"^(?=[a-z0-9])", lock.read_text(), flags=re.MULTILINE)
    return {name: rest for name, _, rest in (block.partition("==") for block in blocks if block)}


def gpu_alone() -> list[str]:
    (names,) = re.findall(r'^GPU_ALONE="(.*)"', (ROOT / "tools/dev/setup.sh").read_text(), re.MULTILINE)
    return names.split()


def test_what_is_left_out_is_linked_to_nothing_that_torch_loads() -> None:
    """By the libraries' own lists. Two of them are loaded where a GPU asks for them alone."""
    torch = importlib.util.find_spec("torch")
    libraries = [
        path
        for path in Path(str(torch and torch.origin)).parent.glob("lib/lib*.so")
        if path.name not in ("libtorch_cuda_linalg.so", "libcaffe2_nvrtc.so")
    ]
    told = subprocess.run(["readelf", "--dynamic", *libraries], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", told))
    left_out, there = set(), set()
    for package in importlib.metadata.distributions():
        brought = left_out if package.name in gpu_alone() else there  # triton has a copy of one that torch needs
        brought |= {path.name for path in package.files or []}
    assert "libtorch_cpu.so" in needed and not needed & left_out - there


def test_another_distribution_is_told_what_to_have(machine: Machine) -> None:
    machine.rust()
    for name in ("apt-get", "dpkg-query"):
        (machine.bin / name).unlink()
    done = machine.dev("ready", "unit")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no apt-get here: have what Debian calls ffmpeg " in done.stdout


def test_apt_s_failure_ends_it(machine: Machine) -> None:
    machine.stand_in("apt-get", "[ $1 = update ] || { echo 'E: no such package' >&2; exit 100; }")
    done = machine.dev("ready", "unit")
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("dev: not installed: gcc libc6-dev")


# --- lanes ---


@pytest.fixture
def elsewhere(machine: Machine) -> Machine:
    """A machine that is no x86-64, so that there is no cross-building, and that has everything else."""
    machine.rust()
    machine.stand_in("uname", "echo aarch64")
    machine.stand_in("python3")
    machine.stand_in("git", "[ $1 != ls-files ] || echo dev")
    machine.stand_in("shellcheck")
    machine.stand_in("systemd-analyze", "echo --threshold")
    for name in ("python", "ruff", "mypy", "pytest", "fcam-tools"):
        machine.stand_in(name, folder=machine.clone / ".venv/bin")
    return machine


def test_a_lane_says_what_it_left_out(elsewhere: Machine) -> None:
    done = elsewhere.dev("arm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert last(done) == "arm: passed, NOT run: all of it (cross-building for ARM is set up for Debian on x86-64)"


def test_in_ci_nothing_is_left_out(elsewhere: Machine) -> None:
    done = elsewhere.dev("arm", CI="true")
    assert done.returncode == 1 and last(done).startswith("arm: FAILED: in CI everything runs. NOT run: all of it")
    done = elsewhere.dev("docs", CI="true")
    assert done.returncode == 0 and last(done) == "docs: passed"


def test_all_lanes_tell_together_what_was_left_out(elsewhere: Machine) -> None:
    elsewhere.stand_in("pytest", "echo 'mbpoll (it is not there)' >>$FCAM_NOT_RUN", elsewhere.clone / ".venv/bin")
    done = elsewhere.dev("test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all tests passed" not in done.stdout
    left = last(done).removeprefix("passed, NOT run: ").split("; ")
    assert [what.partition(" (")[0] for what in left] == [
        "arm: all of it",
        "board: the station on an emulated board",
        "lint: clippy for aarch64-unknown-linux-gnu",
        "py: mbpoll",
    ]


def test_each_feature_is_linted_alone(elsewhere: Machine) -> None:
    assert elsewhere.dev("lint").returncode == 0
    alone = [call.partition("--features ")[2].split()[0] for call in elsewhere.calls("cargo") if "no-default" in call]
    features = tomllib.loads((ROOT / "Cargo.toml").read_text())["features"].keys() - {"default"}
    assert len(features) >= 3 and sorted(alone) == sorted(["--lib", *features])


def test_a_lane_that_fails_ends_it(elsewhere: Machine) -> None:
    elsewhere.stand_in("cargo", "[ $1 != test ]")
    done = elsewhere.dev("test")
    assert done.returncode == 1
    assert last(done) == "FAILED: unit. NOT run after it: arm board py docs"
    assert "passed, NOT run" not in done.stdout.partition("== unit: FAILED")[2]


def test_with_nothing_left_out_all_passed(elsewhere: Machine) -> None:
    """The lanes that would need an emulator are stand-ins."""
    lanes = elsewhere.clone / "tools/dev/lanes.sh"
    lanes.write_text(lanes.read_text() + "lint_arm() { :; }\nlane_arm() { :; }\nlane_board() { :; }\n")
    done = elsewhere.dev("test", CI="true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert last(done) == "all tests passed" and "In no lane, each a verb of its own: bench, " in done.stdout


def test_a_lane_s_name_must_be_one(machine: Machine) -> None:
    assert "no lane units; there are lint unit arm board py docs" in one_line(machine.dev("ready", "units"))
    assert machine.dev("nonsense").returncode == 2


@pytest.fixture
def found(elsewhere: Machine) -> Machine:
    """Two findings, one of which is no longer as it was."""
    folder = elsewhere.clone / "findings"
    folder.mkdir()
    (folder / "first.sh").write_text("echo seen\n")
    (folder / "second.sh").write_text("echo 'it is not as it was' && exit 1\n")
    return elsewhere


def test_findings_are_all_run_and_the_one_that_failed_is_named(found: Machine) -> None:
    done = found.dev("findings")
    assert re.findall(r"^(first|second) +\d+ s  (\w+)$", done.stdout, re.MULTILINE) == [
        ("first", "yes"),
        ("second", "NO"),
    ]
    assert one_line(done) == "dev: not as it was: second. What each printed is in target/findings"
    assert (found.clone / "target/findings/first").read_text() == "seen\n"


def test_one_finding_can_be_named(found: Machine) -> None:
    done = found.dev("findings", "first")
    assert done.returncode == 0 and "second.sh" not in done.stdout and done.stdout.count("seen") == 1, (
        done.stdout + done.stderr
    )
    assert "no finding third; findings/README.md lists them" in one_line(found.dev("findings", "third"))


def test_every_finding_has_its_row() -> None:
    rows = re.findall(r"^\| `([\w.-]+)\.sh` \|", (ROOT / "findings/README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(path.stem for path in (ROOT / "findings").glob("*.sh"))


def test_every_script_is_linted(tmp_path: Path) -> None:
    found = scripts(tmp_path)
    assert found >= {"dev", ".ci/run", "tools/dev/setup.sh", "tools/fresh.sh", "board/emulation/guest/init"}
    assert found >= {"board/emulation/guest/check.sh", "board/image/init", "board/image/root/usr/lib/fcam-image/good"}
    assert not found & {"board/debian/rules", "tests/common/board/rpicam-vid"}
    # git answers nobody in a clone of another user.
    (tmp_path / "git").write_text("#!/bin/sh\nexit 128\n")
    (tmp_path / "git").chmod(0o755)
    assert found <= scripts(tmp_path)
    assert all((ROOT / name).is_file() for name in found)


def scripts(first: Path) -> set[str]:
    """What shellcheck is given, with the programs of the folder `first` before all others."""
    command = f"PATH={first}:$PATH; . tools/dev/lanes.sh; scripts"
    listed = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True)
    return set(listed.stdout.split())


@pytest.mark.parametrize("ci", ["", "true"])
def test_a_skipped_test_is_heard(tmp_path: Path, ci: str) -> None:
    shutil.copy(ROOT / "tests/tools/conftest.py", tmp_path)
    (tmp_path / "test_skips.py").write_text(
        "import pytest\ndef test_good() -> None: pass\ndef test_here() -> None: pytest.skip('no such thing')\n"
    )
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    left = tmp_path / "left"
    environment = {**os.environ, "CI": ci, "FCAM_NOT_RUN": str(left)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == (1 if ci else 0), done.stdout + done.stderr
    assert len(left.read_text().splitlines()) == 2 and "test_skips.py::test_here (no such thing)" in left.read_text()
