"""The leakage guard: one set of rules for search, training and evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry, Example, Hit, Pair, Part
from ravlm.retrieval.leakage import guarded_search, leaks, without_leaks
from tests.helpers.fakes import FakeEncoder


def noise(seed: int) -> Image.Image:
    """Return an image of random patches."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(patches).resize((48, 48))


@pytest.mark.parametrize(
    ("record", "entry", "expected"),
    [
        (Example("a"), Entry("a"), True),
        (Example("a"), Entry("b"), False),
        (Pair("x.jpg", ("text",)), Entry("", "y.jpg"), False),
        (Pair("x.jpg", ("text",), "a"), Entry("b", "x.jpg"), True),
        (Pair(Path("x.jpg"), ("text",), "a"), Entry("b", "x.jpg"), True),
        (Example("a", metadata={"group": 7}), Entry("b", metadata={"group": "7"}), True),
        (Example("a", metadata={"group": ["x"]}), Entry("b", metadata={"group": ["x"]}), True),
        (Example("a", metadata={"group": 7}), Entry("b", metadata={"group": 8}), False),
        (Example("a", metadata={"group": None}), Entry("b", metadata={"group": None}), False),
        (Example("a", b"bytes"), Entry("b", b"bytes"), True),
        (Example("a", b"bytes"), Entry("b", b"other"), False),
        (Example("a", noise(1)), Entry("b", noise(1)), True),
        (Example("a", noise(1)), Entry("b", noise(2)), False),
        (Example("a", "http://host/a.jpg"), Entry("b", "http://host/b.jpg"), False),
    ],
)
def test_shared_id_image_or_group_leaks(record: Example, entry: Entry, expected: bool) -> None:
    assert leaks(record, entry) is expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (Entry("t", text="Two dogs run on wet sand!"), True),
        (Entry("t", text="On Sunday two dogs run on wet sand, and bark."), True),
        (Entry("t", text="Two dogs run on sand"), False),
        (Entry("t", noise(2), ("Two dogs run on wet sand",)), False),  # another photo
        (Entry("t", text="A dog"), True),
        (Entry("t", text="A dog sleeps"), False),  # short captions occur in texts by chance
    ],
)
def test_a_text_that_repeats_the_caption_leaks(entry: Entry, expected: bool) -> None:
    """A text without an image had the caption that was to be written: 25 of 100 in a toy."""
    captions = ("Two dogs run on wet sand", "a dog")
    assert leaks(Pair(noise(1), captions), entry) is expected
    assert leaks(Example("c", noise(1), references=captions), entry) is expected
    assert leaks(Example("c", noise(1), "What is it?", captions), entry) is False


def test_a_copied_file_leaks(tmp_path: Path) -> None:
    """The same photo under two paths was its own evidence: only the paths were compared."""
    first, copy, different = (tmp_path / name for name in ("first.png", "copy.png", "other.png"))
    noise(1).save(first)
    copy.write_bytes(first.read_bytes())
    noise(2).save(different)
    assert leaks(Example("a", str(first)), Entry("b", str(copy)))
    assert leaks(Example("a", first.read_bytes()), Entry("b", str(copy)))
    assert not leaks(Example("a", str(first)), Entry("b", str(different)))
    assert not leaks(Example("a", str(first)), Entry("b", str(tmp_path / "gone.png")))


def test_hits_without_leaks_keep_their_order() -> None:
    hits = [Hit(Entry(name), 1.0, Part("text")) for name in ("c", "a", "b")]
    assert without_leaks(Example("a"), hits) == [hits[0], hits[2]]


def test_search_by_text_compares_images_too(tmp_path: Path) -> None:
    """A copy of the image under another id was found by its text, and was its own evidence."""
    entries = [Entry(f"e{i}", noise(i), (f"text {i}",), {"group": i // 2}) for i in range(6)]
    entries.append(Entry("copy", noise(0), ("the same image",)))
    pairs = [Pair(noise(i), (f"text {i}",), f"e{i}", {"group": i // 2}) for i in (0, 3)]
    encoder = FakeEncoder()
    vectors = encoder.encode_images([pair.image for pair in pairs])
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=encoder) as kb:
        by_image = guarded_search(kb, pairs, vectors, 8)
        by_text = guarded_search(kb, pairs, vectors, 8, "text")
    expected = [{"e2", "e3", "e4", "e5"}, {"e0", "e1", "e4", "e5", "copy"}]
    assert [{hit.entry.id for hit in hits} for hits in by_image] == expected
    assert [{hit.entry.id for hit in hits} for hits in by_text] == expected
