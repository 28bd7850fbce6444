"""`compact` clears the disk; `reencode` replaces all vectors or none."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import Busy, InvalidInput, Mismatch, NotFound
from ravlm.files import temporary_folder
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.local import backend, readers, staging
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


def test_compact_reports_that_another_process_reads(
    base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It returned after a minute without a word, and the removed texts were still on disk."""
    for module in (readers, backend):
        monkeypatch.setattr(module, "WAIT_SECONDS", 0.1)
    base.add([Entry("s", None, ("Xylophonsekret",))])
    base.optimize()
    base.remove(["s"])
    reader = sqlite3.connect(base.path / "store.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM entry").fetchone()
    with KnowledgeBase.open(base.path, FakeEncoder()) as other:
        with pytest.raises(Busy, match=r"still on disk.*ravlm compact"):
            other.compact()
        assert not on_disk(base.derived_folder, b"Xylophonsekret")
        assert on_disk(base.path, b"Xylophonsekret")
        reader.execute("ROLLBACK")
        other.compact()
    assert not on_disk(base.path, b"Xylophonsekret")
    reader.close()


# killed while it holds a temporary folder in the folder of indexes
KILLED = """
import os, signal, sys
from pathlib import Path
from ravlm.files import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "scratch").write_text("Xylophonsekret")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_compact_clears_what_killed_processes_left(base: KnowledgeBase) -> None:
    """The files of a killed `optimize`, with vectors of removed entries, stayed for a day."""
    base.optimize()
    subprocess.run([sys.executable, "-c", KILLED, str(base.derived_folder)], check=False)
    assert on_disk(base.path, b"Xylophonsekret")
    with temporary_folder(base.derived_folder.with_name("other")) as live:
        live = live.rename(base.derived_folder / live.name)  # made before the other was removed
        (live / "scratch").write_text("in use")
        base.compact()
        assert not on_disk(base.path, b"Xylophonsekret")
        assert (live / "scratch").read_text() == "in use"
    base.compact()
    assert [p.name for p in base.derived_folder.glob(".aside-*")] == []


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

        def encode_texts(
            self, texts: Sequence[str], batch_size: int = 64, role: str = "document"
        ) -> np.ndarray:
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


class Interrupted(FakeEncoder):
    """Stops in the second batch."""

    batches = 0

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: str = "document"
    ) -> np.ndarray:
        self.batches += 1
        if self.batches == 3:  # the canaries come first
            raise KeyboardInterrupt
        return super().encode_texts(texts)


@pytest.fixture
def interrupted(tmp_path: Path) -> Iterator[KnowledgeBase]:
    """A base of 150 texts whose re-encoding was interrupted after 128."""
    entries = [Entry(f"{i}", None, (f"Xylophonsekret {i}", "x " * 90)) for i in range(150)]
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=FakeEncoder()) as kb:
        with pytest.raises(KeyboardInterrupt):
            kb.reencode(Interrupted("other", seed=3))
        yield kb


def test_compact_clears_an_interrupted_reencoding(interrupted: KnowledgeBase) -> None:
    """The words and vectors it had staged stayed forever, those of removed entries, too."""
    base = interrupted
    base.remove([f"{i}" for i in range(150)])
    base.compact()
    assert not on_disk(base.path, b"ylophonsekret")
    with base._backend.store.reading() as db:
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'staged'").fetchone()
    base.add([Entry("new", None, ("new",))])
    base.reencode(FakeEncoder("other", seed=3))
    assert base.verify().sound


def test_compact_during_a_reencoding_clears_removed_entries_only(
    interrupted: KnowledgeBase,
) -> None:
    base, calls = interrupted, []

    def compact(num_done: int, total: int) -> None:
        calls.append((num_done, total))
        if len(calls) == 1:
            with KnowledgeBase.open(base.path) as other:
                other.remove([f"{i}" for i in range(100)])
                other.compact()
            assert not on_disk(base.path, b"ylophonsekret 42")

    base.reencode(FakeEncoder("other", seed=3), progress=compact)
    assert calls == [(128, 150), (50, 50)]
    assert base.count() == 50
    assert base.verify().sound


def test_a_second_reencoding_is_refused(interrupted: KnowledgeBase) -> None:
    """Two at once mixed the vectors of two encoders, or stored each part twice."""
    first, refused = interrupted, []

    def start_another(num_done: int, total: int) -> None:
        for encoder in (FakeEncoder("other", seed=3), FakeEncoder("third", seed=5)):
            with KnowledgeBase.open(first.path) as second:
                with pytest.raises(Busy, match="being re-encoded by another process"):
                    second.reencode(encoder)
                refused.append(encoder.name)

    first.reencode(FakeEncoder("other", seed=3), progress=start_another)
    assert refused == ["other", "third"] * 2
    assert first.info().parts == {"image": 0, "text": 150 * 4}
    assert first.verify().sound
    with KnowledgeBase.open(first.path) as second:  # the lock is free again
        second.reencode(FakeEncoder("third", seed=5))
        assert second.verify().sound


@pytest.mark.parametrize("seed", [3, 5])
def test_without_locks_a_displaced_reencoding_stops(
    interrupted: KnowledgeBase, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A network drive may have no locks, or not those of other machines."""

    @contextmanager
    def no_lock(path: Path) -> Iterator[None]:
        yield None

    monkeypatch.setattr(staging, "try_lock", no_lock)
    first, second = interrupted, KnowledgeBase.open(interrupted.path)

    def displace(num_done: int, total: int) -> None:
        second.reencode(FakeEncoder("second", seed=seed))

    with pytest.raises(Busy, match="was stopped"):
        first.reencode(FakeEncoder("other", seed=3), progress=displace)
    assert second.info().parts == {"image": 0, "text": 150 * 4}
    assert second.verify().sound
    second.close()


def test_a_text_without_words_ends_a_reencoding(base: KnowledgeBase) -> None:
    """It has no part to encode, so it was looked at again forever."""
    base.add([Entry("blank", None, (" ",))], vectors={"text": np.ones((1, 64))})
    with pytest.raises(InvalidInput, match='"blank" was precomputed'):
        base.reencode(FakeEncoder("other", seed=3))
    assert base.info().encoder == "fake"


def test_reencode_names_an_unreadable_image(base: KnowledgeBase, pictures: Path) -> None:
    (pictures / "red.png").unlink()
    with pytest.raises(NotFound, match='The entry "red" cannot be re-encoded'):
        base.reencode(FakeEncoder("other", seed=3))
    assert ids(base.search(text="red", modality="image", k=1)) == ["red"]
