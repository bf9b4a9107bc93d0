#!/bin/sh
# libmodbus 3.1.6 (Debian 12): 32-bit numbers of two registers. The guess: one library has one word order, and what set_float_abcd writes get_float_abcd reads. Seen: the macro
# MODBUS_GET_INT32_FROM_INT16 takes the high word first, modbus_get_float the low one; modbus_set_float_abcd swaps the bytes within each register on a little-endian
# machine, so that get_float_abcd reads 1.5 back as -2.98 (0xc03f, 0 instead of 0x3fc0, 0). Source: modbus.h and modbus-data.c of the library; by running both.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# shellcheck source=findings/lib/debian.sh
. "$(dirname "$0")/lib/debian.sh"
debian libmodbus5 libmodbus-dev
version libmodbus5 3.1.6
cat >"$place/words.c" <<'C'
#include <modbus.h>
#include <stdio.h>

int main(void) {
    const uint16_t one[] = {0, 1}, high_first[] = {0x3fc0, 0}, low_first[] = {0, 0x3fc0};
    uint16_t written[2];
    printf("MODBUS_GET_INT32_FROM_INT16 of 0, 1: %d\n", MODBUS_GET_INT32_FROM_INT16(one, 0));
    printf("modbus_get_float of 1.5, high word first: %g, low word first: %g\n", modbus_get_float(high_first), modbus_get_float(low_first));
    printf("modbus_get_float_abcd of 1.5, high word first: %g\n", modbus_get_float_abcd(high_first));
    modbus_set_float_abcd(1.5f, written);
    printf("modbus_set_float_abcd of 1.5: %04x %04x, read back by its get: %g\n", written[0], written[1], modbus_get_float_abcd(written));
    return 0;
}
C
cc -I"$place/debian/usr/include/modbus" "$place/words.c" -o "$place/words" "$libraries/libmodbus.so"
"$place/words" | tee "$place/seen"
[ "$(cat "$place/seen")" = "MODBUS_GET_INT32_FROM_INT16 of 0, 1: 1
modbus_get_float of 1.5, high word first: 2.28692e-41, low word first: 1.5
modbus_get_float_abcd of 1.5, high word first: 1.5
modbus_set_float_abcd of 1.5: c03f 0000, read back by its get: -2.98438" ] || { echo "it is not as it was" && exit 1; }
