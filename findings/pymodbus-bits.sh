#!/bin/sh
# pymodbus 3.16.1, and 3.8.6 before it: convert_from_registers and convert_to_registers with DATATYPE.BITS take a register as two bytes, the high one first, each from its lowest
# bit on, as coils are sent. The guess: element 0 of the list is bit 0 of the register, whose value is 1. Seen: bit 0 is element 8 and bit 8 is element 0, so that a list whose
# first element is true writes 256; word_order changes the order of registers and not this. Source: the client mixin of the package, by running it.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
for version in 3.16.1 3.8.6; do
    python3 -m venv "$place/$version"
    "$place/$version/bin/python" -m pip install -q --disable-pip-version-check pymodbus==$version
    "$place/$version/bin/python" - $version <<'PYTHON'
import sys

from pymodbus.client.mixin import ModbusClientMixin as Client

BITS = Client.DATATYPE.BITS


def element(bit: int) -> list[int]:
    """Where a register's bit is in the list."""
    return [index for index, is_set in enumerate(Client.convert_from_registers([1 << bit], BITS)) if is_set]


seen = [element(bit) for bit in range(16)]
written = Client.convert_to_registers([True] + 15 * [False], BITS)
print(f"pymodbus {sys.argv[1]}: bits 0 to 15 are elements {seen}; the first element alone writes {written}")
sys.exit(0 if seen == [[bit ^ 8] for bit in range(16)] and written == [256] else "it is not as it was")
PYTHON
done
