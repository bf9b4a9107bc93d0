"""Pictures and masks as the camera has them: what its decoder refuses, how files are turned, what a mask marks."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fcam_tools import __main__, data
from fcam_tools.common import program
from fcam_tools.common.errors import ToolError
from fcam_tools.data.copies import prints_of
from fcam_tools.data.reading import marks_in, size_of
from PIL import ExifTags, Image, ImageOps
from trees import BOX, HEIGHT, TREES, WIDTH

RNG = np.random.default_rng(7)
COLOURS = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
ORIENTATIONS = range(1, 9)

# Damaged files.


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, fcam: Path) -> Path:
    """The camera's program, which is asked."""
    monkeypatch.setenv("FCAM", str(fcam))
    if program.lacks_pictures(fcam):
        pytest.skip(f"{fcam} has no `pictures`")
    return fcam


def wrong_checksum(path: Path) -> Path:
    """A PNG whose pixels Pillow takes, and whose checksum tells that they are not those that were written."""
    pixels = b"".join(b"\0" + row.tobytes() for row in COLOURS)

    def chunk(kind: bytes, content: bytes, crc: int = 0) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content) ^ crc)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(pixels), crc=1) + chunk(b"IEND", b""))
    assert np.array_equal(np.asarray(Image.open(path)), COLOURS)
    return path


