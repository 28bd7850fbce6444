"""Names of WebDataset files: several dots, several images of one sample, compound extensions."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from ravlm import read_entries
from ravlm.data.formats import webdataset

Sample = tuple[str, str | None, tuple[str, ...]]


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(buffer, "PNG")
    return buffer.getvalue()


def read(path: Path, files: Sequence[tuple[str, str]]) -> tuple[list[Sample], list[str]]:
    """Return id, color and texts of each entry of a shard, and what its quarantine names."""
    colors = {png(color): color for color in ("red", "green", "blue", "black", "white")}
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            is_image = name.lower().endswith((".png", ".jpg"))
            data = png(content) if is_image else content.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    stream = read_entries(path)
    samples = [
        (entry.id, colors[entry.image] if isinstance(entry.image, bytes) else None, entry.texts)
        for entry in stream
    ]
    return samples, [item.location.removeprefix(f"{path}, ") for item in stream.quarantine]


def test_last_dot_separates_names_with_several_dots(tmp_path: Path) -> None:
    """page.1.png, page.2.png and page.3.png were one sample: two of three pages vanished."""
    samples, rejected = read(tmp_path / "a.tar", [
        ("page.1.png", "red"), ("page.1.txt", "first\nerste"), ("page.2.png", "blue"),
        ("page.3.PNG", "green"), ("v1.2/page.png", "black"), ("v1.2/12.5.jpg", "white"),
    ])  # fmt: skip
    assert samples == [
        ("page.1", "red", ("first", "erste")),
        ("page.2", "blue", ()),
        ("page.3", "green", ()),
        ("v1.2/page", "black", ()),
        ("v1.2/12.5", "white", ()),
    ]
    assert rejected == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_plain_extension_wins_whatever_the_order(order: tuple[int, ...], tmp_path: Path) -> None:
    """`7.depth.png` stood for the photo `7.jpg`, because it comes first in the alphabet."""
    files = [("7.depth.png", "black"), ("7.jpg", "red"), ("7.txt", "a red tile")]
    samples, rejected = read(tmp_path / "a.tar", [files[i] for i in order])
    assert samples == [("7", "red", ("a red tile",))]
    assert rejected == ["7.depth.png"]


def test_further_images_of_a_sample_are_named(tmp_path: Path) -> None:
    """The right image of a stereo pair was lost without a word."""
    samples, rejected = read(tmp_path / "a.tar", [
        ("8.left.png", "red"), ("8.right.png", "blue"), ("8.txt", "a pair"),
        ("9.jpg", "green"), ("9.png", "white"), ("9.json", json.dumps({"text": "two files"})),
    ])  # fmt: skip
    assert samples == [("8", "red", ("a pair",)), ("9", "green", ("two files",))]
    assert rejected == ["8.right.png", "9.png"]


def test_one_image_goes_with_its_texts(tmp_path: Path) -> None:
    samples, rejected = read(
        tmp_path / "a.tar",
        [("1.rgb.png", "red"), ("1.caption.txt", "a wall"), ("1.boxes.json", '{"boxes": [1]}')],
    )
    assert samples == [("1", "red", ("a wall",))]
    assert rejected == []


def test_long_runs_of_dotted_names_are_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "_MAX_FILES", 3)
    files = [(f"frame.{n:03}.png", "red") for n in range(10)]
    samples, rejected = read(tmp_path / "a.tar", files)
    assert [id_ for id_, _, _ in samples] == [f"frame.{n:03}" for n in range(10)]
    assert rejected == []


def test_files_of_img2dataset(tmp_path: Path) -> None:
    """The caption stood in the metadata a second time; without the .txt it was metadata only."""
    facts = {"key": "000000001", "url": "https://a.example/1.jpg", "status": "success"}
    facts |= {"caption": "a red wall", "error_message": None, "width": 4}
    first = json.dumps(facts)
    second = json.dumps(facts | {"key": "000000002", "caption": "a blue wall"})
    path = tmp_path / "a.tar"
    samples, rejected = read(path, [
        ("000000001.jpg", "red"), ("000000001.txt", "a red wall"), ("000000001.json", first),
        ("000000002.jpg", "blue"), ("000000002.json", second),
    ])  # fmt: skip
    assert samples == [
        ("000000001", "red", ("a red wall",)),
        ("000000002", "blue", ("a blue wall",)),
    ]
    assert rejected == [str(path)]
    (first_entry, _) = read_entries(path)
    assert dict(first_entry.metadata) == {
        "key": "000000001", "url": "https://a.example/1.jpg", "status": "success", "width": 4,
    }  # fmt: skip


def test_only_line_ends_split_texts(tmp_path: Path) -> None:
    """U+2028, U+0085 and form feeds split a caption into two."""
    samples, _ = read(
        tmp_path / "a.tar", [("1.txt", "one\u2028still one\x0cone\r\ntwo\u0085two\n")]
    )
    assert samples[0][2] == ("one\u2028still one\x0cone", "two\u0085two")
