"""What the package says that is in the program, beside what cargo says, and what cargo-auditable writes into it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "board"))

import sbom  # noqa: E402  (board/ is no package)

for tool in ("cargo", "readelf", "objcopy"):
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}", allow_module_level=True)


@pytest.fixture(scope="module")
def tree() -> sbom.Json:
    return sbom.metadata()


def program(folder: Path, crates: set[tuple[str, str]]) -> Path:
    """An ELF file with a list of crates of cargo-auditable's form."""
    listed = {"packages": [{"name": name, "version": version, "source": "crates.io"} for name, version in crates]}
    (folder / "list").write_bytes(zlib.compress(json.dumps(listed).encode()))
    path = folder / "program"
    add = ["objcopy", "--add-section", f".dep-v0={folder / 'list'}", shutil.which("true") or "/bin/true", path]
    subprocess.run(add, check=True)
    return path


def written(monkeypatch: pytest.MonkeyPatch, path: Path, folder: Path) -> tuple[sbom.Json, str]:
    monkeypatch.setattr(sys, "argv", ["sbom.py", str(path), str(folder)])
    sbom.main()
    return json.loads((folder / "sbom.cdx.json").read_text()), (folder / "licences.txt").read_text()


def test_it_lists_what_cargo_lists(tmp_path: Path, tree: sbom.Json, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names alone, as `cargo tree` prints them without a tree; macros are marked as not in the program."""
    command = ["cargo", "tree", "--locked", "--target", sbom.TARGET, "--edges", "normal", "--prefix", "none"]
    command += sbom.FEATURES
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = {tuple(line.split()[:2]) for line in lines if line.strip()}
    linked = sbom.names(tree, sbom.reached(tree, macros=False))
    made, licences = written(monkeypatch, program(tmp_path, linked), tmp_path)
    crates = {(c["name"], f"v{c['version']}"): c for c in made["components"] if c["bom-ref"].startswith("pkg:cargo/")}
    assert crates.keys() | {("fcam", f"v{made['metadata']['component']['version']}")} == expected
    assert crates[("serde_derive", made_version(made, "serde_derive"))]["scope"] == "excluded"
    assert crates[("prost", made_version(made, "prost"))]["scope"] == "required"
    assert not any(name.startswith("tract") for name, _ in crates)
    ours = {(p["name"], f"v{p['version']}") for p in tree["packages"] if p["source"] is None}
    assert all(len(c["hashes"][0]["content"]) == 64 for name, c in crates.items() if name not in ours)
    assert [name for name, _ in crates.keys() & ours] == ["v4l2-sys-mit"]
    refs = {c["bom-ref"] for c in made["components"]} | {made["metadata"]["component"]["bom-ref"]}
    assert {ref for entry in made["dependencies"] for ref in [entry["ref"], *entry["dependsOn"]]} <= refs
    assert "Apache License" in licences
    assert all(f"{name} {version[1:]}: " in licences for name, version in crates)


def made_version(made: sbom.Json, name: str) -> str:
    return "v" + next(c["version"] for c in made["components"] if c["name"] == name)


def test_a_program_of_other_crates_is_refused(tmp_path: Path, tree: sbom.Json, monkeypatch: pytest.MonkeyPatch) -> None:
    linked = sbom.names(tree, sbom.reached(tree, macros=False))
    for crates, named in (
        (linked | {("left-pad", "1.0.0")}, "left-pad 1.0.0"),
        (linked - {max(linked)}, max(linked)[0]),
    ):
        with pytest.raises(SystemExit, match=f"was not built from these sources: .*{named}"):
            written(monkeypatch, program(tmp_path, crates), tmp_path)


def test_a_program_without_a_list_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="build it with cargo-auditable"):
        written(monkeypatch, Path(shutil.which("true") or "/bin/true"), tmp_path)
