"""Bases of multi-vector encoders: what is found, and what holds for their token vectors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ravlm.encoders.base import Encoder
from ravlm.errors import BrokenData, InvalidInput, Mismatch
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import maxsim_index
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.helpers.multi_vector_fake import FLAGS, FakeMultiVectorEncoder, check_scores, flag
from tests.knowledge.conformance import ids

DIM = 64


@pytest.fixture
def encoder() -> FakeMultiVectorEncoder:
    return FakeMultiVectorEncoder()


@pytest.fixture
def base(tmp_path: Path, encoder: Encoder) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.build(tmp_path / "kb", FLAGS, encoder=encoder) as kb:
        yield kb


@pytest.mark.parametrize("kind", ["tokens-8bit", "tokens-binary"])
def test_searches_compare_all_tokens(
    base: KnowledgeBase, encoder: Encoder, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory, from a snapshot with cells, and after changes by another handle."""
    monkeypatch.setattr(maxsim_index, "MIN_CELL_ROWS", 5)
    monkeypatch.setattr(maxsim_index, "CANDIDATES", 12)
    check_scores(base, FLAGS, "red blue")
    base._backend.store.choose_index(kind, 0.95)  # type: ignore[attr-defined]
    base.optimize()
    assert list(base.derived_folder.glob("vectors-*/image-cell-centroids.npy"))
    check_scores(base, FLAGS, "red blue")
    with KnowledgeBase.open(base.path, FakeMultiVectorEncoder()) as other:
        check_scores(other, FLAGS, "black green")
        assert other.remove(["red-blue"]) == 1
        other.add([flag("white", "red")])  # unchanged
        other.add(Entry("white-red", FLAGS[0].image, ("changed",)))
    remaining = [entry for entry in FLAGS if entry.id not in ("red-blue", "white-red")]
    changed = [*remaining, Entry("white-red", FLAGS[0].image)]
    check_scores(base, changed, "red blue")
    assert base.verify().sound
    base.compact()
    check_scores(base, changed, "red blue")
    assert base.verify().checked["token vectors"] == 4 * 24 + 7 * 23 + 1


def test_options(base: KnowledgeBase) -> None:
    both = base.search(text="white", image=flag("green", "green").image, k=2, modality="image")
    assert both[0].entry.id in ("green-white", "white-green")
    options = SearchOptions(near_duplicate=0.999)
    unlike = base.search(image=flag("green", "white").image, k=2, options=options)
    assert "green-white" not in ids(unlike)
    options = SearchOptions(method="hybrid", rerank="exact", relevance=True, diversity=0.1)
    hits = base.search(text="a red wall and a blue door", k=3, modality="text", options=options)
    assert hits[0].entry.id == "red-blue"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert 0 < hits[0].relevance <= 1  # type: ignore[operator]
    with pytest.raises(Mismatch, match=r"produces \(tokens, 64\)"):
        base.search(vector=np.ones((3, 8)))


def test_precomputed_tokens(base: KnowledgeBase) -> None:
    rows = [np.eye(DIM)[50:53], np.eye(DIM)[55]]
    base.add([Entry("p", None, ("x",)), Entry("q", None, ("y",))], vectors={"text": rows})
    assert ids(base.search(vector=np.eye(DIM)[51:53], k=1)) == ["p"]
    (hit,) = base.search(vector=np.eye(DIM)[55], k=1)  # one vector: with the mean of the tokens
    assert (hit.entry.id, hit.score) == ("q", pytest.approx(1, abs=1e-3))
    with pytest.raises(InvalidInput, match=r"give at least one: \(tokens, 64\)"):
        base.add([Entry("r", None, ("z",))], vectors={"text": [np.zeros((0, DIM))]})
    report = base.add([Entry("r", None, ("z",))], vectors={"text": [[np.ones(DIM), np.zeros(DIM)]]})
    assert "has no direction" in report.quarantined[0].reason


