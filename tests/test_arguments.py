"""Forms of arguments that people try first: accepted, or answered with the right call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ravlm.data.images import image_bytes, load_image
from ravlm.errors import InvalidInput, NotFound
from ravlm.evaluation.baselines import CopyGenerator
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Entry, Pair
from tests.helpers.fakes import FakeEncoder


def test_an_entry_takes_one_text() -> None:
    """Entry(text=...) was a TypeError, and texts="a cat" became its letters."""
    assert Entry("a", text="a cat").texts == ("a cat",)
    assert Entry("a", None, ["b", "c"], text="a").texts == ("a", "b", "c")
    assert Entry("a", texts="a cat").texts == ("a cat",)
    assert Entry(text="a cat").id == ""
    assert Entry("a", texts=["x"]) == Entry("a", texts=("x",), metadata={})
    assert replace(Entry("a", text="a cat"), id="b") == Entry("b", None, ("a cat",))
    assert Pair("a.jpg", "a cat").text == "a cat"  # type: ignore[arg-type]


def test_a_base_takes_one_entry(tmp_path: Path) -> None:
    """kb.add(Entry(...)) was "Entry object is not iterable"."""
    with KnowledgeBase.build(tmp_path / "kb", Entry("a", text="red"), encoder=FakeEncoder()) as kb:
        assert kb.add(Entry("b", text="green")).added == 1
        assert kb.add(Entry("c", text="x"), vectors={"text": np.ones((1, 64))}).added == 1
        assert kb.add(Entry(text="without an id")).added == 1
        assert len(kb) == 4
        with pytest.raises(InvalidInput, match=r'add what read_entries\("photos.jsonl"\) returns'):
            kb.add("photos.jsonl")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match=r"add Entry\(id, image, texts, metadata\)"):
            kb.add({"id": "d", "text": "blue"})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="read_entries"):
        KnowledgeBase.build(tmp_path / "new", tmp_path / "x.csv")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_a_path_opens_a_base(tmp_path: Path) -> None:
    """KnowledgeBase("mykb") asked for the argument `encoder`, and the model failed at its first
    question."""
    folder = tmp_path / "kb"
    KnowledgeBase.build(folder, [Entry("a", text="a red boat")], encoder=FakeEncoder()).close()
    with KnowledgeBase(folder, FakeEncoder()) as kb:
        assert kb.search(text="boat", k=1)[0].entry.id == "a"
    with KnowledgeBase(str(folder)) as kb:
        assert len(kb) == 1
    model = RetrievalAugmentedVLM(folder, CopyGenerator())
    assert len(model.kb) == 1
    model.kb.close()
    with pytest.raises(NotFound, match="nowhere"):
        KnowledgeBase(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="nowhere"):
        RetrievalAugmentedVLM(str(tmp_path / "nowhere"))


RED, BLUE = (200, 30, 40), (10, 20, 220)
PIXELS = np.array([[RED, BLUE], [BLUE, BLUE], [BLUE, RED]], np.uint8)  # (3, 2, 3)
WIDE = np.repeat(np.repeat(PIXELS, 4, 0), 5, 1)  # (12, 10, 3)
ARRAYS = {
    "bytes": WIDE,
    "0 to 1": WIDE / 255,
    "0 to 255": WIDE.astype(np.float32),
    "int64": WIDE.astype(np.int64),
    "16 bits": WIDE.astype(np.uint16) * 257,
    "not contiguous": np.asfortranarray(WIDE),
    "channels first": np.moveaxis(WIDE, -1, 0),
    "tensor": torch.from_numpy(WIDE.copy()).permute(2, 0, 1) / 255,
    "tensor with gradient": torch.tensor(WIDE / 255, requires_grad=True),
    "opaque": np.dstack([WIDE, np.full((12, 10), 255, np.uint8)]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_images(name: str) -> None:
    """ "An image must be a path ..., not ndarray" was the answer to what cv2 and torch return."""
    image = load_image(ARRAYS[name])
    assert image.size == (10, 12)
    assert np.abs(np.asarray(image).astype(int) - WIDE).max() <= 1
    assert load_image(image_bytes(ARRAYS[name])).tobytes() == image.tobytes()


def test_gray_and_boolean_arrays() -> None:
    gray = np.arange(20, dtype=np.uint8).reshape(4, 5)
    assert np.array_equal(np.asarray(load_image(gray))[..., 1], gray)
    assert np.array_equal(np.asarray(load_image(gray[..., None])), np.asarray(load_image(gray)))
    assert np.asarray(load_image(gray > 9)).max() == 255
    assert load_image(torch.zeros(1, 6, 7)).size == (7, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 8, 8, 3)), "shape (2, 8, 8, 3); allowed.* Pass the images of a batch"),
        (np.zeros((8, 8, 7)), "shape (8, 8, 7)"),
        (np.zeros(8), "shape (8,)"),
        (np.zeros((0, 4)), "shape (0, 4)"),
        (np.full((4, 4), -1.5), "values from -1.5 to -1.5; allowed: 0 to 1 or 0 to 255"),
        (np.full((4, 4), 300), "values from 300 to 300"),
        (np.full((4, 4), np.nan), "values from nan"),
        (np.full((4, 4), "x"), "array of <U1; give numbers"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        load_image(array)
    for part in message.split(".*"):
        assert part in str(error.value)


def test_arrays_in_a_base(tmp_path: Path) -> None:
    entries = [
        Entry("red", np.full((8, 8, 3), RED, np.uint8)),
        Entry("blue", Image.new("RGB", (8, 8), BLUE)),
    ]
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=FakeEncoder()) as kb:
        assert not kb.quarantine
        query = torch.tensor(RED).reshape(3, 1, 1).expand(3, 9, 11) / 255
        assert kb.search(image=query, k=1)[0].entry.id == "red"  # type: ignore[arg-type]
        (stored,) = kb.get("red")
        assert load_image(stored.image).getpixel((3, 3)) == RED  # type: ignore[arg-type]
