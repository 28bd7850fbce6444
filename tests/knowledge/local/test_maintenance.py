"""`compact` clears the disk; `reencode` replaces all vectors or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import InvalidInput, Mismatch, NotFound
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance import ids

KEYWORD = SearchOptions(method="keyword")


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
