"""What the program is made of: an SBOM (CycloneDX 1.5, JSON) and the licences of all crates in it.

In: the stripped program, built by cargo-auditable; a folder. Out: `sbom.cdx.json` and `licences.txt` in it. It refuses
a program that holds other crates than cargo says now.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TARGET = "aarch64-unknown-linux-gnu"
ROOT = Path(__file__).parents[1]
# As `./dev cross` builds the program.
FEATURES = ["--no-default-features", "--features", os.environ.get("FCAM_FEATURES", "board")]
LICENCE_FILES = ("license", "licence", "copying", "notice", "unlicense", "copyright")

# Of a component, by whether it is in the program, or has only helped to make it.
SCOPE = {True: "required", False: "excluded"}

Json = dict[str, Any]


def metadata() -> Json:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET, *FEATURES]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def reached(tree: Json, macros: bool = True) -> dict[str, list[str]]:
    """The packages of the program, by id, each with those that it uses; no tests' and no build scripts'.

    By `cargo tree`: metadata's own graph has optional packages that no feature asks for. Macros run in the compiler:
    without them, and what they alone use, this is what is linked.
    """
    command = [
        "cargo",
        "tree",
        "--locked",
        *FEATURES,
        "--target",
        TARGET,
        "--edges",
        "normal",
        "--prefix",
        "depth",
        "--format",
        " {p}",
    ]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    ids = {(package["name"], package["version"]): package["id"] for package in tree["packages"]}
    uses: dict[str, set[str]] = {}
    skipped, above = set(), [""]
    for line in lines:
        depth, name, version, *notes = line.split()
        package = ids[name, version.removeprefix("v")]
        above[int(depth) + 1 :] = [package]
        uses.setdefault(above[-2], set()).add(package)
        if not macros and "(proc-macro)" in notes:
            skipped.add(package)
    found: dict[str, list[str]] = {}
    waiting = [*uses.pop("")]
    while waiting:
        package = waiting.pop()
        if package not in found and package not in skipped:
            found[package] = sorted(uses.get(package, ()))
            waiting += found[package]
    return found


def names(tree: Json, ids: Iterable[str]) -> set[tuple[str, str]]:
    """Name and version of packages."""
    packages = {package["id"]: package for package in tree["packages"]}
    return {(packages[i]["name"], packages[i]["version"]) for i in ids}


def embedded(program: Path) -> set[tuple[str, str]]:
    """Name and version of the crates that cargo-auditable wrote into the program."""
    command = ["readelf", "--sections", "--wide", str(program)]
    headers = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\.dep-v0\s+\S+\s+\S+\s+(\S+)\s+(\S+)", headers)
    if found is None:
        sys.exit(f"{program} has no list of its crates: build it with cargo-auditable")
    offset, size = (int(number, 16) for number in found.groups())
    listed = json.loads(zlib.decompress(program.read_bytes()[offset : offset + size]))
    return {(p["name"], p["version"]) for p in listed["packages"] if p.get("kind", "runtime") == "runtime"}


def purl(package: Json) -> str:
    return f"pkg:cargo/{package['name']}@{package['version']}"


def expression(package: Json) -> str:
    """As SPDX writes it: the oldest crates have a slash for OR."""
    return (package["license"] or "NOASSERTION").replace("/", " OR ")


def component(package: Json, checksums: dict[tuple[str, str], str]) -> Json:
    made: Json = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
        "licenses": [{"expression": expression(package)}],
    }
    if checksum := checksums.get((package["name"], package["version"])):
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def model() -> Json:
    """The bundle that the program carries."""
    manifest = tomllib.loads((ROOT / "models/default/manifest.toml").read_text())
    digest = hashlib.sha256((ROOT / "models/default/model.onnx").read_bytes()).hexdigest()
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{manifest['name']}",
        "name": manifest["name"],
        "version": manifest["version"],
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def standard_library() -> Json:
    release = subprocess.run(
        ["rustc", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()[1]
    return {
        "type": "library",
        "bom-ref": "rust-std",
        "name": "rust-std",
        "version": release,
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
    }


def sbom(tree: Json, uses: dict[str, list[str]], program: Path) -> Json:
    packages = {package["id"]: package for package in tree["packages"]}
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(p["name"], p["version"]): p["checksum"] for p in locked if "checksum" in p}
    root, linked = tree["resolve"]["root"], reached(tree, macros=False)
    ordered = sorted(uses.keys() - {root}, key=lambda i: purl(packages[i]))
    crates = [component(packages[i], checksums) | {"scope": SCOPE[i in linked]} for i in ordered]
    others = [standard_library(), model()]
    depends = {purl(packages[i]): [purl(packages[use]) for use in used] for i, used in uses.items()}
    depends[purl(packages[root])] += [other["bom-ref"] for other in others]
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    built = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), datetime.UTC)
    top = component(packages[root], {})
    top |= {"type": "application", "hashes": [{"alg": "SHA-256", "content": digest}]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {"timestamp": built.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": top},
        "components": crates + others,
        "dependencies": [{"ref": ref, "dependsOn": depends[ref]} for ref in sorted(depends)],
    }


def licences(tree: Json, uses: dict[str, list[str]]) -> str:
    """Each crate's licence, then each text once, with the crates that have it."""
    root = tree["resolve"]["root"]
    packages = sorted((p for p in tree["packages"] if p["id"] in uses and p["id"] != root), key=purl)
    texts: dict[str, list[str]] = {}
    lines = ["The crates in fcam, and their licences. A crate without a text below has none in its files.", ""]
    for package in packages:
        name = f"{package['name']} {package['version']}"
        lines.append(f"{name}: {expression(package)}")
        folder = Path(package["manifest_path"]).parent
        for path in sorted(path for path in folder.iterdir() if path.name.lower().startswith(LICENCE_FILES)):
            if path.is_file():
                texts.setdefault(path.read_text(errors="replace").strip(), []).append(name)
    for text, names in texts.items():
        lines += ["", "=" * 100, ", ".join(dict.fromkeys(names)), "=" * 100, "", text]
    return "\n".join(lines) + "\n"


def main() -> None:
    program, folder = Path(sys.argv[1]), Path(sys.argv[2])
    tree = metadata()
    uses = reached(tree)
    inside = embedded(program)
    # cargo-auditable lists what metadata has: macros, and optional packages that no feature asks for.
    known = {(package["name"], package["version"]) for package in tree["packages"]}
    if differing := sorted((inside - known) | (names(tree, reached(tree, macros=False)) - inside)):
        sys.exit(f"{program} was not built from these sources: {', '.join(' '.join(crate) for crate in differing)}")
    (folder / "sbom.cdx.json").write_text(json.dumps(sbom(tree, uses, program), indent=1) + "\n")
    (folder / "licences.txt").write_text(licences(tree, uses))


if __name__ == "__main__":
    main()
