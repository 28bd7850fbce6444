"""Ingestion: what is accepted, and what is rejected with reason and location."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ravlm.cli import main, output
from ravlm.data.readers import read_entries
from ravlm.encoders.auto import DualEncoder
from ravlm.errors import InvalidInput
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.reports import AddReport
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance import ids


@pytest.fixture
def base(tmp_path: Path) -> Any:
    with KnowledgeBase.build(tmp_path / "kb", [], encoder=FakeEncoder()) as kb:
        yield kb


def assert_rejected(
    base: KnowledgeBase, entry: Entry, reason: str, location: str = "entry 2"
) -> None:
    """Check that `entry` goes to quarantine between two good ones, and is not stored."""
    report = base.add([Entry("first", None, ("first",)), entry, Entry("last", None, ("last",))])
    assert report.added + report.unchanged == 2
    assert len(report.quarantined) == 1
    assert reason in report.quarantined[0].reason
    assert location in report.quarantined[0].location
    assert base.count() == 2


def test_unreadable_images_are_rejected(
    base: KnowledgeBase, tmp_path: Path, pictures: Path
) -> None:
    text, empty, cut = tmp_path / "text.jpg", tmp_path / "empty.png", tmp_path / "cut.png"
    text.write_text("I am no picture")
    empty.touch()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    cut.write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    assert_rejected(base, Entry("a", text, ("its text goes along",)), "is not an image", '"a"')
    assert_rejected(base, Entry("b", empty), "0 bytes")
    assert_rejected(base, Entry("c", cut), "can't be decoded")
    assert_rejected(
        base, Entry("d", tmp_path / "gone.png", ("its text goes along",)), "There is no image"
    )
    assert_rejected(base, Entry("e", tmp_path), "is a folder or device")
    assert_rejected(base, Entry("f", b"bytes of nothing"), "is not an image")
    assert_rejected(base, Entry("g", 3), "An image must be a path")  # type: ignore[arg-type]
    assert base.search(text="its text goes along", options=SearchOptions(method="keyword")) == []
    assert not (base.path / "pictures").exists()


def test_a_decompression_bomb_is_rejected(base: KnowledgeBase, tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    assert_rejected(base, Entry("bomb", tmp_path / "bomb.png"), "pixels")


def test_the_encoder_shrinks_pictures_as_they_are_decoded(tmp_path: Path) -> None:
    """A batch of 12-megapixel PNGs took nine gigabytes: only JPEG was decoded at a small size."""

    class Shrinking(FakeEncoder):
        sizes: list[tuple[int, int]]

        def prepare(self, image: Image.Image) -> Image.Image:
            return image.resize((4, 4))

        def encode_images(
            self, images: Any, batch_size: int = 32, role: str = "document"
        ) -> np.ndarray:
            self.sizes = [image.size for image in images]
            return super().encode_images(images)

    encoder = Shrinking()
    left_red = Image.new("RGB", (400, 300), "blue")
    left_red.paste("red", (0, 0, 200, 300))
    left_red.save(tmp_path / "large.png")
    entries = [
        Entry("large", tmp_path / "large.png"),
        Entry("other", Image.new("RGB", (900, 900), "blue")),
    ]
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=encoder) as base:
        assert encoder.sizes == [(4, 4), (4, 4)]
        hit = base.search(image=left_red, k=1)[0]
        assert (hit.entry.id, hit.score) == ("large", pytest.approx(1.0, abs=2e-3))
        assert encoder.sizes == [(4, 4)]
        assert base.verify().sound


def test_empty_and_invalid_entries_are_rejected(base: KnowledgeBase) -> None:
    assert_rejected(base, Entry("x"), "neither an image nor a text")
    assert_rejected(base, Entry("x", None, ("", "  \n")), "neither an image nor a text")
    assert_rejected(base, Entry("x", None, ("ok", 3)), "not a string")  # type: ignore[arg-type]
    assert_rejected(base, Entry("x", None, ("half \ud800",)), "not valid Unicode")
    assert_rejected(
        base, Entry("first", None, ("again",)), "occurs twice in this source", '"first"'
    )


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {3: 4}, object(), np.float32(1), "\udfff", [{1, 2}]]
)
def test_metadata_must_be_json(base: KnowledgeBase, value: Any) -> None:
    assert_rejected(base, Entry("x", None, ("x",), {"key": value}), "")


def test_an_item_that_is_not_an_entry_raises(base: KnowledgeBase) -> None:
    with pytest.raises(InvalidInput, match="Item 2 to add is a str"):
        base.add([Entry("first", None, ("first",)), "first"])  # type: ignore[list-item]


def test_quarantine_lists_rejects_of_reader_and_base(
    base: KnowledgeBase, tmp_path: Path, pictures: Path
) -> None:
    """Rejects of the reader and of the base are in one list, each with its location."""
    (tmp_path / "text.jpg").write_text("I am no picture")
    source = tmp_path / "entries.jsonl"
    source.write_text(
        '{"id": "good", "image": "pictures/red.png", "text": "red"}\n'
        '{"id": "bad", "image": "text.jpg"}\n'
        '{"id": "gone", "image": "gone.jpg"}\n'
        "no json\n"
    )
    stream = read_entries(source)
    report = base.add(stream)
    assert report.added == 1
    assert len(report.quarantined) == len(stream.quarantine) == len(base.quarantine) == 3
    assert any('"bad"' in q.location and "is not an image" in q.reason for q in report.quarantined)
    assert str(report) == "1 added, 0 updated, 0 unchanged, 3 in quarantine"


def test_missing_ids_are_derived_from_the_content(base: KnowledgeBase, pictures: Path) -> None:
    nameless = [Entry("", pictures / "red.png"), Entry("", None, ("a",)), Entry("", None, ("b",))]
    base.add([*nameless, Entry(7, None, ("c",))])  # type: ignore[arg-type]
    hit_ids = ids(base.search(vector=np.ones(64)))
    assert len(set(hit_ids)) == 4
    assert "7" in hit_ids
    assert base.add([Entry("", None, ("a",))]).unchanged == 1


def test_a_string_for_texts_is_one_text(base: KnowledgeBase) -> None:
    base.add([Entry("s", None, "one text")])  # type: ignore[arg-type]
    assert base.get("s")[0].texts == ("one text",)


def test_long_texts_are_found_by_each_passage(base: KnowledgeBase) -> None:
    """The fake tower reads forty words: the end of a longer text must be found as well."""
    long = " ".join([f"word{i}" for i in range(40)] + ["a", "green", "meadow"])
    base.add([Entry("long", None, ("short", long)), Entry("other", None, ("blue",))])
    hit = base.search(text="a green meadow", k=1)[0]
    assert (hit.entry.id, hit.part.index, hit.part.text) == ("long", 1, "a green meadow")
    assert hit.score == pytest.approx(1.0, abs=2e-3)
    assert base.info().parts["text"] == 4
    assert len(base.search(text="word3", options=SearchOptions(method="keyword"))) == 1


def test_images_from_bytes_are_stored_once(base: KnowledgeBase, pictures: Path) -> None:
    data = (pictures / "disc.jpg").read_bytes()
    base.add([Entry("a", data), Entry("b", data), Entry("c", Image.new("RGB", (9, 9), "red"))])
    suffixes = sorted(p.suffix for p in (base.path / "pictures").glob("*/*"))
    assert suffixes == [".jpg", ".png"]
    assert base.get(["a"])[0].image == base.get(["b"])[0].image


def test_precomputed_image_vectors_need_no_image(base: KnowledgeBase, pictures: Path) -> None:
    rows = np.eye(64)[:3]
    report = base.add(
        [Entry("v1"), Entry("v2", pictures / "red.png"), Entry("v3", pictures / "gone.png")],
        vectors={"image": rows},
    )
    assert report.added == 2
    assert "There is no image" in report.quarantined[0].reason
    hit = base.search(vector=rows[0], k=1)[0]
    assert (hit.entry.id, hit.part.modality, hit.entry.image) == ("v1", "image", None)


def test_what_is_not_precomputed_is_encoded(base: KnowledgeBase, pictures: Path) -> None:
    base.add(
        [Entry("half", pictures / "red.png", ("a green text",))], vectors={"image": np.eye(64)[:1]}
    )
    assert base.search(text="a green text", k=1, modality="text")[0].score == pytest.approx(
        1.0, abs=2e-3
    )
    assert (
        base.add([Entry("half", pictures / "red.png", ("a green text",))]).updated == 1
    )  # encoded now, no longer precomputed


def test_metadata_keeps_its_json_types(base: KnowledgeBase) -> None:
    metadata = {
        "i": 3,
        "f": 3.0,
        "b": True,
        "n": None,
        "l": [1, "a"],
        "d": {"x": {"y": "é"}},
        "big": 2**70,
        "e": [],
    }
    base.add([Entry("m", None, ("m",), metadata)])
    stored = base.get("m")[0].metadata
    assert stored == metadata
    assert [type(value) for value in stored.values()] == [
        type(value) for value in metadata.values()
    ]


def test_progress_is_called_after_each_batch(base: KnowledgeBase) -> None:
    counts: list[int] = []
    base.add(
        [Entry(f"{i}", None, (f"{i}",)) for i in range(150)],
        progress=lambda report: counts.append(report.added),
    )
    assert counts == [64, 128, 150]
    assert set(base.report.seconds) == {"decode", "recognize", "encode", "store", "total"}


# duplicates


class Sharp(FakeEncoder):
    image_size = 96


def test_copies_and_lookalikes_are_skipped(tmp_path: Path) -> None:
    """Exact: the same bytes. Near: also a smaller, re-encoded copy, but neither another image nor
    another color."""
    rng = np.random.default_rng(0)
    photo, other_photo = (
        Image.fromarray(rng.integers(0, 255, (4, 6, 3), np.uint8)).resize((320, 240))
        for _ in range(2)
    )
    photo.save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    photo.resize((200, 150)).save(tmp_path / "c.jpg", quality=60)
    other_photo.save(tmp_path / "d.png")
    Image.new("RGB", (64, 64), (200, 0, 0)).save(tmp_path / "e.png")
    Image.new("RGB", (64, 64), (0, 0, 200)).save(tmp_path / "f.png")
    entries = [
        Entry(name[0], tmp_path / name)
        for name in ("a.png", "b.png", "c.jpg", "d.png", "e.png", "f.png")
    ]
    entries += [
        Entry("t1", None, ("a text",)),
        Entry("t2", None, ("a text",)),
        Entry("t3", None, ("another",)),
    ]
    for how, duplicates in (
        (None, ()),
        ("exact", (("b", "a"), ("t2", "t1"))),
        ("near", (("b", "a"), ("c", "a"), ("t2", "t1"))),
    ):
        with KnowledgeBase.build(tmp_path / f"kb {how}", entries, Sharp(), deduplicate=how) as base:  # type: ignore[arg-type]
            assert base.report.duplicates == duplicates
            assert base.report.added == base.count() == 9 - len(duplicates)
        with KnowledgeBase.build(
            tmp_path / f"kb {how}", entries, Sharp(), deduplicate=how
        ) as again:  # type: ignore[arg-type]
            assert again.report.duplicates == duplicates
            assert (again.report.added, again.report.unchanged) == (0, 9 - len(duplicates))
            new = [Entry("z", tmp_path / "c.jpg"), Entry("a", tmp_path / "d.png")]
            report = again.add(new, deduplicate=how)  # type: ignore[arg-type]
            assert report.updated == 1  # an update is stored even if another entry looks like it
            assert len(report.duplicates) == (how is not None)


def test_an_unknown_deduplicate_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match='Did you mean "near"'):
        KnowledgeBase.build(tmp_path / "kb", [], FakeEncoder(), deduplicate="nera")  # type: ignore[arg-type]


def test_duplicates_are_listed_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DualEncoder, "load", lambda name: FakeEncoder())
    (tmp_path / "e.jsonl").write_text(
        '{"id": "1", "text": "a"}\n{"id": "2", "text": "a"}\n{"id": "3", "text": "b"}\n'
    )
    assert (
        main(["build", str(tmp_path / "kb"), str(tmp_path / "e.jsonl"), "--deduplicate", "exact"])
        == 0
    )
    output_text = capsys.readouterr()
    assert '"2" has the same content as "1"' in output_text.err
    assert "1 skipped as duplicates" in output_text.out


def test_progress_shows_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(output.sys.stderr, "isatty", lambda: True, raising=False)
    with output.Progress("entries", lambda: 10_000) as progress:
        for seconds, added in ((0.5, 10), (10.0, 100), (100.0, 5000), (199.0, 9900)):
            now[0] = seconds
            progress(AddReport(added=added - 5, duplicates=(("a", "b"),) * 5))
    lines = capsys.readouterr().err
    assert "100 of 10,000 entries, 10 per second, 16 min left" in lines
    assert "5,000 of 10,000 entries, 50 per second, 2 min left" in lines
    assert "9,900 of 10,000 entries, 50 per second, 2 s left" in lines
    assert "10 of" not in lines.replace("10,000", "")
