"""Dataset formats: COCO, Flickr token files, WebDataset shards, saved Hugging Face datasets."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ravlm import read_entries, read_pairs
from ravlm.data.formats import coco
from ravlm.errors import BrokenData, InvalidInput, MissingExtra, NotFound
from ravlm.records import Entry

# COCO


def coco_file(path: Path, **changes: Any) -> Path:
    content = {
        "info": {"description": "captions [of {odd}] things", "version": "1.0", "year": 2026},
        "licenses": [{"id": 1, "name": "none"}],
        "images": [
            {"license": 1, "file_name": "red.png", "height": 48, "width": 64, "id": 391895},
            {"license": 1, "file_name": "blue.png", "height": 48, "width": 64, "id": 522418},
            {"license": 1, "file_name": "green.png", "height": 48, "width": 64, "id": 7},
        ],
        "annotations": [
            {"image_id": 522418, "id": 681330, "caption": 'A blue wall, 蓝色 "flat"\n'},
            {"image_id": 391895, "id": 770337, "caption": "A red wall"},
            {"image_id": 522418, "id": 684333, "caption": "Nothing but blue"},
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | changes), encoding="utf-8")
    return path


@pytest.mark.parametrize("place", ["beside", "in images", "in a set of its own"])
def test_coco(place: str, pictures: Path) -> None:
    """COCO keeps images in train2017/ and captions in annotations/captions_train2017.json."""
    path = pictures / "captions.json"
    if place == "in images":
        path, pictures = (
            pictures.parent / "captions.json",
            pictures.rename(pictures.parent / "images"),
        )
    elif place == "in a set of its own":
        path = pictures.parent / "annotations" / "captions_train2017.json"
        pictures = pictures.rename(pictures.parent / "train2017")
    stream = read_entries(coco_file(path))
    size = {"license": 1, "height": 48, "width": 64}
    assert list(stream) == [
        Entry("391895", str(pictures / "red.png"), ("A red wall",), size),
        Entry(
            "522418",
            str(pictures / "blue.png"),
            ('A blue wall, 蓝色 "flat"\n', "Nothing but blue"),
            size,
        ),
        Entry("7", str(pictures / "green.png"), (), size),
    ]
    assert stream.quarantine == []
    pairs = read_pairs(path)
    assert [pair.id for pair in pairs] == ["391895", "522418"]
    assert "no text" in pairs.quarantine[0].reason


def test_coco_in_any_order_and_chunk_size(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that ended within a number once gave the image 3918 instead of 391895."""
    path = coco_file(pictures / "captions.json")
    expected = list(read_entries(path))
    reordered = dict(reversed(json.loads(path.read_text()).items()))
    for size in (1, 2, 7, 100):
        monkeypatch.setattr(coco, "_CHUNK", size)
        path.write_text(json.dumps(reordered, indent=size % 3 or None))
        assert list(read_entries(path)) == expected


def test_bad_items_of_coco(pictures: Path) -> None:
    path = coco_file(pictures / "captions.json")
    content = json.loads(path.read_text())
    content["images"] += [
        {"id": 8},
        "nine",
        {"id": 10, "file_name": "gone.png"},
        {"id": 7, "file_name": "disc.jpg"},
    ]
    content["annotations"] += [
        {"caption": "of nothing"},
        {"image_id": 99, "caption": "of no image"},
        {"image_id": 7, "caption": 3},
        {"image_id": 7, "bbox": [0, 0, 1, 1]},
        {"image_id": 7, "caption": "green"},
    ]
    path.write_text(json.dumps(content))
    stream = read_entries(path)
    assert [(entry.id, entry.text) for entry in stream] == [
        ("391895", "A red wall"), ("522418", 'A blue wall, 蓝色 "flat"\n'), ("7", "green"),
    ]  # fmt: skip
    reasons = {refused.location.rsplit(", ", 1)[1]: refused.reason for refused in stream.quarantine}
    for place, word in {
        "annotations 4": "names no image", "annotations 6": "not a string",
        "annotations": "no image with the id 99",
        "images 4": "file_name", "images 5": "file_name",
        "images 6": "gone.png", "images 7": "used before",
    }.items():  # fmt: skip
        assert word in reasons.pop(place)
    assert reasons == {}


