"""Strips a program for 64-bit ARM and says what takes the room. It refuses one that grew beyond its limit, and one that
needs a newer glibc than boards have.

In: the program, where the stripped one goes, the libc of the boards (2.31). Out: the stripped program, tables.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

TOOLS = "aarch64-linux-gnu-"
# Shown: sections of so many MB and more, so many crates.
LEAST_MB, CRATES = 0.05, 12
# The page brought 1.8: TLS, an HTTP server, Argon2.
LIMIT_MB = 14.1


def lines(tool: str, *arguments: str) -> list[str]:
    return subprocess.run([TOOLS + tool, *arguments], capture_output=True, text=True, check=True).stdout.splitlines()


def newest_libc(program: str) -> tuple[int, ...]:
    """The highest version of glibc that a symbol asks for."""
    versions = re.findall(r"GLIBC_(\d+(?:\.\d+)+)", "\n".join(lines("readelf", "--version-info", "--wide", program)))
    return max((numbers(version) for version in versions), default=(0,))


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def sections(program: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in lines("readelf", "--sections", "--wide", program):
        if match := re.match(r"\s*\[\s*\d+\]\s+(\.\S+)\s+(\S+)\s+\S+\s+\S+\s+(\S+)", line):
            name, kind, size = match.groups()
            found[name] += 0 if kind == "NOBITS" else int(size, 16)
    return found


def crates(program: str) -> Counter[str]:
    """A symbol is counted to the first crate that its name has: generic code to whoever wrote it."""
    found: Counter[str] = Counter()
    for line in lines("nm", "--print-size", "--demangle", program):
        words = line.split(maxsplit=3)
        if len(words) == 4 and words[2] in "tTrRdDwWvV":
            crate = re.search(r"\b([a-z_][a-z0-9_]*)(?:\[[0-9a-f]+\])?::", words[3])
            found[crate[1] if crate else "(C, assembly, constants)"] += int(words[1], 16)
    return found


def table(title: str, rows: list[tuple[str, int]]) -> None:
    print(f"{title}, MB:")
    for name, size in rows:
        print(f"{size / 1e6:8.2f}  {name}")


def main() -> None:
    program, out, libc = sys.argv[1:]
    newest = newest_libc(program)
    if newest > numbers(libc):
        sys.exit(f"{program} needs glibc {'.'.join(map(str, newest))}, and boards have {libc}")
    subprocess.run([TOOLS + "strip", "-o", out, program], check=True)
    table("sections", [row for row in sections(out).most_common() if row[1] >= LEAST_MB * 1e6])
    table("code and named constants by crate", crates(program).most_common(CRATES))
    size = Path(out).stat().st_size / 1e6
    print(f"{out}: {size:.1f} MB, glibc {'.'.join(map(str, newest))} and later")
    if size > LIMIT_MB:
        sys.exit(f"{out} is larger than {LIMIT_MB} MB: find what grew above, or raise LIMIT_MB in board/size.py")


main()
