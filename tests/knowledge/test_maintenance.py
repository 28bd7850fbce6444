"""Maintenance: `verify` finds each planted fault, `compact` clears the disk, and `reencode`, export
and import preserve a base."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from ravlm.data.readers import read_entries
from ravlm.errors import BrokenData, InvalidInput, Mismatch, NotFound
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.encoder_guard import EncoderGuard
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance import color_entries, ids

KEYWORD = SearchOptions(method="keyword")


@pytest.fixture
def base(tmp_path: Path, pictures: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.build(tmp_path / "kb", color_entries(pictures), encoder=FakeEncoder()) as kb:
        kb.add([Entry("given", None, ("given",))], vectors={"text": np.ones((1, 64))})
        yield kb


def plant(base: KnowledgeBase, sql: str, *parameters: object) -> None:
    db = sqlite3.connect(base.path / "store.sqlite")
    with db:
        db.execute(sql, parameters)
    db.close()


# verify


def test_a_sound_base(base: KnowledgeBase) -> None:
    report = base.verify()
    assert report.sound
    assert report.checked == {
        "entries": 7,
        "vectors": 11,
        "images": 4,
        "entries encoded again": 6,
    }
    assert str(report).startswith("Sound: 7 entries, 11 vectors")
    base.optimize()
    base.remove(["red"])
    assert base.verify().sound


FAULTS: dict[str, tuple[str, str]] = {
    "a flipped vector": (
        "UPDATE part SET vector = zeroblob(128) WHERE number = 3",
        "checksum differs",
    ),
    "a cut vector": ("UPDATE part SET vector = x'00' WHERE number = 3", "wrong length"),
    "a part without an entry": ("DELETE FROM entry WHERE id = 'given'", "parts without an entry"),
    "an entry without parts": ("DELETE FROM part WHERE given = 1", "entries without a part"),
    "lost keywords": ("UPDATE part SET words = NULL WHERE number = 2", "without keywords"),
    "a lost filter value": ("DELETE FROM facet WHERE key = 'tags'", 'filter values of "flag"'),
    "a removed part that is back": (
        "INSERT INTO removed VALUES (1, 3)",
        "removed parts that still exist",
    ),
    "a changed canary": ("UPDATE canary SET vector = zeroblob(256) WHERE modality = 0", "canary"),
    "texts of another entry": (
        "UPDATE entry SET texts = '[\"black night\"]' WHERE id = '橘猫'",
        "another vector",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verify_finds(base: KnowledgeBase, fault: str) -> None:
    sql, message = FAULTS[fault]
    plant(base, sql)
    report = base.verify()
    assert not report.sound
    assert any(message in finding for finding in report.findings), str(report)


def test_verify_finds_exchanged_vectors(base: KnowledgeBase) -> None:
    """Two vectors are exchanged with their checksums: only encoding them again can tell."""
    with base._backend.store.writing() as (db, _):
        rows = db.execute(
            "SELECT number, vector, checksum FROM part WHERE modality = 0 LIMIT 2"
        ).fetchall()
        for (number, *_), (_, *exchanged) in zip(rows, rows[::-1], strict=True):
            db.execute(
                "UPDATE part SET vector = ?, checksum = ? WHERE number = ?", (*exchanged, number)
            )
    base._backend.indexes.forget()
    report = base.verify()
    assert sum("another vector than the stored one" in finding for finding in report.findings) == 2


def test_verify_finds_an_index_that_differs_from_the_store(base: KnowledgeBase) -> None:
    base.search(vector=np.ones(64))
    index = base._backend.indexes.vectors().by_modality["text"]
    index.delete(index.parts()[:1])
    assert any("parts" in finding for finding in base.verify().findings)


def test_a_missing_image_is_reported(base: KnowledgeBase, pictures: Path) -> None:
    """Its vectors and texts can still be searched."""
    (pictures / "red.png").unlink()
    report = base.verify()
    assert any('"red"' in finding and "gone" in finding for finding in report.findings)
    assert ids(base.search(text="red", modality="image", k=1)) == ["red"]


def test_many_faults_of_a_kind_are_counted(base: KnowledgeBase) -> None:
    plant(base, "UPDATE part SET checksum = checksum + 1")
    findings = base.verify().findings
    assert len(findings) == 6
    assert "6 more of this kind" in findings[-1]


# compact


def on_disk(folder: Path, secret: bytes) -> bool:
    return any(secret in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_compact_clears_the_disk(base: KnowledgeBase, pictures: Path) -> None:
    secret, row = "Xylophonsekret", np.random.default_rng(7).standard_normal((1, 64))
    vector = (row[0] / np.linalg.norm(row)).astype("<f2").tobytes()
    base.add(
        [Entry("s", (pictures / "green.png").read_bytes(), (secret,), {"k": secret})],
        vectors={"text": row},
    )
    base.optimize()
    stored_image = Path(str(base.get("s")[0].image))
    assert on_disk(base.path, secret.encode())
    assert on_disk(base.path, vector)
    reader = KnowledgeBase.open(base.path, FakeEncoder())
    assert ids(reader.search(text=secret, options=KEYWORD)) == ["s"]
    base.remove(["s"])
    base.compact()
    assert not on_disk(base.path, secret.encode())
    assert not on_disk(base.path, secret.lower().encode()[:8])
    assert not on_disk(base.path, vector)
    assert not stored_image.exists()
    assert Path(str(base.get("disc")[0].image)).exists()
    assert base.verify().sound
    assert base.info().indexed_change == base.change
    for handle in (base, reader):
        assert handle.count() == 7
        assert "s" not in ids(handle.search(vector=row[0]))
    reader.close()


def test_an_empty_base_can_be_compacted(tmp_path: Path) -> None:
    with KnowledgeBase.build(tmp_path / "empty", [], encoder=FakeEncoder()) as base:
        base.compact()
        base.optimize()
        assert base.verify().sound


# reencode


def test_reencode(base: KnowledgeBase, pictures: Path) -> None:
    base.optimize()
    base.remove(["given"])
    new_encoder, stale = FakeEncoder("other", seed=3), KnowledgeBase.open(base.path, FakeEncoder())
    before = [ids(base.search(text=word)) for word in ("red", "grass")]
    assert ids(stale.search(text="red", modality="image", k=1)) == ["red"]
    calls: list[tuple[int, int]] = []
    base.reencode(new_encoder, progress=lambda *counts: calls.append(counts))
    assert calls == [(0, 6), (6, 6)]
    assert base.info().fingerprint == new_encoder.fingerprint
    assert base.verify().sound
    assert sorted(ids(base.search(text="red"))) == sorted(before[0])
    assert ids(base.search(text="grass", options=KEYWORD)) == ["green"]
    for use in (
        lambda: stale.search(text="red"),
        lambda: stale.add([Entry("n", None, ("n",))]),
        lambda: stale.add([Entry("n", None, ("n",))], vectors={"text": np.ones((1, 64))}),
    ):
        with pytest.raises(Mismatch, match="Open it again"):
            use()
    stale.close()
    with pytest.raises(Mismatch, match='"other"'):
        KnowledgeBase.open(base.path, FakeEncoder())
    with KnowledgeBase.open(base.path, new_encoder) as again:
        assert ids(again.search(image=pictures / "red.png", modality="image", k=1)) == ["red"]
        assert again.count() == 6


def test_reencode_refuses_vectors_without_content(base: KnowledgeBase) -> None:
    base.add([Entry("bare")], vectors={"image": np.ones((1, 64))})
    with pytest.raises(InvalidInput, match='"bare" was precomputed'):
        base.reencode(FakeEncoder("other", seed=3))
    assert ids(base.search(text="red", modality="image", k=1)) == ["red"]


def test_reencode_resumes(tmp_path: Path) -> None:
    class Failing(FakeEncoder):
        left, encoded = 150, 0

        def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
            self.left -= len(texts)
            if self.left < 0:
                raise KeyboardInterrupt
            self.encoded += len(texts)
            return super().encode_texts(texts)

    entries = [Entry(f"{i}", None, (f"text {i}",)) for i in range(200)]
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=FakeEncoder()) as base:
        failing = Failing("other", seed=3)
        with pytest.raises(KeyboardInterrupt):
            base.reencode(failing)
        assert base.search(text="text 7", k=1)[0].score == pytest.approx(1.0, abs=2e-3)
        assert base.verify().sound
        base.add([Entry("late", None, ("late",))])
        failing.left, failing.encoded = 1000, 0
        base.reencode(failing)
        assert failing.encoded == 4 + 201 - 128
        assert base.verify().sound
        assert ids(base.search(text="late", k=1)) == ["late"]


def test_reencode_names_an_unreadable_image(base: KnowledgeBase, pictures: Path) -> None:
    (pictures / "red.png").unlink()
    with pytest.raises(NotFound, match='The entry "red" cannot be re-encoded'):
        base.reencode(FakeEncoder("other", seed=3))
    assert ids(base.search(text="red", modality="image", k=1)) == ["red"]


# export and import


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Callable[..., KnowledgeBase]]:
    bases: list[KnowledgeBase] = []

    def make(encoder: FakeEncoder | None = None) -> KnowledgeBase:
        bases.append(
            KnowledgeBase.build(
                tmp_path / f"empty{len(bases)}", [], encoder=encoder or FakeEncoder()
            )
        )
        return bases[-1]

    yield make
    for base in bases:
        base.close()


def test_export_and_import_carry_everything_over(
    base: KnowledgeBase, empty: Callable[..., KnowledgeBase], tmp_path: Path, pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    base.add([Entry("clash", None, ("text",), {"text": "metadata of its own", "id": 3})])
    report = base.export_to(tmp_path / "out" / "export")
    assert (report.entries, report.parts, report.missing) == (8, 12, ())
    names = [entry.id for entry in color_entries(pictures)] + ["given", "clash"]
    for picture in pictures.iterdir():
        picture.unlink()
    copy, encoder = empty(), FakeEncoder()
    copy._guard = EncoderGuard(copy._backend, None)  # encoding would fail: no such encoder
    assert copy.import_from(tmp_path / "out" / "export").added == 8
    assert copy.import_from(tmp_path / "out" / "export").updated == 8
    assert copy.count() == 8
    copy._guard.trust(encoder)
    assert copy.verify().sound
    for one, two in zip(base.get(names), copy.get(names), strict=True):
        assert (one.id, one.texts, one.metadata) == (two.id, two.texts, two.metadata)
    assert Path(str(copy.get("red")[0].image)).is_relative_to(copy.path)
    for query in ({"text": "red"}, {"text": "flag", "options": KEYWORD}, {"vector": np.ones(64)}):
        hits, again = base.search(**query), copy.search(**query)  # type: ignore[arg-type]
        assert [(h.entry.id, h.part, h.score) for h in hits] == [
            (h.entry.id, h.part, h.score) for h in again
        ]


def test_an_export_can_be_read_as_a_source(base: KnowledgeBase, tmp_path: Path) -> None:
    base.export_to(tmp_path / "export")
    entries = {entry.id: entry for entry in read_entries(tmp_path / "export" / "entries.jsonl")}
    assert entries["flag"].texts == ("a red flag", "it is blue too")
    assert entries["red"].metadata == {"split": "train", "year": 1990, "group": "walls"}
    assert Path(str(entries["disc"].image)).is_file()


def test_import_into_a_base_of_another_encoder(
    base: KnowledgeBase, empty: Callable[..., KnowledgeBase], tmp_path: Path
) -> None:
    base.export_to(tmp_path / "with given")
    target = empty(FakeEncoder("other", seed=5))
    with pytest.raises(Mismatch, match='of the encoder "fake", but this base uses "other"'):
        target.import_from(tmp_path / "with given")
    base.remove(["given"])
    base.export_to(tmp_path / "without")
    assert target.import_from(tmp_path / "without").added == 6
    assert target.verify().sound


def test_export_lists_missing_images(base: KnowledgeBase, tmp_path: Path, pictures: Path) -> None:
    (pictures / "red.png").unlink()
    assert base.export_to(tmp_path / "export").missing == (str(pictures / "red.png"),)
    with pytest.raises(InvalidInput, match="exists already"):
        base.export_to(tmp_path / "export")


def test_import_takes_only_what_export_wrote(
    base: KnowledgeBase, tmp_path: Path, pictures: Path
) -> None:
    with pytest.raises(NotFound, match="There is no folder"):
        base.import_from(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match="use add"):
        base.import_from(pictures)
    base.export_to(tmp_path / "export")
    lines = (tmp_path / "export" / "parts.jsonl").read_text().splitlines()
    (tmp_path / "export" / "parts.jsonl").write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(BrokenData, match="export again"):
        base.import_from(tmp_path / "export")
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text())
    (tmp_path / "export" / "manifest.json").write_text(json.dumps({**manifest, "format": 9}))
    with pytest.raises(Mismatch, match="format 9"):
        base.import_from(tmp_path / "export")
    assert base.verify().sound
