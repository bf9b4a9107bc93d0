"""Structured Text on a desk: the function blocks of board/plc, translated into Python statement by statement.

The translation knows just the statements that these blocks use. It is no compiler: types and widths are not checked.
As a program it is one block in a PLC: `structured_text.py BLOCK.st` reads a scan a line, as JSON with the block's
inputs, `ms` since the scan before, and `restart` for a PLC that was switched off; it writes the outputs, as JSON.
"""

import json
import re
import sys
from pathlib import Path

PLC = Path(__file__).parents[2] / "board/plc"
STATEMENT = re.compile(
    r"\s*(IF\b.*?\bTHEN\b|ELSIF\b.*?\bTHEN\b|ELSE\b|END_IF;|FOR\b.*?\bDO\b|END_FOR;|[^;]+;)", re.DOTALL
)
# Names that compilers keep for themselves.
RESERVED = {
    *("st", "n", "len", "mul", "add", "sub", "div", "mod", "r", "s", "ld", "cal", "ret", "jmp", "left", "right", "mid"),
    *("min", "max", "any", "en", "eno", "at", "in", "pt", "q", "et", "set", "reset"),
}
WORDS = [
    (r"16#", "0x"),
    (r"T#(\d+)ms", r"\1"),
    (r"<>", "!="),
    (r"\bAND(?= 0x)", "&"),
    (r"\bOR(?= 0x)", "|"),
    (r"\bXOR\b", "^"),
    (r"\bAND\b", "and"),
    (r"\bOR\b", "or"),
    (r"\bNOT\b", "not"),
    (r"\bMOD\b", "%"),
    (r"\bFALSE\b", "False"),
    (r"\bTRUE\b", "True"),
    (r"/", "//"),
]
CONVERSIONS = ("BYTE_TO_WORD", "BYTE_TO_UINT", "BYTE_TO_UDINT", "UINT_TO_UDINT", "UDINT_TO_UINT")


def expression(text: str) -> str:
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text)
    return " ".join(re.sub(r"(?<![:<>!=])=(?!=)", "==", text).split())


def statement(text: str) -> tuple[str, int, int]:
    """Python, the change of depth before it, and after it."""
    text = text.strip()
    if match := re.fullmatch(r"(IF|ELSIF)\b(.*)THEN", text, re.DOTALL):
        word, before = ("if", 0) if match[1] == "IF" else ("elif", -1)
        return f"{word} {expression(match[2])}:", before, 1
    if text == "ELSE":
        return "else:", -1, 1
    if text in ("END_IF;", "END_FOR;"):
        return "pass", 0, -1
    if match := re.fullmatch(r"FOR (\w+) := (\d+) TO (\d+) DO", text):
        return f"for {match[1]} in range({match[2]}, {match[3]} + 1):", 0, 1
    if match := re.fullmatch(r"(\w+)\(IN := (.*), PT := (.*)\);", text):
        return f"{match[1]}({expression(match[2])}, {expression(match[3])})", 0, 0
    target, value = text.removesuffix(";").split(":=", 1)
    return f"{target.strip()} = {expression(value)}", 0, 0


class Timer:
    """TON on a clock that the test moves, in milliseconds."""

    def __init__(self) -> None:
        self.now, self.since, self.running, self.Q = 0, 0, False, False

    def __call__(self, running: bool, preset: int) -> None:
        """Time runs from the call in which IN rises."""
        self.since = self.since if self.running else self.now
        self.running = running
        self.Q = running and self.now - self.since >= preset


class Block:
    """A function block: its variables are `vars`."""

    def __init__(self, name: str) -> None:
        text = re.sub(r"\(\*.*?\*\)", "", (PLC / name).read_text(), flags=re.DOTALL)
        match = re.search(r"FUNCTION_BLOCK \w+(.*)END_FUNCTION_BLOCK", text, re.DOTALL)
        assert match is not None
        *declared, body = match[1].split("END_VAR")
        self.types = {found: form for part in declared for found, form in re.findall(r"(\w+) : (\w+)", part)}
        sections = {part.split()[0]: re.findall(r"(\w+) :", part) for part in declared}
        self.inputs, self.outputs = sections["VAR_INPUT"], sections["VAR_OUTPUT"]
        assert not {found.lower() for found in self.types} & RESERVED
        lines, depth = [], 0
        for found in STATEMENT.finditer(body):
            line, before, after = statement(found[1])
            depth += before
            lines.append("    " * depth + line)
            depth += after
        assert depth == 0
        self.code = compile("\n".join(lines), name, "exec")
        self.restart()

    def restart(self) -> None:
        """As after switching on."""
        self.vars: dict = {found: Timer() if form == "TON" else 0 for found, form in self.types.items()}
        self.vars |= dict.fromkeys(CONVERSIONS, int)
        self.vars |= {"SHR": lambda value, by: value >> by, "rxbuf": [0] * 1024}

    def wait(self, ms: int) -> None:
        """Time passes."""
        for value in self.vars.values():
            if isinstance(value, Timer):
                value.now += ms

    def __call__(self, **inputs: object) -> dict:
        assert set(inputs) <= set(self.types)
        self.vars |= inputs
        exec(self.code, self.vars)
        return self.vars


def main() -> None:
    block = Block(sys.argv[1])
    for line in sys.stdin:
        scan = json.loads(line)
        if scan.pop("restart", False):
            block.restart()
        block.wait(scan.pop("ms"))
        out = block(**scan)
        print(json.dumps({name: int(out[name]) for name in block.outputs}), flush=True)


if __name__ == "__main__":
    main()
