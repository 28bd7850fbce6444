"""An export may come from elsewhere: its values are checked, and its images are its own."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ravlm.errors import BrokenData, Mismatch, RavlmError
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from tests.helpers.fakes import FakeEncoder

Rows = list[dict[str, Any]]
Change = Callable[[Rows, Rows, np.ndarray, dict[str, Any]], object]


@pytest.fixture(scope="module")
def sound_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of entries with and without images, one of several texts."""
    folder = tmp_path_factory.mktemp("sound")
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    entries = [
        Entry("picture", file.getvalue(), ("a red wall",), {"year": 1990}),
        Entry("text", None, ("a text",)),
        Entry("several", file.getvalue(), ("one", "two", "three"), {"n": 1}),
    ]
    with KnowledgeBase.build(folder / "kb", entries, encoder=FakeEncoder()) as base:
        base.export_to(folder / "export")
    return folder / "export"


@pytest.fixture
def exported(sound_export: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound_export, tmp_path / "export"))


@pytest.fixture
def target(tmp_path: Path) -> KnowledgeBase:
    return KnowledgeBase.build(tmp_path / "target", [], encoder=FakeEncoder())


def rewrite(folder: Path, change: Change) -> None:
    """Change the entries, parts, vectors and manifest of an export; the checksums stay right."""
    names = ("entries.jsonl", "parts.jsonl")
    lines = ((folder / name).read_text().splitlines() for name in names)
    entries, parts = ([json.loads(line) for line in of_file] for of_file in lines)
    vectors = np.load(folder / "vectors.npy")
    manifest = json.loads((folder / "manifest.json").read_text())
    change(entries, parts, vectors, manifest)
    for row, part in enumerate(parts[: len(vectors)]):
        if isinstance(part, dict):
            part["checksum"] = zlib.crc32(vectors[row].tobytes())
    for name, rows in zip(names, (entries, parts), strict=True):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.save(folder / "vectors.npy", vectors)
    (folder / "manifest.json").write_text(json.dumps(manifest))