@pytest.mark.parametrize(
    "damage", [lambda t: t[: len(t) // 2], lambda t: t.replace('"images": [', '"images": [,')]
)
def test_damaged_coco(damage: Any, pictures: Path) -> None:
    path = coco_file(pictures / "captions.json")
    path.write_text(damage(path.read_text()))
    with pytest.raises(BrokenData, match="begins like COCO captions but can't be read"):
        list(read_entries(path))


def test_rows_with_a_key_of_coco_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "one", "images": [1], "annotations": []}\n{"text": "two"}\n')
    assert [entry.text for entry in read_entries(path)] == ["one", "two"]
    path.write_text(
        '{"file_name": "a.png", "annotations": [1]}\n{"file_name": "b.png", "annotations": []}\n'
    )
    with pytest.raises(InvalidInput, match='Rename "file_name" to "image"'):
        list(read_entries(path))
    path.write_text(
        '{"id": 1, "facts": {"images": [1]}, "note": "\\"images\\": [", "text": "one"}\n'
    )
    assert [entry.text for entry in read_entries(path)] == ["one"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5
    ),
    piece=st.integers(1, 40),
)
def test_items_round_trip(
    names: list[str], piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "_CHUNK", piece)
    images = [
        {"id": number, "file_name": name, "score": number / 7} for number, name in enumerate(names)
    ]
    path = tmp_path / "captions.json"
    path.write_text(
        json.dumps({"images": images, "annotations": []}, ensure_ascii=piece % 2 == 0),
        encoding="utf-8",
    )
    assert [item for _, item in coco._items(path, "images")] == images


# Flickr's token files


def test_token_file(pictures: Path) -> None:
    path = pictures.parent / "results.token"
    path.write_bytes(
        "red.png#0\tA red wall .\r\nred.png#1\t红色的墙 .\r\n".encode()
        + b"blue.png#0\tcaf\xe9 .\nblue.png#1\tA blue wall .\n"
        b"gone.png#0\tNobody sees this .\n\na line of another form\nred.png#2\tlate\n"
    )
    stream = read_entries(path)
    assert list(stream) == [
        Entry("red.png", str(pictures / "red.png"), ("A red wall .", "红色的墙 .")),
        Entry("blue.png", str(pictures / "blue.png"), ("A blue wall .",)),
    ]
    reasons = {refused.location.rsplit(" ", 1)[1]: refused.reason for refused in stream.quarantine}
    assert sorted(reasons) == ["3", "5", "7", "8"]
    assert "byte 0xe9" in reasons["3"]
    assert "used before" in reasons["8"]


def test_image_folder_can_be_named(pictures: Path) -> None:
    """If several folders have an image of that name, only the caller knows which is meant."""
    path = pictures.parent / "texts" / "captions.token"
    path.parent.mkdir()
    path.write_text("red.png#0\tA red wall .\nblue.png#0\tA blue wall .\n")
    far = pictures.parent / "far" / "away" / "photos"
    far.mkdir(parents=True)
    for name in ("red.png", "blue.png"):
        (pictures / name).rename(far / name)
    assert list(read_entries(path)) == []
    assert [entry.image for entry in read_entries(path, images=far)] == [
        str(far / "red.png"),
        str(far / "blue.png"),
    ]
    assert [pair.image for pair in read_pairs(path, str(far))] == [
        str(far / "red.png"),
        str(far / "blue.png"),
    ]
    rows = pictures.parent / "rows.jsonl"
    rows.write_text('{"image": "red.png"}\n{"image": "blue.png"}\n')
    assert len(list(read_entries(rows, images=far))) == 2
    with pytest.raises(NotFound, match="no folder of images"):
        read_entries(path, images=pictures / "red.png")


# WebDataset