@pytest.mark.parametrize("verb", ["inspect", "train"])
def test_what_the_camera_refuses_is_named_before_anything_is_learnt(
    verb: str, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TREES["tree"](tmp_path / "set")
    path = wrong_checksum(tmp_path / "set" / "test" / "dent" / "001.png")
    more = ["--out", str(tmp_path / "net.pt")] if verb == "train" else []
    assert __main__.main([verb, str(tmp_path / "set"), *more]) == (1 if verb == "inspect" else 2)
    told = capsys.readouterr()
    said = told.out + told.err
    assert str(path) in said and "remove or replace it" in said and not (tmp_path / "net.run").exists()


def test_what_is_scored_is_refused_by_the_camera_too(asked: Path, tmp_path: Path) -> None:
    path, whole = wrong_checksum(tmp_path / "damaged.png"), tmp_path / "whole.png"
    Image.fromarray(COLOURS).save(whole)
    assert list(program.refused([whole, path], progress=False)) == [path]
    with pytest.raises(ToolError, match=r"the camera cannot decode .*damaged\.png.*; remove or replace it"):
        program.refuse_damaged([whole, path], progress=False)
    program.refuse_damaged([whole], progress=False)


def test_the_tool_takes_what_the_camera_takes(asked: Path, tmp_path: Path) -> None:
    """JPEGs with pieces of their scan cut out or zeroed: whichever the camera refuses, and no other."""
    whole = io.BytesIO()
    smooth = cv2.resize(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(smooth).save(whole, "JPEG", quality=90)
    content = whole.getvalue()
    paths = []
    for number in range(40):
        start = int(RNG.integers(700, len(content) - 60))
        end = start + int(RNG.integers(1, 40))
        filler = b"\0" * (end - start) if number % 2 else b""
        paths.append(tmp_path / f"{number:02}.jpg")
        paths[-1].write_bytes(content if number == 0 else content[:start] + filler + content[end:])
    done = subprocess.run([asked, "pictures", "--json", *paths], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    refused = {path for path, line in zip(paths, lines, strict=True) if line["problem"]}
    assert paths[0] not in refused and lines[0]["width"] == 160 and lines[0]["color"] == "rgb"
    prints, broken = prints_of(paths, progress=False)
    assert broken.keys() >= refused and len(prints) + len(broken) == len(paths)
    assert all(str(path) in why for path, why in broken.items())


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!{sys.executable}\nimport json, sys\n{text}")
    path.chmod(0o755)
    return path


def test_batches_are_matched_to_their_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are no Unicode or begin with a dash, and more pictures than go into one batch."""
    text = "for path in sys.argv[4:]:\n    print(json.dumps({'problem': 'bad' if '7' in path else None}))\n"
    monkeypatch.setenv("FCAM", str(script(tmp_path / "fcam", text)))
    paths = [Path(f"{number}.png") for number in range(5 * program.BATCH + 3)] + [Path("-7.png"), Path("\udcff.png")]
    found = program.refused(paths, progress=False)
    assert found == {path: "bad" for path in paths if "7" in path.name}


@pytest.mark.parametrize(
    ("text", "said"),
    [("sys.exit('no memory')", "ended with 1 after 0 lines: no memory"), ("sys.exit(3)", "ended with 3")],
)
def test_a_program_that_fails_is_no_answer(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = f"if '--help' not in sys.argv:\n    {text}\n"
    monkeypatch.setenv("FCAM", str(script(tmp_path / "fcam", failing)))
    with pytest.raises(ToolError, match=said):
        program.refused([Path("a.png")], progress=False)


@pytest.mark.parametrize("where", ["nowhere", "old"])
def test_without_the_program_it_is_said_once(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if where == "old":
        script(tmp_path / "old", "sys.exit(2)\n")
    monkeypatch.setenv("FCAM", str(tmp_path / where))
    for _ in range(3):
        assert program.refused([Path("a.png")], progress=False) == {}
    (message,) = caplog.messages
    assert str(tmp_path / where) in message and "by Pillow alone" in message


# Orientation.


def turned(path: Path, orientation: int) -> Path:
    """A picture whose file asks for it to be turned before it is shown."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(COLOURS).save(path, exif=exif)
    with Image.open(path) as picture:  # of a TIFF file, the size that it will have
        shown = picture if path.suffix == ".tif" else ImageOps.exif_transpose(picture)
        assert (shown.size == (WIDTH, HEIGHT)) == (orientation < 5)
    return path


@pytest.mark.parametrize("suffix", [".tif", ".jpg", ".png"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pictures_are_not_turned(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = turned(tmp_path / f"a{suffix}", orientation)
    plain = turned(tmp_path / f"plain{suffix}", 1)
    assert size_of(path) == (WIDTH, HEIGHT)
    read = data.read_picture(path, (WIDTH, HEIGHT))
    assert np.array_equal(read, data.read_picture(plain, (WIDTH, HEIGHT)))
    assert suffix == ".jpg" or np.array_equal(read, COLOURS)


def test_the_camera_does_not_turn_them_either(asked: Path, tmp_path: Path) -> None:
    """Size and score: a turned picture would have others."""
    paths = [turned(tmp_path / f"{n}{suffix}", n) for n in (1, 3, 6) for suffix in (".tif", ".jpg", ".png")]
    done = subprocess.run([asked, "pictures", "--json", *paths], capture_output=True, text=True, check=True)
    assert {(told["width"], told["height"]) for told in map(json.loads, done.stdout.splitlines())} == {(WIDTH, HEIGHT)}
    tiny = Path(__file__).parents[1] / "common" / "tiny"
    done = subprocess.run([asked, "replay", "--bundle", tiny, *paths], capture_output=True, text=True, check=True)
    scores = {Path(told["picture"]).name: told["score"] for told in map(json.loads, done.stdout.splitlines())}
    for suffix in (".tif", ".jpg", ".png"):
        assert len({scores[f"{number}{suffix}"] for number in (1, 3, 6)}) == 1, scores


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_masks_are_not_turned(orientation: int, compression: str | None, tmp_path: Path) -> None:
    """Grey ones that are not compressed are mapped into memory, compressed ones decoded by another library."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    grey = Image.fromarray((BOX * 255).astype(np.uint8))
    grey.save(tmp_path / "a.tif", exif=exif, compression=compression)
    assert size_of(tmp_path / "a.tif") == (WIDTH, HEIGHT)
    assert np.array_equal(marks_in(tmp_path / "a.tif"), BOX)


# Masks.

GREY = (BOX * 255).astype(np.uint8)


def palette(background: tuple[int, int, int], mark: tuple[int, int, int], swapped: bool = False) -> Image.Image:
    made = Image.fromarray((~BOX if swapped else BOX).astype(np.uint8), "P")
    made.putpalette([*mark, *background] if swapped else [*background, *mark])
    return made


def with_alpha(colour: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([colour, alpha]).astype(np.uint8))


def deep(channels: int) -> Callable[[Path], object]:
    def save(path: Path) -> None:
        values = np.repeat((BOX * 200).astype(np.uint16)[..., None], channels, axis=2)  # nothing in the upper halves
        if channels == 4:
            values[..., 3] = 65535
        assert cv2.imwrite(str(path), values)

    return save


OPAQUE, WHITE = np.full_like(GREY, 255), np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
MASKS: dict[str, Image.Image | Callable[[Path], object]] = {
    "grey": Image.fromarray(GREY),
    "faint grey": Image.fromarray(GREY // 255),
    "1 bit": Image.fromarray(BOX),
    "16 bits": Image.fromarray(GREY.astype(np.uint16)),
    "32 bits": lambda path: Image.fromarray(GREY.astype(np.int32)).save(path.with_suffix(".tif"), "TIFF"),
    "rgb": Image.fromarray(np.dstack([GREY, GREY * 0, GREY * 0])),
    "rgb of 16 bits": deep(3),
    "rgba of 16 bits": deep(4),
    "grey with alpha": with_alpha(GREY, OPAQUE),
    "rgb with alpha": with_alpha(np.dstack([GREY] * 3), OPAQUE),
    "painted on nothing": with_alpha(np.dstack([GREY] * 3), GREY),
    "painted on transparent white": with_alpha(WHITE, GREY),
    "palette": palette((0, 0, 0), (255, 0, 0)),
    "palette of two blacks": palette((0, 0, 0), (0, 0, 0)),
    "palette on white": palette((255, 255, 255), (255, 0, 0)),
    "palette with black last": palette((0, 0, 0), (255, 255, 255), swapped=True),
    "few colours": Image.fromarray(GREY).quantize(2),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_marks_what_is_marked(kind: str, tmp_path: Path) -> None:
    made, path = MASKS[kind], tmp_path / "mask.png"
    if isinstance(made, Image.Image):
        made.save(path)
    else:
        made(path)
    (path,) = tmp_path.iterdir()
    assert np.array_equal(marks_in(path), BOX)


def test_masks_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    assert cv2.imwrite(str(path), np.repeat((BOX * 200).astype(np.uint16)[..., None], 3, axis=2))
    with pytest.raises(ToolError, match=r"mask\.tif has colours of more than 8 bits"):
        marks_in(path)
    path.write_text("not a mask")
    with pytest.raises(ToolError, match=r"cannot read .*mask\.tif.*remove or replace it"):
        marks_in(path)
