"""The backend of a folder: the conformance test, and creating, closing, moving and opening one."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Encoder
from ravlm.errors import BrokenData, InvalidInput, Mismatch, NotFound, RavlmError
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.local.schema import FORMAT
from ravlm.records import Entry, ImageSource
from ravlm.regions import Region
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance import Conformance, color_entries, ids


class CountingEncoder(FakeEncoder):
    """Counts what it encodes, including the seven canaries."""

    images = texts = 0

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: str = "document"
    ) -> np.ndarray:
        self.images += len(images)
        return super().encode_images(images)

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: str = "document"
    ) -> np.ndarray:
        self.texts += len(texts)
        return super().encode_texts(texts)


class TestLocal(Conformance):
    @pytest.fixture
    def locations(self, tmp_path: Path) -> Callable[[], Path | str]:
        numbers = itertools.count()
        return lambda: tmp_path / f"kb{next(numbers)}"


@pytest.fixture
def closed(tmp_path: Path, pictures: Path, fake_encoder: FakeEncoder) -> Path:
    """The folder of a closed base of six entries."""
    with KnowledgeBase.build(
        tmp_path / "kb", color_entries(pictures), encoder=fake_encoder
    ) as base:
        assert base.report.added == 6
    return tmp_path / "kb"


def test_a_closed_base_is_one_file_and_its_images(closed: Path) -> None:
    assert sorted(path.name for path in closed.iterdir()) == ["pictures", "store.sqlite"]


def test_a_moved_base_finds_its_images(closed: Path, pictures: Path) -> None:
    """Images from bytes are in the base and move with it; others are stored as absolute paths."""
    shutil.move(closed, closed.parent / "elsewhere" / "kb")
    with KnowledgeBase.open(closed.parent / "elsewhere" / "kb", FakeEncoder()) as base:
        disc, red = base.get(["disc", "red"])
        assert Path(str(disc.image)).read_bytes() == (pictures / "disc.jpg").read_bytes()
        assert Path(str(disc.image)).is_relative_to(closed.parent / "elsewhere")
        assert red.image == str(pictures / "red.png")
        assert ids(base.search(image=disc.image, k=1)) == ["disc"]
        assert base.verify().sound


def test_a_read_only_base_can_be_searched(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a write-ahead log SQLite creates files even to read, and fails if it may not."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    before = sorted(closed.rglob("*"))
    with KnowledgeBase.open(closed, FakeEncoder()) as base:
        assert ids(base.search(text="red", modality="image", k=1)) == ["red"]
        assert sorted(closed.rglob("*")) == before
        for change in (
            lambda: base.add([Entry("x", None, ("x",))]),
            lambda: base.remove(["red"]),
            base.optimize,
        ):
            with pytest.raises(InvalidInput, match="read-only"):
                change()


def test_the_encoder_is_loaded_only_to_encode(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(name: object) -> Encoder:
        raise AssertionError("loaded")

    monkeypatch.setattr(DualEncoder, "load", never)
    with KnowledgeBase.open(closed) as base:
        assert base.count() == 6
        assert ids(base.search(vector=np.ones(64), k=2))
        assert ids(base.search(text="flag", options=SearchOptions(method="keyword"))) == ["flag"]
        base.add([Entry("v", None, ("v",))], vectors={"text": np.ones((1, 64))})
        base.remove(["v"])
        base.optimize()
        assert base.info().encoder == "fake"
        with pytest.raises(AssertionError):
            base.search(text="red")


def test_the_stored_encoder_is_found_by_its_name(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DualEncoder, "load", lambda name: {"fake": FakeEncoder()}[name])
    with KnowledgeBase.open(closed) as base:
        assert ids(base.search(text="red", modality="image", k=1)) == ["red"]


# the encoder and the base must belong together


def test_another_encoder_is_refused_with_the_next_step(closed: Path) -> None:
    other_encoder = FakeEncoder("other", seed=1)
    with pytest.raises(Mismatch) as error:
        KnowledgeBase.open(closed, other_encoder)
    for part in (
        '"fake"',
        '"other"',
        other_encoder.fingerprint[:12],
        f"ravlm reencode {closed} --encoder other",
    ):
        assert part in str(error.value)
    with pytest.raises(Mismatch):
        KnowledgeBase.build(closed, [], encoder=other_encoder)
    with KnowledgeBase.open(closed) as base:
        assert base.count() == 6


def test_an_encoder_that_changed_behind_its_name_is_refused(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DualEncoder, "load", lambda name: FakeEncoder(seed=2))
    with KnowledgeBase.open(closed) as base, pytest.raises(Mismatch, match="reencode"):
        base.search(text="red")


def test_an_encoder_that_drifted_under_its_fingerprint_is_refused(closed: Path) -> None:
    """The weights are the same but the arithmetic differs: only the canaries can tell."""

    class Drifted(FakeEncoder):
        def encode_images(
            self, images: Sequence[ImageSource], batch_size: int = 32, role: str = "document"
        ) -> np.ndarray:
            return super().encode_texts(["drift"] * len(images))

    with KnowledgeBase.open(closed, Drifted()) as base:
        with pytest.raises(Mismatch, match="canary"):
            base.search(image=Image.new("RGB", (8, 8)))
        with pytest.raises(Mismatch, match="canary"):
            base.add([Entry("x", None, ("x",))])
        assert not base.verify().sound


# building and resuming


def test_build_resumes_an_existing_base(closed: Path, pictures: Path) -> None:
    encoder = CountingEncoder()
    entries = [*color_entries(pictures), Entry("new", pictures / "red.png", ("new",))]
    with KnowledgeBase.build(closed, entries, encoder=encoder) as base:
        assert (base.report.added, base.report.unchanged) == (1, 6)
        assert (encoder.images - 3, encoder.texts - 4) == (1, 1)
        assert base.count() == 7


def test_build_keeps_what_is_stored_under_an_id(closed: Path) -> None:
    with KnowledgeBase.build(
        closed, [Entry("red", None, ("something else",))], encoder=FakeEncoder()
    ) as base:
        assert base.report.unchanged == 1
        assert base.get(["red"])[0].text == "a red wall"


def test_equal_entries_are_not_encoded_again(closed: Path, pictures: Path) -> None:
    encoder = CountingEncoder()
    with KnowledgeBase.open(closed, encoder) as base:
        assert base.add(color_entries(pictures)).unchanged == 6
        assert (encoder.images, encoder.texts) == (0, 0)
        shutil.copy(pictures / "green.png", pictures / "red.png")  # the same path, another image
        assert base.add(color_entries(pictures)).updated == 1
        assert encoder.images - 3 == 1


def test_an_interrupted_build_ends_as_a_single_run(tmp_path: Path, pictures: Path) -> None:
    entries = [Entry(f"e{i}", None, (f"text {i}",)) for i in range(800)]

    def interrupted() -> Iterator[Entry]:
        yield from entries[:700]
        raise KeyboardInterrupt

    encoder = CountingEncoder()
    with pytest.raises(KeyboardInterrupt):
        KnowledgeBase.build(tmp_path / "kb", interrupted(), encoder=encoder)
    with KnowledgeBase.open(tmp_path / "kb", encoder) as base:
        stored = base.count()
        assert 0 < stored < 700
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=encoder) as base:
        assert (base.report.unchanged, base.report.added) == (stored, 800 - stored)
        assert [entry.id for entry in base.get([e.id for e in entries])] == [e.id for e in entries]
        assert base.verify().sound


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[Entry]:
        raise NotFound("the source is gone")
        yield

    for folder in (tmp_path / "new", tmp_path / "empty"):
        with pytest.raises(NotFound, match="the source is gone"):
            KnowledgeBase.build(folder, broken(), encoder=FakeEncoder())
    (tmp_path / "there").mkdir()
    with pytest.raises(NotFound):
        KnowledgeBase.build(tmp_path / "there", broken(), encoder=FakeEncoder())
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert not any((tmp_path / "there").iterdir())


def test_paths_without_a_base_are_refused(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "file").write_text("hello")
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "store.sqlite").write_bytes(b"no database at all" * 1000)
    (tmp_path / "void").mkdir()
    (tmp_path / "void" / "store.sqlite").touch()
    for path, kind, message in [
        (tmp_path / "nothing", NotFound, "ravlm build"),
        (tmp_path / "file", NotFound, "no knowledge base"),
        (pictures, NotFound, "no knowledge base"),
        (tmp_path / "garbage", BrokenData, "damaged or not a knowledge base"),
        (tmp_path / "void", NotFound, "not a knowledge base"),
        ("", NotFound, "empty"),
        ("postgres://host/name", InvalidInput, 'unknown scheme "postgres"'),
    ]:
        with pytest.raises(kind, match=message):
            KnowledgeBase.open(path)
    for path in (pictures, tmp_path / "file"):
        with pytest.raises(InvalidInput, match="a new or an empty folder"):
            KnowledgeBase.build(path, [], encoder=FakeEncoder())
    assert len(list(pictures.iterdir())) == 4


def test_a_build_killed_before_its_first_commit_can_be_repeated(tmp_path: Path) -> None:
    """It leaves a file without tables: not a base, and no obstacle to building one."""
    (tmp_path / "kb").mkdir()
    (tmp_path / "kb" / "store.sqlite").touch()
    with KnowledgeBase.build(
        tmp_path / "kb", [Entry("a", None, ("a",))], encoder=FakeEncoder()
    ) as base:
        assert base.count() == 1


def test_a_base_of_another_format_is_refused(closed: Path) -> None:
    import sqlite3

    db = sqlite3.connect(closed / "store.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Mismatch, match=r"format 99.*newer ravlm"):
        KnowledgeBase.open(closed)


def test_an_older_base_is_upgraded(closed: Path) -> None:
    """Format 3 had no regions and no token vectors; its snapshots and digests stay valid."""
    import sqlite3

    db = sqlite3.connect(closed / "store.sqlite")
    db.execute("ALTER TABLE entry DROP COLUMN regions")
    db.execute("DROP TABLE token_vectors")
    identity = "json_remove(value, '$.token_pooling')"
    db.execute(f"UPDATE base SET value = {identity} WHERE key = 'identity'")
    db.execute("PRAGMA user_version = 3")
    db.commit()
    db.close()
    with KnowledgeBase.open(closed, FakeEncoder()) as base:
        assert base.info().format == FORMAT
        assert ids(base.search(text="a red wall", k=1)) == ["red"]
        entries = base.get(["red", "flag"])
        assert [entry.regions for entry in entries] == [(), ()]
        assert base.add(entries).unchanged == 2
        base.add([Entry("page", regions=[Region("a red page", (0, 0, 1, 1), 1)])])
        assert base.search(text="a red page", k=1)[0].part.box == (0, 0, 1, 1)
        assert base.verify().sound


def test_a_closed_handle_says_so(closed: Path) -> None:
    base = KnowledgeBase.open(closed)
    base.close()
    base.close()
    with pytest.raises(RavlmError, match="was closed; open it again"):
        base.count()


def test_threads_share_a_handle(closed: Path) -> None:
    """Four threads search while a fifth one adds: each search sees a complete state."""
    base, faults = KnowledgeBase.open(closed, FakeEncoder()), []

    def look() -> None:
        for _ in range(30):
            hit_ids = ids(base.search(vector=np.ones(64), k=1000, modality="text"))
            if len(hit_ids) != len(set(hit_ids)) or (len(hit_ids) - 4) % 10:
                faults.append(hit_ids)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for batch in range(10):
        rows = np.random.default_rng(batch).standard_normal((10, 64))
        base.add([Entry(f"{batch}-{i}", None, ("x",)) for i in range(10)], vectors={"text": rows})
    for thread in threads:
        thread.join()
    assert not faults
    assert base.count() == 106
    base.close()


@pytest.mark.skipif(os.name == "nt", reason="paths differ")
def test_info(closed: Path) -> None:
    with KnowledgeBase.open(closed) as base:
        info = base.info()
        assert (info.entries, info.dim, info.format, info.change) == (6, 64, FORMAT, base.change)
        assert info.parts == {"image": 4, "text": 6}
        assert info.bytes >= (closed / "store.sqlite").stat().st_size
        assert base.path == closed
        assert base.derived_folder.parent == closed


def test_info_survives_files_that_vanish(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It listed the whole folder and then asked for each size: a question that needs the number of
    parts failed whenever another process replaced a snapshot meanwhile."""
    (closed / "derived" / "vectors-1").mkdir(parents=True)
    (closed / "derived" / "vectors-1" / "words.npy").write_bytes(bytes(1000))
    scandir = os.scandir

    def scan_late(path: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        with scandir(path) as items:
            listed = list(items)
        if (closed / "derived").exists():
            (closed / "derived").rename(closed.parent / "derived")
        return nullcontext(iter(listed))

    with KnowledgeBase.open(closed) as base:
        info = base.info()
        monkeypatch.setattr(os, "scandir", scan_late)
        sizes = [file.stat().st_size for file in closed.glob("store.*")]
        pictures = sum(file.stat().st_size for file in closed.glob("pictures/*/*"))
        assert info.bytes == sum(sizes) + pictures
        assert info.to_dict()["bytes"] == info.bytes
        assert info.parts == {"image": 4, "text": 6}
