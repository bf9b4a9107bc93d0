"""Pictures by label: one's own folders, groups, unreadable pictures, and every published set's layout."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from fcam_tools import data
from fcam_tools.common.errors import ToolError
from fcam_tools.data import group, layout, split, tree
from fcam_tools.judge import table
from PIL import Image
from trees import TREES, Tree, picture


def fill(folder: Path, count: int, seed: int = 0) -> Path:
    """Small random pictures, 8 wide and 6 high."""
    folder.mkdir(parents=True)
    for index, pixels in enumerate(np.random.default_rng(seed).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


def split_by_path(dataset: data.Dataset) -> dict[Path, str]:
    return {picture.path: split for split, found in dataset.splits.items() for picture in found}


# Pictures.


def test_splits_of_the_tree_are_kept(tmp_path: Path) -> None:
    for name, count in (("train", 3), ("val", 2), ("test", 1)):
        fill(tmp_path / name / "good", count)
        fill(tmp_path / name / "dent", count)
    fill(tmp_path / "ground_truth" / "test" / "dent", 1)
    fill(tmp_path / "train" / ".cache", 1)
    dataset = data.load(str(tmp_path))
    assert dataset.classes == ("good", "dent") and dataset.ok == "good"
    assert {split: len(found) for split, found in dataset.splits.items()} == {"train": 6, "val": 4, "test": 2}
    for found in dataset.splits.values():
        assert all(picture.path.parent.name == dataset.classes[picture.label] for picture in found)


def test_tree_without_val_gives_some_of_train(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "good", 40, seed=1)
    fill(tmp_path / "train" / "dent", 40, seed=2)
    dataset = data.load(str(tmp_path))
    train_paths, val_paths = ({picture.path for picture in dataset.splits[split]} for split in ("train", "val"))
    assert len(train_paths) + len(val_paths) == 80 and not train_paths & val_paths
    assert 4 <= len(val_paths) <= 20
    assert all(data.split_of(path.read_bytes()) == "val" for path in val_paths)


@pytest.mark.parametrize("seed", range(4))
def test_small_class_of_train_has_a_picture_in_val(seed: int, tmp_path: Path) -> None:
    fill(tmp_path / "train" / "good", 40, seed=9)
    fill(tmp_path / "train" / "dent", 2, seed=seed)
    counts = data.load(str(tmp_path)).counts()
    assert counts["train"]["dent"] == counts["val"]["dent"] == 1


def test_folders_of_classes_are_split_by_content(tmp_path: Path) -> None:
    fill(tmp_path / "ok", 60, seed=1)
    for seed, name in enumerate(("stain", "crack"), 2):
        fill(tmp_path / name, 60, seed)
    fill(tmp_path / "ground_truth", 1)
    fill(tmp_path / ".thumbnails", 1)
    dataset = data.load(str(tmp_path))
    assert dataset.classes == ("ok", "crack", "stain")
    found = [picture for split in dataset.splits.values() for picture in split]
    assert len(found) == len({picture.path for picture in found}) == 180
    shares = {split: len(found) / 180 for split, found in dataset.splits.items()}
    assert shares == {"train": pytest.approx(0.7, abs=0.1), "val": pytest.approx(0.15, abs=0.08),
                      "test": pytest.approx(0.15, abs=0.08)}  # fmt: skip


def test_picture_keeps_its_split_and_shares_it_with_its_copy(tmp_path: Path) -> None:
    ok, ng = fill(tmp_path / "ok", 40, seed=1), fill(tmp_path / "ng", 40, seed=2)
    before = split_by_path(data.load(str(tmp_path)))
    copies = {path: ok / f"copy-of-{path.name}" for path in sorted(ok.iterdir())}
    for path, copied in copies.items():
        shutil.copy(path, copied)
    (ng / "00.png").unlink()
    after = split_by_path(data.load(str(tmp_path)))
    assert all(after[path] == after[copied] for path, copied in copies.items())
    assert all(after[path] == split for path, split in before.items() if path != ng / "00.png")


def test_fingerprint_follows_the_bytes_and_not_the_place(tmp_path: Path) -> None:
    for name in ("ok", "ng"):
        fill(tmp_path / "a" / name, 40, seed=len(name) + ord(name[0]))
    first = data.load(str(tmp_path / "a")).fingerprint()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert data.load(str(tmp_path / "b")).fingerprint() == first
    path = tmp_path / "b" / "ok" / "00.png"
    path.write_bytes(path.read_bytes() + b"\0")
    assert data.load(str(tmp_path / "b")).fingerprint() != first


@pytest.mark.parametrize("names", [("ok", "good", "dent"), ("dent", "scratch"), ("ok",)])
def test_other_than_one_ok_class_and_a_defect_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        fill(tmp_path / name, 1)
    with pytest.raises(ToolError, match=r"one folder called `ok` or `good`.*" + names[0]):
        data.load(str(tmp_path))


@pytest.mark.parametrize(("ok", "ng"), [("OK", "NG"), ("Good", "Scratch"), ("GOOD", "dent")])
def test_case_of_folders_does_not_matter(ok: str, ng: str, tmp_path: Path) -> None:
    fill(tmp_path / ok, 20, seed=1)
    fill(tmp_path / ng, 20, seed=2)
    assert data.load(str(tmp_path)).classes == (ok, ng)


def test_folders_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    for folder, ok in (("train", "OK"), ("val", "ok")):
        fill(tmp_path / folder / ok, 3)
        fill(tmp_path / folder / "ng", 3)
    with pytest.raises(ToolError, match="differ in case alone, OK and ok: call them alike"):
        data.load(str(tmp_path))


def test_class_without_pictures_is_named(tmp_path: Path) -> None:
    for name in ("train/good", "train/dent", "val/good"):
        fill(tmp_path / name, 2)
    with pytest.raises(ToolError, match=r"`val`.*\['dent'\]"):
        data.load(str(tmp_path))


def test_neither_folder_nor_known_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="elpv"):
        data.load(str(tmp_path / "absent"))


def test_missing_elpv_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ToolError, match=r"pip install.*elpv-dataset"):
        data.load("elpv")


def test_elpv_cells_count_as_defective_from_two_thirds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grades = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")
    lines = [f"images/cell{i:04}.png  {grades[i % 4]}    {'mono' if i % 8 else 'poly'}" for i in range(80)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    installed = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(tree.importlib.util, "find_spec", lambda _: installed)
    dataset = data.load("elpv")
    found = {int(p.path.stem[4:]): p.label for split in dataset.splits.values() for p in split}
    assert found == {index: int(index % 4 >= 2) for index in range(80)}


MARK = b"\xef\xbb\xbf"  # what spreadsheets put in front


def test_tables_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    for content in (b"name,size\r\nM\xc3\xbc,7\r\n", MARK + b"name,size\r\nM\xc3\xbc,7\r\n"):
        path.write_bytes(content)
        assert layout.read_table(path, ("name", "size")) == [{"name": "Mü", "size": "7"}]
        assert layout.read_fields(path, 2, ",") == [["name", "size"], ["Mü", "7"]]
    path.write_bytes("name,size\nMü,7\n".encode("utf-16"))
    for read in (lambda: layout.read_table(path, ("name",)), lambda: layout.read_fields(path, 2, ",")):
        with pytest.raises(ToolError, match=r"cannot read .*table\.csv as"):
            read()


@pytest.mark.parametrize("name", ["visa", "severstal", "cub", "cub wsol", "openimages"])
def test_sets_whose_text_files_have_a_byte_order_mark(name: str, tmp_path: Path) -> None:
    made = TREES[name](tmp_path)
    plain = data.load(made.source)
    found = [path for path in tmp_path.rglob("*") if path.suffix in (".csv", ".txt")]
    for path in found:
        path.write_bytes(MARK + path.read_bytes())
    assert found and data.load(made.source) == plain


def test_rows_of_a_table_with_a_byte_order_mark(tmp_path: Path) -> None:
    rows = {("a",) * len(table.KEY): dict.fromkeys(table.COLUMNS, "a")}
    table.write_rows(tmp_path / "rows.csv", rows)
    (tmp_path / "rows.csv").write_bytes(MARK + (tmp_path / "rows.csv").read_bytes())
    assert table.read_rows(tmp_path / "rows.csv") == rows


def test_pictures_have_the_asked_size(tmp_path: Path) -> None:
    path = fill(tmp_path / "ok", 1) / "00.png"
    assert data.read_picture(path, (8, 6)).tolist() == np.asarray(Image.open(path)).tolist()
    pictures = data.read_pictures([data.Picture(path, 0)] * 2, (16, 24), progress=False)
    assert pictures.shape == (2, 24, 16, 3) and pictures.dtype == np.uint8


@pytest.mark.parametrize("damage", ["text", "cut", "deep"])
def test_unreadable_picture_is_named(damage: str, tmp_path: Path) -> None:
    path = fill(tmp_path / "ok", 1) / "00.png"
    if damage == "text":
        path.write_text("not a picture")
    elif damage == "cut":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    else:
        Image.fromarray(np.full((6, 8), 40_000, np.uint16)).save(path)
    with pytest.raises(ToolError, match=r"00\.png"):
        data.read_pictures([data.Picture(path, 0)], (8, 6), progress=False)


def test_colours_of_print_and_deep_colours_are_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(tmp_path / "print.jpg")
    with pytest.raises(ToolError, match=r"print\.jpg is CMYK.*convert it to RGB"):
        data.read_picture(tmp_path / "print.jpg", (8, 8))
    deep = cv2.imwrite(str(tmp_path / "deep.png"), np.full((8, 8, 3), 40_000, np.uint16))
    assert deep and Image.open(tmp_path / "deep.png").mode == "RGB"  # Pillow would halve it unasked
    with pytest.raises(ToolError, match=r"deep\.png has more than 8 bits"):
        data.read_picture(tmp_path / "deep.png", (8, 8))


# Few pictures, and pictures that belong together.


def test_three_pictures_are_too_few(tmp_path: Path) -> None:
    fill(tmp_path / "ok", 2)
    fill(tmp_path / "ng", 1)
    with pytest.raises(ToolError, match=r"ok has 2 pictures.*needs 3"):
        data.load(str(tmp_path))


def test_small_class_reaches_every_split(tmp_path: Path) -> None:
    fill(tmp_path / "ok", 40, seed=1)
    for seed in range(20):
        shutil.rmtree(tmp_path / "ng", ignore_errors=True)
        fill(tmp_path / "ng", 3, seed=100 + seed)
        counts = data.load(str(tmp_path)).counts()
        assert [counts[name]["ng"] for name in data.SPLITS] == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "part", "day"),
    [
        ("part_0123_a", "0123", ""), ("Part0123", "0123", ""), ("line4-SN17-top", "17", ""), ("kos05", "05", ""),
        ("0123_top", "0123", ""), ("0123_b", "0123", ""), ("0123_view2", "0123", ""), ("cam2_0123_top", "0123", ""),
        ("2024-05-01_0007", "", "2024-05-01"), ("IMG_20240501_101500", "", "2024-05-01"),
        ("20240501101500", "", "2024-05-01"), ("2024-13-01", "", ""), ("000", "", ""), ("plastic_0001", "", ""),
        ("scratch_12", "", ""), ("apart_12", "", ""), ("0123_456", "", ""), ("12024050199", "", ""),
    ],
)  # fmt: skip
def test_names_tell_part_and_day(name: str, part: str, day: str) -> None:
    assert (group.part(name), group.day(name)) == (part, day)


def splits_of_groups(dataset: data.Dataset) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, pictures in dataset.splits.items():
        for one in pictures:
            found.setdefault(one.group, set()).add(name)
    return found


@pytest.mark.parametrize(
    ("ok", "ng", "kind"),
    [
        ("ok/part_{0:02}_{1}.png", "ng/part_{0:02}_{1}.png", "part"),
        ("ok/2024-05-{0:02}/{1}.png", "ng/2024-05-{0:02}/{1}.png", "folder"),
        ("ok/2024-05-{0:02}_{1}.png", "ng/IMG_202405{0:02}_12000{1}.png", "day"),
    ],
)
def test_group_is_never_divided(ok: str, ng: str, kind: str, tmp_path: Path) -> None:
    for name in (ok, ng):
        for place in range(1, 25):
            for view in range(3):
                picture(tmp_path / name.format(place, view))
    dataset = data.load(str(tmp_path))
    found = splits_of_groups(dataset)
    assert len(found) == 24 and all(key.startswith(f"{kind}:") for key in found)
    assert all(len(names) == 1 for names in found.values())
    assert {name for names in found.values() for name in names} == set(data.SPLITS)
    assert all(p.path.parts[-2] == dataset.classes[p.label] or kind == "folder" for p in dataset.pictures())


def test_val_taken_from_train_divides_no_group(tmp_path: Path) -> None:
    for label in ("good", "dent"):
        for place in range(30):
            picture(tmp_path / "train" / label / f"part_{place:02}_a.png")
            picture(tmp_path / "train" / label / f"part_{place:02}_b.png")
    found = splits_of_groups(data.load(str(tmp_path)))
    assert len(found) == 30 and all(len(names) == 1 for names in found.values())


def test_few_days_do_not_group(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for label in ("ok", "ng"):
        for number in range(30):
            picture(tmp_path / label / f"2024-05-0{1 + number % 3}_{number:03}.png")
    with caplog.at_level("WARNING"):
        dataset = data.load(str(tmp_path))
    assert {p.group for p in dataset.pictures()} == {""} and "3 days, too few" in caplog.text
    caplog.clear()
    for name in data.SPLITS:  # nothing is left to split
        for label in ("ok", "ng"):
            for day in range(1, 4):
                picture(tmp_path / "split" / name / label / f"2024-05-0{day}_{day}.png")
    data.load(str(tmp_path / "split"))
    assert "too few" not in caplog.text


def test_days_in_the_path_above_do_not_group(tmp_path: Path) -> None:
    root = tmp_path / "2023-01-31"
    for label in ("ok", "ng"):
        for number in range(60):
            picture(root / label / f"2024-05-{1 + number % 12:02}_{number:03}.png")
    found = splits_of_groups(data.load(str(root)))
    assert len(found) == 12 and "day:2024-05-07" in found


def test_moved_group_moves_whole() -> None:
    pictures = [data.Picture(Path(f"{part}_{view}"), 1, group=f"part:{part}") for part in range(4) for view in range(3)]
    found = split.filled({"train": tuple(pictures), "val": (), "test": ()})
    assert {name: len(of_split) for name, of_split in found.items()} == {"train": 6, "val": 3, "test": 3}
    assert all(len({p.group for p in of_split}) == len(of_split) / 3 for of_split in found.values())


def test_ranks_give_exact_shares_and_know_no_order(tmp_path: Path) -> None:
    pictures = [data.Picture(tmp_path / str(number), number % 2) for number in range(40)]
    found = split.ranked(pictures, tmp_path, (0.5, 0.2, 0.3))
    assert {name: len(of_split) for name, of_split in found.items()} == {"train": 20, "val": 8, "test": 12}
    assert found == split.ranked(pictures[::-1], tmp_path, (0.5, 0.2, 0.3))


# Published sets.


@pytest.fixture(params=list(TREES))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return TREES[request.param](tmp_path)


def load(made: Tree) -> data.Dataset:
    return data.load(made.source)


def test_published_set_is_labelled_and_split(made: Tree) -> None:
    dataset = load(made)
    found = {picture.path: dataset.classes[picture.label] for picture in dataset.pictures()}
    assert found == made.labels and len(dataset.pictures()) == len(found)
    assert all(picture.label == min(picture.labels) for picture in dataset.pictures())
    present = set(made.labels.values())
    for name in data.SPLITS:
        assert {dataset.classes[picture.label] for picture in dataset.splits[name]} == present
    assert dataset == load(made)


def test_published_set_divides_no_group(made: Tree) -> None:
    found = splits_of_groups(load(made))
    found.pop("", None)
    assert all(len(names) == 1 for names in found.values())
    named = made.source.partition(":")[0]
    expected = {"ksdd": 12, "tiles": 18, "mvtec2": 6 + 3 + 3 + 8}
    assert len(found) == expected.get(named, 0)


def test_official_test_split_stays_out_of_training(made: Tree) -> None:
    """Only defects may move, and only where train has none of its own."""
    dataset = load(made)
    official = [p for p in dataset.pictures() if p.path.relative_to(dataset.root).parts[0].lower().startswith("test")]
    moved = [p for p in official if p not in dataset.splits["test"]]
    assert all(p.label for p in moved) and bool(moved) == (made.resplit and bool(official))


def test_wrong_tree_names_what_is_missing(made: Tree, tmp_path: Path) -> None:
    if made.needed.is_dir():
        shutil.rmtree(made.needed)
    else:
        made.needed.unlink()
    with pytest.raises(ToolError) as refused:
        load(made)
    assert made.needed.name in str(refused.value) and str(tmp_path) in str(refused.value)


def test_licence_is_told_once_a_load(made: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = load(made)
    told = capsys.readouterr()
    name = made.source.partition(":")[0]
    assert told.out == ""
    assert told.err == (data.KNOWN[name].notice() + "\n" if name in data.KNOWN else "")
    assert data.licence_of(dataset) == told.err.strip()


def test_every_known_set_has_a_tree() -> None:
    assert {name.split()[0] for name in TREES} == {*data.KNOWN, "tree"} - {"elpv"}


def test_readme_names_every_known_set_with_its_terms() -> None:
    lines = (Path(__file__).parents[2] / "tools" / "README.md").read_text().splitlines()
    for name, known in data.KNOWN.items():
        row = next((line.split("|") for line in lines if line.startswith(f"| `{name}`")), None)
        assert row and row[-2].strip() == known.commercial, name


OPENED: list[Path] = []


def note_opened(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        OPENED.append(Path(str(arguments[0])))


@pytest.fixture(scope="module")
def watched() -> None:
    sys.addaudithook(note_opened)


# Their masks are their only labels: whether one is empty is read, see surface.marked.
LABELS_ARE_MASKS = ("ksdd:", "ksdd2:")


@pytest.mark.usefixtures("watched")
def test_training_opens_no_truth(made: Tree) -> None:
    OPENED.clear()
    dataset = load(made)
    if made.source.startswith(LABELS_ARE_MASKS):
        assert set(made.truth) <= set(OPENED)  # the hook sees what Pillow opens
        OPENED.clear()
    dataset.fingerprint()
    for name in data.SPLITS:
        data.read_pictures(dataset.splits[name], (16, 12), progress=False)
    assert OPENED and not set(made.truth) & set(OPENED)


def test_things_without_ok_are_refused_where_ok_is_needed(tmp_path: Path) -> None:
    made = TREES["neu"](tmp_path)
    with pytest.raises(ToolError, match="no OK pictures"):
        data.load(made.source, ok_needed=True)
    dataset = data.load(made.source)
    assert dataset.ok == "ok" and all(counts["ok"] == 0 for counts in dataset.counts().values())


def test_picture_may_have_several_labels(tmp_path: Path) -> None:
    dataset = load(TREES["severstal"](tmp_path))
    assert dataset.classes == ("ok", "defect_1", "defect_3")
    assert {picture.labels for picture in dataset.pictures()} == {(0,), (1,), (2,), (1, 2)}


def test_folds_of_ksdd_part_the_items(tmp_path: Path) -> None:
    made = TREES["ksdd"](tmp_path)
    tests = [{p.group for p in data.load(f"{made.source}#{fold}").splits["test"]} for fold in range(3)]
    assert [len(groups) for groups in tests] == [4, 4, 4] and len(set().union(*tests)) == 12
    with pytest.raises(ToolError, match="knows no `#3`"):
        data.load(f"{made.source}#3")


def test_root_of_a_set_lists_its_products(tmp_path: Path) -> None:
    TREES["mvtec"](tmp_path)
    with pytest.raises(ToolError, match=r"test is not there.*has bottle"):
        data.load(f"mvtec:{tmp_path}")


def test_plain_load_of_good_only_training_hints_at_names(tmp_path: Path) -> None:
    made = TREES["mvtec"](tmp_path)
    with pytest.raises(ToolError, match="say mvtec:PATH"):
        data.load(made.source.removeprefix("mvtec:"))


@pytest.mark.parametrize("source", ["mvtecc:x", "mvtec:/absent", "mvtec:", "absent"])
def test_unknown_source_says_what_is_known(source: str) -> None:
    with pytest.raises(ToolError, match=r"known data set|is no folder"):
        data.load(source)


@pytest.mark.parametrize(
    ("name", "file", "text", "told"),
    [
        ("severstal", "train.csv", "Image,Class\nx,1\n", r"train\.csv has no column ImageId"),
        ("severstal", "train.csv", "ImageId,ClassId,EncodedPixels\nx.jpg,1,1 1\n", r"names x\.jpg"),
        ("cub", "images.txt", "1 001.Black_footed_Albatross/none.jpg\n", r"none\.jpg is not there"),
        ("cub", "train_test_split.txt", "1\n", r"train_test_split\.txt, line 1"),
        ("openimages", "metadata/OpenImages/test/class_labels.txt", "a.jpg,x\n", r"'x' is no whole number"),
        ("openimages", "metadata/OpenImages/test/image_ids.txt", "b.jpg\n", r"no class of b\.jpg"),
        ("visa", "split_csv/2cls_highshot.csv", "object,split,label,image\ncandle,dev,normal,x\n", "dev,normal"),
    ],
)
def test_wrong_table_is_named(name: str, file: str, text: str, told: str, tmp_path: Path) -> None:
    made = TREES[name](tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(ToolError, match=told):
        load(made)