ATTACKS: dict[str, Change] = {
    "an image outside": lambda e, p, v, m: e[0].update(image="../../secret.png"),
    "an image that does not exist": lambda e, p, v, m: e[0].update(image="pictures/none.png"),
    "a folder as image": lambda e, p, v, m: e[0].update(image="pictures"),
    "a number as image": lambda e, p, v, m: e[0].update(image=7),
    "a NUL in the image": lambda e, p, v, m: e[0].update(image="a\0b"),
    "a number as id": lambda e, p, v, m: (e[0].update(id=5), p[0].update(entry=5)),
    "an id with a line end": lambda e, p, v, m: (e[0].update(id="a\n"), p[0].update(entry="a\n")),
    "no id": lambda e, p, v, m: e[0].pop("id"),
    "an id twice": lambda e, p, v, m: (e.append(e[-1]), p.append(p[-1])),
    "half of a character": lambda e, p, v, m: e[0].update(texts=["\ud800"]),
    "a text as texts": lambda e, p, v, m: e[0].update(texts="one"),
    "numbers as texts": lambda e, p, v, m: e[0].update(texts=[1, 2]),
    "no texts": lambda e, p, v, m: e[0].pop("texts"),
    "NaN in metadata": lambda e, p, v, m: e[0].update(year=float("nan")),
    "a list as entry": lambda e, p, v, m: e.__setitem__(0, []),
    "position -1": lambda e, p, v, m: p[-1].update(position=-1),
    "position 3 of three texts": lambda e, p, v, m: p[-1].update(position=3),
    "true as position": lambda e, p, v, m: p[-1].update(position=True),
    "a huge position": lambda e, p, v, m: p[-1].update(position=2**70),
    "a modality of its own": lambda e, p, v, m: p[0].update(modality="smell"),
    "a list as modality": lambda e, p, v, m: p[0].update(modality=[]),
    "a number as passage": lambda e, p, v, m: p[-1].update(passage=5),
    "no position": lambda e, p, v, m: p[-1].pop("position"),
    "a list as part": lambda e, p, v, m: p.__setitem__(0, []),
    "too many parts": lambda e, p, v, m: p.append(dict(p[-1])),
    "parts of nobody": lambda e, p, v, m: p.append({**p[-1], "entry": "nobody"}),
    "too few parts": lambda e, p, v, m: p.pop(),
    "NaN as vector": lambda e, p, v, m: v.__setitem__((0, 0), np.nan),
    "an endless vector": lambda e, p, v, m: v.__setitem__((0, 0), np.inf),
    "a vector that is too long": lambda e, p, v, m: v.__imul__(np.float16(30)),
    "no vector": lambda e, p, v, m: v.__imul__(np.float16(0)),
    "another number of parts": lambda e, p, v, m: m.update(parts=3),
    "a number of parts below 0": lambda e, p, v, m: m.update(parts=-1),
    "a huge dimension": lambda e, p, v, m: m.update(dim=2**70),
    "a list as format": lambda e, p, v, m: m.update(format=[1]),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_no_export_writes_is_refused(
    exported: Path, target: KnowledgeBase, attack: str
) -> None:
    """Nine of these were exceptions of Python, and the others were stored: a number as id, a part
    at position -1, vectors of NaN or of length 30 that every search returned first."""
    (exported.parent / "secret.png").write_bytes(b"secret")
    rewrite(exported, ATTACKS[attack])
    with target, pytest.raises(RavlmError) as raised:
        target.import_from(exported)
    assert len(str(raised.value)) < 1000
    with KnowledgeBase.open(target.path) as again:
        assert again.count() == 0


def test_a_link_out_of_the_export_is_refused(exported: Path, target: KnowledgeBase) -> None:
    """A picture of the export was a link to a file of the reader, which its server then showed."""
    secret = exported.parent / "secret.png"
    (image,) = list((exported / "pictures").glob("*.png"))[:1]
    shutil.copy(image, secret)
    image.unlink()
    image.symlink_to(secret)
    with target, pytest.raises(BrokenData, match="outside of the export"):
        target.import_from(exported)


def test_an_absolute_path_is_left_out_with_a_note(
    exported: Path, target: KnowledgeBase, pictures: Path
) -> None:
    """`export` writes the path of an image that was gone. It may exist where it is imported."""
    rewrite(exported, lambda e, p, v, m: e[-1].update(image=str(pictures / "red.png")))
    with target:
        report = target.import_from(exported)
        assert [item.is_note for item in report.quarantined] == [True]
        assert "red.png" in str(report.quarantined[0])
        assert target.get("several")[0].image is None
        assert target.get("several")[0].texts == ("one", "two", "three")


def test_shards_name_no_files_outside(base: KnowledgeBase, tmp_path: Path, pictures: Path) -> None:
    """The JSON of a sample named a file of the machine that imports it."""
    base.add([Entry("gone", pictures / "red.png", ("a text",))])
    (pictures / "red.png").unlink()
    base.export_to(tmp_path / "shards", form="webdataset")
    with KnowledgeBase.build(tmp_path / "copy", [], encoder=FakeEncoder()) as copy:
        report = copy.import_from(tmp_path / "shards")
        assert {entry.image for entry in copy.get(["gone", "red"])} == {None}
        assert len(report.quarantined) == 2
    (shard,) = (tmp_path / "shards").glob("*.tar")
    with tarfile.open(shard) as tar:
        assert "00000.tar" not in tar.getnames()


@pytest.mark.parametrize(
    "content", [b"PK\3\4 a zip", b"\x80\4 a pickle", b"", b"\x93NUMPY\1\0\xff"]
)
def test_a_file_of_vectors_is_neither_zip_nor_pickle(
    exported: Path, target: KnowledgeBase, content: bytes
) -> None:
    (exported / "vectors.npy").write_bytes(content)
    with target, pytest.raises(BrokenData, match=r"vectors\.npy"):
        target.import_from(exported)


def test_an_export_of_another_dimension_is_refused(exported: Path, target: KnowledgeBase) -> None:
    """Its vectors would have been stored, and the base could not be searched any more."""

    def widen(e: Rows, p: Rows, v: np.ndarray, m: dict[str, Any]) -> None:
        m["dim"] = 65

    rewrite(exported, widen)
    with target, pytest.raises(Mismatch, match="65 dimensions"):
        target.import_from(exported)


def test_an_endless_line_is_refused(exported: Path, target: KnowledgeBase) -> None:
    with open(exported / "entries.jsonl", "ab") as file:
        file.truncate(2**26)  # zeros, which take no space on the disk
    with target, pytest.raises(BrokenData, match="longer than"):
        target.import_from(exported)