def test_several_vectors_for_an_encoder_of_one(tmp_path: Path) -> None:
    """They were refused for their shape alone, and only by accident."""
    with KnowledgeBase.build(tmp_path / "kb", [], encoder=FakeEncoder()) as kb:
        with pytest.raises(InvalidInput, match=r'several vectors.*"fake", gives one'):
            kb.add([Entry("a", None, ("x",))], vectors={"text": np.ones((1, 3, DIM))})
        with pytest.raises(Mismatch, match=r"produces \(64,\)"):
            kb.search(vector=np.ones((3, DIM)))


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("UPDATE token_vectors SET vectors = zeroblob(LENGTH(vectors)) WHERE part = 3", "checksum"),
        ("DELETE FROM token_vectors WHERE part = 3", "1 parts without token vectors"),
        ("UPDATE token_vectors SET vectors = x'0000' WHERE part = 3", "of the wrong length"),
        ("UPDATE token_vectors SET part = 900 WHERE part = 3", "token vectors without a part"),
    ],
)
def test_verify_finds_damaged_tokens(base: KnowledgeBase, damage: str, finding: str) -> None:
    base.close()
    with sqlite3.connect(Path(base.path) / "store.sqlite") as db:
        db.execute(damage)
    db.close()
    with KnowledgeBase.open(base.path, FakeMultiVectorEncoder()) as damaged:
        report = damaged.verify()
    assert not report.sound
    assert finding in str(report)


@pytest.mark.parametrize("name", ["image-tokens.npy", "image-token-starts.npy"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_token_indexes_are_not_used(
    base: KnowledgeBase, encoder: Encoder, name: str, damage: str
) -> None:
    base.optimize()
    base.close()
    (path,) = Path(base.path).glob(f"derived/vectors-*/{name}")
    data = bytearray(path.read_bytes())
    data[-5] ^= 255
    path.write_bytes(data[:-9] if damage == "cut" else data)
    if damage == "gone":
        path.unlink()
    with KnowledgeBase.open(base.path, FakeMultiVectorEncoder()) as reopened:
        check_scores(reopened, FLAGS, "red blue")
        assert not reopened.verify().sound
        reopened.optimize()
        assert reopened.verify().sound


def test_bases_move_between_encoders(base: KnowledgeBase, encoder: Encoder) -> None:
    base.optimize()
    base.reencode(FakeEncoder(seed=1))
    assert base.verify().sound
    assert ids(base.search(image=FLAGS[7].image, k=1)) == [FLAGS[7].id]
    assert "token vectors" not in base.verify().checked
    base.reencode(encoder)
    assert base.verify().sound
    check_scores(base, FLAGS, "red blue")
    pooled = FakeMultiVectorEncoder().with_token_pooling(2)
    base.reencode(pooled)
    # half of 4 and of 7 tokens; the tokens of five images are all the same
    assert base.verify().checked["token vectors"] == 2 * 25 - 5 + 3 * 25
    with KnowledgeBase.open(base.path, FakeMultiVectorEncoder()) as reopened:
        assert reopened.encoder.token_pooling == 2  # as when the base was built
        assert ids(reopened.search(image=FLAGS[7].image, k=1, modality="image")) == [FLAGS[7].id]


def test_exports_hold_tokens(base: KnowledgeBase, encoder: Encoder, tmp_path: Path) -> None:
    """They were left out: an imported base would have had no vectors to compare."""
    base.export_to(tmp_path / "export")
    with KnowledgeBase.build(tmp_path / "copy", [], encoder=encoder) as copy:
        assert copy.import_from(tmp_path / "export").added == 25
        check_scores(copy, FLAGS, "red blue")
        assert copy.verify().sound
        path = tmp_path / "export" / "tokens.npy"
        data = bytearray(path.read_bytes())
        data[-1] ^= 64
        path.write_bytes(data)
        with pytest.raises(BrokenData, match=r"tokens\.npy"):
            copy.import_from(tmp_path / "export")


def test_tune_measures_codes(base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravlm.knowledge.index.snapshot_builder.MIN_ROWS", 5)
    report = base.tune(recall=0.5, memory=25 * 60.0)
    assert [trial.kind for trial in report.trials] == ["tokens-8bit", "tokens-binary"]
    assert report.trials[0].row_bytes == pytest.approx(4 * DIM + 8 * 26 / 25)
    assert report.selected.kind == "tokens-binary"  # 8 bit need 264 bytes
    assert report.selected.row_bytes == pytest.approx(4 * DIM / 8 + 8 * 26 / 25)
    base.optimize()
    assert base.verify().sound
