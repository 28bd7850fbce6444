"""COCO as its sets are laid out: paths from the root, long heads, ids as text; column names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ravlm import read_entries
from ravlm.cli import main
from ravlm.data.formats import coco
from ravlm.encoders.auto import DualEncoder
from ravlm.errors import InvalidInput
from tests.helpers.fakes import FakeEncoder


@pytest.fixture
def coco_set(tmp_path: Path) -> Path:
    """A set with val2017/1.png, val2017/2.png and an empty folder of annotations."""
    for name, color in (("1.png", "red"), ("2.png", "blue")):
        path = tmp_path / "set" / "val2017" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), color).save(path)
    (tmp_path / "set" / "annotations").mkdir()
    return tmp_path / "set"


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "annotations" / "captions.json"
    path.write_text(json.dumps(content))
    return path


def images(prefix: str = "", *ids: Any) -> list[dict[str, Any]]:
    return [{"id": id_, "file_name": f"{prefix}{n}.png"} for n, id_ in enumerate(ids, 1)]


CAPTIONS = [{"image_id": 11, "caption": "a red tile"}, {"image_id": 12, "caption": "a blue tile"}]
TEXTS = [("11", ("a red tile",)), ("12", ("a blue tile",))]


def test_names_from_the_root_of_the_set(coco_set: Path) -> None:
    """`val2017/1.png` was looked for in annotations/ and in val2017/ only."""
    path = write(coco_set, {"images": images("val2017/", 11, 12), "annotations": CAPTIONS})
    entries = list(read_entries(path))
    assert [(entry.id, entry.texts) for entry in entries] == TEXTS
    assert entries[1].image == str(coco_set / "val2017" / "2.png")


@pytest.mark.parametrize("first", ["categories", "licenses", "info"])
def test_long_head(first: str, coco_set: Path) -> None:
    """With more than 64 kB before the lists, the file was taken for JSON Lines."""
    items = [{"id": n, "name": f"thing {n}", "images": [n]} for n in range(4000)]
    head: Any = {"description": "x" * 100_000} if first == "info" else items
    path = write(coco_set, {first: head, "images": images("", 11, 12), "annotations": CAPTIONS})
    assert path.read_bytes().find(b'"annotations"') > 65536
    assert [(entry.id, entry.texts) for entry in read_entries(path)] == TEXTS


def test_long_first_row_of_json_lines_is_a_row(tmp_path: Path) -> None:
    rows = [{"facts": ["y" * 50] * 3000, "text": "one"}, {"facts": [], "text": "two"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [entry.text for entry in read_entries(tmp_path / "rows.jsonl")] == ["one", "two"]
    assert not coco.recognizes(tmp_path / "rows.jsonl", b'{"facts": [')


@pytest.mark.parametrize(("first", "second"), [("11", "12"), (11.0, 12.0), (11, "12")])
def test_ids_as_text_or_numbers(first: Any, second: Any, coco_set: Path) -> None:
    """Image "11" lost the captions of image_id 11."""
    path = write(coco_set, {"images": images("", first, second), "annotations": CAPTIONS})
    stream = read_entries(path)
    assert [(entry.id, entry.texts) for entry in stream] == TEXTS
    assert stream.quarantine == []


def test_annotations_without_captions_are_noted(coco_set: Path) -> None:
    """instances_val2017.json gave images without texts, and nothing said why."""
    boxes = [{"image_id": id_, "bbox": [0, 0, 4, 4], "category_id": 1} for id_ in (11, 11, 12)]
    stream = read_entries(write(coco_set, {"images": images("", 11, 12), "annotations": boxes}))
    assert [entry.texts for entry in stream] == [(), ()]
    (note,) = stream.quarantine
    assert note.is_note
    assert note.reason == "None of the 3 annotations has a caption; boxes are not read."


def test_folder_of_images_on_the_command_line(
    coco_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(DualEncoder, "load", lambda name: FakeEncoder())
    path = write(coco_set, {"images": images("", 11, 12), "annotations": CAPTIONS})
    far = tmp_path / "elsewhere" / "deep" / "photos"
    far.parent.mkdir(parents=True)
    (coco_set / "val2017").rename(far)
    kb = str(tmp_path / "kb")
    assert main(["build", kb, str(path)]) == 1
    assert main(["build", kb, str(path), "--images", str(far)]) == 0
    assert "2 added" in capsys.readouterr().out
    (tmp_path / "more.jsonl").write_text('{"id": "again", "image": "2.png", "text": "blue"}\n')
    assert main(["add", kb, str(tmp_path / "more.jsonl"), "--images", str(far), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["added"], report["entries"], report["quarantined"]) == (1, 3, [])
    assert main(["add", kb, str(path), "--images", str(tmp_path / "nowhere")]) == 1
    assert "There is no folder of images" in capsys.readouterr().err


def test_notes_are_told_from_rejected_rows(
    coco_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(DualEncoder, "load", lambda name: FakeEncoder())
    rows = [{"image": "val2017/1.png", "caption": "a red tile"}, {"image": "x.png", "caption": "b"}]
    path = coco_set / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(["build", str(tmp_path / "kb"), str(path)]) == 0
    output = capsys.readouterr()
    assert "1 added, 0 updated, 0 unchanged, 1 in quarantine" in output.out
    first, second = output.err.splitlines()
    layout = 'Rows were read in the layout of image and caption: "caption" is the text.'
    assert first == f"note: {path}: {layout}"
    assert second.startswith(f"quarantined: {path}, line 2: There is no image")


def test_two_columns_of_one_name_are_refused_everywhere(tmp_path: Path) -> None:
    """Parquet and JSON kept the last of two values without a word; CSV refused them."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    arrays = [pyarrow.array(["a"]), pyarrow.array(["b"])]
    table = pyarrow.Table.from_arrays(arrays, names=["text", "text"])
    parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(InvalidInput, match='two columns called "text"'):
        list(read_entries(tmp_path / "rows.parquet"))
    (tmp_path / "rows.jsonl").write_text(
        '{"text": "a", "text": "b"}\n{"text": "c", "facts": {"x": 1, "x": 2}}\n{"text": "d"}\n'
    )
    stream = read_entries(tmp_path / "rows.jsonl")
    assert [entry.text for entry in stream] == ["d"]
    assert 'the key "text" occurs twice' in stream.quarantine[0].reason
    assert 'the key "x" occurs twice' in stream.quarantine[1].reason


def test_whole_numbers_of_a_float_column_are_ids(tmp_path: Path) -> None:
    """pandas makes floats of an integer column with a gap: the id became "1.0"."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    ids = pyarrow.array([41.0, None, 7.5, 1e16])
    table = pyarrow.table({"id": ids, "text": ["a", "b", "c", "d"]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    first, second, third, fourth = [entry.id for entry in read_entries(tmp_path / "rows.parquet")]
    assert (first, third, fourth) == ("41", "7.5", "10000000000000000")
    assert len(second) == 32
