"""What every reader must do: recognize its own sources only, stream rows, and report bad parts."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ravlm import read_entries
from ravlm.data.readers import READERS, Row
from ravlm.records import Entry
from tests.helpers.pdfs import make_pdf

CAPTIONS = {"blue.png": "a blue wall", "red.png": "a red wall"}


def saved_dataset(pictures: Path) -> Path:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    datasets.disable_progress_bars()
    content = {
        "id": list(CAPTIONS),
        "image": [str(pictures / name) for name in CAPTIONS],
        "text": list(CAPTIONS.values()),
    }
    features = datasets.Features(
        id=datasets.Value("string"), image=datasets.Image(), text=datasets.Value("string")
    )
    path = pictures.parent / "saved"
    datasets.Dataset.from_dict(content, features=features).save_to_disk(str(path))
    datasets.enable_progress_bars()
    return path


def webdataset_shard(pictures: Path) -> Path:
    path = pictures.parent / "shard.tar"
    with tarfile.open(path, "w") as tar:
        for name, caption in CAPTIONS.items():
            stem = name.removesuffix(".png")
            metadata = json.dumps({"id": name}).encode()
            image = (pictures / name).read_bytes()
            for suffix, content in {
                "png": image,
                "txt": caption.encode(),
                "json": metadata,
            }.items():
                member = tarfile.TarInfo(f"{stem}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def image_folder(pictures: Path) -> Path:
    folder = pictures.parent / "folder"
    folder.mkdir()
    for name, caption in CAPTIONS.items():
        (folder / name).write_bytes((pictures / name).read_bytes())
        (folder / name).with_suffix(".txt").write_text(caption)
    return folder


def single_image(pictures: Path) -> Path:
    return image_folder(pictures) / "blue.png"


def parquet_file(pictures: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    rows = [{"id": name, "image": name, "text": text} for name, text in CAPTIONS.items()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), pictures / "rows.parquet")
    return pictures / "rows.parquet"


def coco_file(pictures: Path) -> Path:
    content = {
        "images": [{"id": name, "file_name": name} for name in CAPTIONS],
        "annotations": [{"image_id": name, "caption": text} for name, text in CAPTIONS.items()],
    }
    (pictures / "captions.json").write_text(json.dumps(content))
    return pictures / "captions.json"


def json_lines(pictures: Path) -> Path:
    rows = [{"id": name, "image": name, "text": text} for name, text in CAPTIONS.items()]
    (pictures / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return pictures / "rows.jsonl"


def token_file(pictures: Path) -> Path:
    lines = [f"{name}#0\t{text}" for name, text in CAPTIONS.items()]
    (pictures / "results.token").write_text("\n".join(lines))
    return pictures / "results.token"


def csv_file(pictures: Path) -> Path:
    lines = ["id,image,text", *(f"{name},{name},{text}" for name, text in CAPTIONS.items())]
    (pictures / "rows.csv").write_text("\n".join(lines))
    return pictures / "rows.csv"


def pdf_document(pictures: Path) -> Path:
    path = pictures.parent / "walls.pdf"
    path.write_bytes(make_pdf(list(CAPTIONS.values())))
    return path


DOCUMENT = "document (PDF, DOCX, PPTX, HTML)"
"""Its one row becomes an entry per page; it has no images of its own."""
SINGLE = (DOCUMENT, "image")
"""Sources of one row."""
SAMPLES: dict[str, Callable[[Path], Path]] = {
    "saved dataset (Hugging Face)": saved_dataset,
    "WebDataset shards": webdataset_shard,
    "folder of images": image_folder,
    "image": single_image,
    DOCUMENT: pdf_document,
    "Parquet": parquet_file,
    "COCO captions": coco_file,
    "JSON Lines": json_lines,
    "Flickr token file": token_file,
    "CSV or TSV with named columns": csv_file,
}


def head(path: Path) -> bytes:
    return path.read_bytes()[:65536] if path.is_file() else b""


def test_every_reader_has_a_sample() -> None:
    assert SAMPLES.keys() == READERS.keys()


@pytest.mark.parametrize("name", READERS)
def test_recognizes_its_own_source_first(name: str, pictures: Path) -> None:
    """The first reader of READERS that recognizes a source takes it: order matters."""
    path = SAMPLES[name](pictures)
    takers = [other for other, reader in READERS.items() if reader.recognizes(path, head(path))]
    assert takers[0] == name


@pytest.mark.parametrize("name", READERS)
def test_rows_have_a_location_and_a_folder(name: str, pictures: Path) -> None:
    path = SAMPLES[name](pictures)
    rows = list(READERS[name].read_rows(path))
    assert all(isinstance(row, Row) for row in rows)
    assert len({row.location for row in rows}) == (1 if name in SINGLE else len(CAPTIONS))
    assert all(str(path) in row.location for row in rows)
    assert rows == list(READERS[name].read_rows(path))


@pytest.mark.parametrize("name", [name for name in READERS if name not in SINGLE])
def test_same_entries_from_every_format(name: str, pictures: Path) -> None:
    stream = read_entries(SAMPLES[name](pictures))

    def content(entry: Entry) -> tuple[str, bytes, tuple[str, ...], dict[str, object]]:
        image = entry.image
        assert isinstance(image, str | bytes)
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        return entry.id, data, entry.texts, dict(entry.metadata)

    assert [content(entry) for entry in stream] == [
        (name, (pictures / name).read_bytes(), (text,), {}) for name, text in CAPTIONS.items()
    ]
    assert stream.quarantine == []
