"""A second decoder of telegrams, written from board/plc/telegram.md alone.

In: a file of bytes as they came from a serial line. Out: JSON. `decode FILE` prints each message as a line;
`prove FILE OUT` damages every tenth frame, writes the damaged stream to OUT, decodes it, and prints how many clean
frames were kept and how many damaged ones accepted.
"""

import json
import random
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

NAMES = {
    1: "HELLO",
    2: "HEARTBEAT",
    3: "VERDICT",
    4: "REGIONS",
    5: "MASK_CHUNK",
    6: "MASK_ABORT",
    0x12: "ACK",
    0x7F: "NAK",
}
DAMAGED_SHARE = 0.1


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS, bit by bit."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def frames(stream: bytes) -> Iterator[bytes]:
    """Whole frames whose CRC holds, in order; the search goes on behind the sync of one that proved wrong."""
    at = 0
    while (at := stream.find(b"\xa5\x5a", at)) >= 0 and at + 4 <= len(stream):
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        end = at + 4 + length
        if 6 <= length <= 1016 and end <= len(stream) and crc16(stream[at + 2 : end]) == 0:
            yield stream[at:end]
            at = end
        else:
            at += 1


def runs(data: bytes) -> list[int]:
    """LEB128 lengths."""
    lengths, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            lengths.append(value)
            value, shift = 0, 0
    if shift:
        raise ValueError("run lengths end within one")
    return lengths


def verdict(payload: bytes) -> dict[str, object]:
    number, word, complement, reason, cls, score, latency, regions, _, _, again, part, release = struct.unpack(
        ">IHHBBHHBBHIII", payload
    )
    if word ^ complement != 0xFFFF or number != again or word not in (0x5AA5, 0xA55A):
        raise ValueError("a verdict contradicts itself")
    word_ok = word == 0x5AA5
    return {
        "result_id": number,
        "part_id": part,
        "release": release,
        "ok": word_ok,
        "reason": reason,
        "class": cls,
        "score": score,
        "latency": latency,
        "regions": regions,
    }


def regions(payload: bytes) -> dict[str, object]:
    number, found, first, listed, _, *roi = struct.unpack_from(">IBBBB4H", payload)
    names = ("x", "y", "width", "height", "center_x", "center_y", "area", "peak")
    each = [dict(zip(names, struct.unpack_from(">6HIH", payload, 16 + 18 * n), strict=True)) for n in range(listed)]
    return {"result_id": number, "found": found, "first": first, "roi": roi, "regions": each}


class Masks:
    """Puts chunks together."""

    def __init__(self) -> None:
        self.number, self.data = -1, b""

    def chunk(self, payload: bytes) -> dict[str, object]:
        number, offset, total, codec, scale, width, height, flags = struct.unpack_from(">IIIBBHHB", payload)
        data, crc = payload[19:], b""
        if flags & 1:
            data, crc = data[:-4], data[-4:]
        out: dict[str, object] = {
            "result_id": number,
            "scale": scale,
            "width": width,
            "height": height,
            "last": bool(crc),
        }
        if offset == 0:
            self.number, self.data = number, b""
        if number != self.number or offset != len(self.data) or codec != 1:
            self.number = -1
            return out | {"missing": True}
        self.data += data
        if crc:
            lengths = runs(self.data)
            whole = len(self.data) == total and zlib.crc32(self.data) == int.from_bytes(crc, "big")
            if not whole or sum(lengths) != width * height:
                raise ValueError("a mask's CRC-32 or its pixels are wrong")
            out["area"] = sum(lengths[1::2])
            self.number = -1
        return out


def messages(stream: bytes) -> Iterator[dict[str, object]]:
    """Every message with its sequence number and type."""
    masks = Masks()
    for frame in frames(stream):
        version, kind, sequence = struct.unpack_from(">BBH", frame, 4)
        payload = frame[8:-2]
        out: dict[str, object] = {"sequence": sequence, "type": NAMES.get(kind, "?"), "version": version}
        if kind == 3:
            out |= verdict(payload)
        elif kind == 4:
            out |= regions(payload)
        elif kind == 5:
            out |= masks.chunk(payload)
        elif kind == 2:
            names = ("state", "code", "uptime_s", "temperature", "missed", "masks_lost", "drift")
            out |= dict(zip(names, struct.unpack_from(">BBIhIIH", payload), strict=True))
        elif kind == 0x12:
            out |= {"of": struct.unpack_from(">H", payload)[0]}
        elif kind == 0x7F:
            out |= dict(zip(("of", "code"), struct.unpack_from(">HB", payload), strict=True))
        elif kind == 6:
            out |= dict(zip(("result_id", "reason"), struct.unpack_from(">IB", payload), strict=True))
        yield out


def damage(frame: bytes, rng: random.Random) -> bytes:
    """A frame as noise leaves it: never the same."""
    hurt = bytearray(frame)
    at = rng.randrange(len(hurt))
    match rng.randrange(5):
        case 0:
            hurt[at] ^= 1 << rng.randrange(8)
        case 1:
            for place in range(at, min(at + 8, len(hurt))):
                hurt[place] ^= rng.randrange(1, 256)
        case 2:
            del hurt[at]
        case 3:
            # Not in front: that would leave the frame whole.
            at = max(at, 1)
            hurt.insert(at, (hurt[at] + rng.randrange(1, 256)) % 256)
        case _:
            del hurt[max(at, 1) :]
    return bytes(hurt)


def prove(stream: bytes, out: Path, seed: int = 7) -> dict[str, object]:
    """Damages every tenth frame and looks at what comes through."""
    rng = random.Random(seed)
    sent = list(frames(stream))
    hurt = [rng.random() < DAMAGED_SHARE for _ in sent]
    noisy = b"".join(damage(frame, rng) if bad else frame for frame, bad in zip(sent, hurt, strict=True))
    out.write_bytes(noisy)
    clean = {frame for frame, bad in zip(sent, hurt, strict=True) if not bad}
    found = list(frames(noisy))
    # What came and was never sent, SEQ and all, was accepted corrupt.
    accepted = len(set(found) - set(sent))
    return {
        "frames": len(sent),
        "damaged": sum(hurt),
        "clean": len(sent) - sum(hurt),
        "kept": len(clean & set(found)),
        "corrupt_accepted": accepted,
    }


def main() -> None:
    verb, path = sys.argv[1], Path(sys.argv[2])
    if verb == "decode":
        for message in messages(path.read_bytes()):
            print(json.dumps(message))
    else:
        print(json.dumps(prove(path.read_bytes(), Path(sys.argv[3]))))


if __name__ == "__main__":
    main()