def shard(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode, format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(pictures: Path) -> dict[str, bytes]:
    red, blue, disc = (
        (pictures / name).read_bytes() for name in ("red.png", "blue.png", "disc.jpg")
    )
    return {
        "./a/0001.png": red,
        "./a/0001.txt": "a red wall\n红色\n".encode(),
        "./a/0001.json": b'{"split": "train", "year": 1990, "text": "left for the .txt"}',
        "0002.json": b'{"texts": ["a blue wall", "blue"], "id": "named"}',
        "0002.PNG": blue,
        "0003.jpg": disc,
        "0003.seg.png": red,
        "0003.cls": b"7",
        "0004.txt": b"a text alone",
    }


@pytest.mark.parametrize("name", ["shard.tar", "shard.tar.gz", "shard.dat"])
def test_webdataset(name: str, pictures: Path) -> None:
    content = samples(pictures)
    path = shard(pictures.parent / name, content, "w:gz" if name.endswith("gz") else "w")
    stream = read_entries(path)
    assert list(stream) == [
        Entry(
            "a/0001",
            content["./a/0001.png"],
            ("a red wall", "红色"),
            {"split": "train", "year": 1990},
        ),
        Entry("named", content["0002.PNG"], ("a blue wall", "blue")),
        Entry("0003", content["0003.jpg"], ()),
        Entry("0004", None, ("a text alone",)),
    ]
    assert [str(refused.location) for refused in stream.quarantine] == [
        f"{path}, 0003.seg.png",
        f"{path}, .cls",
    ]
    assert [pair.id for pair in read_pairs(path)] == ["a/0001", "named"]


def test_a_folder_of_shards(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    content = samples(pictures)
    shard(folder / "2.tar", {"0009.jpg": content["0003.jpg"], "0009.txt": b"nine"})
    shard(folder / "1.tar", {"0001.jpg": content["0003.jpg"], "0001.txt": b"one"})
    (folder / "3.tar").write_bytes(b"no tar file")
    (folder / "sizes.json").write_text("{}")
    stream = read_entries(folder)
    assert [entry.text for entry in stream] == ["one", "nine"]
    assert [refused.location for refused in stream.quarantine] == [str(folder / "3.tar")]
    (folder / "photo.png").write_bytes(content["./a/0001.png"])
    assert [entry.id for entry in read_entries(folder)] == ["photo.png"], (
        "a folder of images with tar files"
    )


def test_bad_samples(pictures: Path) -> None:
    content = samples(pictures)
    path = shard(pictures.parent / "shard.tar", {
        "1.png": content["./a/0001.png"], "1.json": b"{",
        "2.png": content["./a/0001.png"], "2.json": b"[1]",
        "3.png": content["./a/0001.png"], "3.txt": b"caf\xe9",
        "4.png": content["0002.PNG"], "4.txt": b"good",
    })  # fmt: skip
    stream = read_entries(path)
    assert [entry.text for entry in stream] == ["good"]
    reasons = {refused.location[-1]: refused.reason for refused in stream.quarantine}
    assert "JSON" in reasons["1"]
    assert "type list" in reasons["2"]
    assert "UTF-8" in reasons["3"]


def test_a_shard_that_ends_too_early(pictures: Path) -> None:
    content = samples(pictures)
    whole = {f"{n:03}.jpg": content["0003.jpg"] for n in range(50)}
    path = shard(pictures.parent / "shard.tar", whole)
    data = path.read_bytes()
    a_sample = 512 + -(-len(content["0003.jpg"]) // 512) * 512
    for end, reasons in (
        (25 * a_sample, "after its 25 samples"),
        (25 * a_sample + 700, "after its first 25 samples"),
    ):
        path.write_bytes(data[:end])
        stream = read_entries(path)
        assert [entry.image for entry in stream] == [content["0003.jpg"]] * 25
        assert reasons in stream.quarantine[0].reason
    path.write_bytes(gzip.compress(data)[:400])
    with pytest.raises(BrokenData, match="begins like a tar file"):
        list(read_entries(path))


# Folders that the package datasets saved


def saved(folder: Path, pictures: Path, splits: bool) -> Path:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    datasets.disable_progress_bars()
    rows = {
        "photo": [str(pictures / name) for name in ("red.png", "blue.png", "disc.jpg")],
        "text": ["a red wall", "a blue wall", "a disc"],
        "kind": [0, 1, -1],
        "box": [[1, 2], [3, 4], []],
        "raw": [b"1", b"2", b"3"],
    }
    features = datasets.Features(
        photo=datasets.Image(),
        text=datasets.Value("string"),
        kind=datasets.ClassLabel(names=["wall", "sky"]),
        box=datasets.List(datasets.Value("int64")),
        raw=datasets.Value("binary"),
    )
    whole = datasets.Dataset.from_dict(rows, features=features)
    parts = {"train": whole.select([0, 1]), "test": whole.select([2])}
    (datasets.DatasetDict(parts) if splits else whole).save_to_disk(str(folder))
    datasets.enable_progress_bars()
    return folder


@pytest.mark.parametrize("splits", [False, True])
def test_saved_dataset(splits: bool, pictures: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved", pictures, splits)
    stream = read_entries(folder)
    entries = list(stream)
    images = [(pictures / name).read_bytes() for name in ("red.png", "blue.png", "disc.jpg")]
    assert [entry.image for entry in entries] == images
    assert [entry.text for entry in entries] == ["a red wall", "a blue wall", "a disc"]
    expected: list[dict[str, Any]] = [
        {"kind": "wall", "box": [1, 2]},
        {"kind": "sky", "box": [3, 4]},
        {"box": []},
    ]
    if splits:
        expected = [
            values | {"split": split}
            for values, split in zip(expected, ["train", "train", "test"], strict=True)
        ]
    assert [dict(entry.metadata) for entry in entries] == expected
    assert all('column "raw"' in refused.location for refused in stream.quarantine)
    assert len({entry.id for entry in read_entries(folder)}) == 3


def test_a_damaged_saved_dataset(pictures: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved", pictures, splits=False)
    arrow = next(folder.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(BrokenData, match="looks like a saved dataset"):
        list(read_entries(folder))


def test_a_saved_dataset_without_the_package(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "saved", pictures, splits=False)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r'pip install "ravlm\[datasets\]"'):
        list(read_entries(folder))
