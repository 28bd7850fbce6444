"""`model.edit`: retrieval for edits, lists, invalid arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ravlm import Edit, Entry, KnowledgeBase, RetrievalAugmentedVLM
from ravlm.editing.base import Editor, EditRequest
from ravlm.editing.rule_based.editor import RuleBasedEditor
from ravlm.errors import InvalidInput
from ravlm.records import Evidence
from tests.helpers.editors import ColorSegmenter, landscape
from tests.helpers.fakes import FakeEncoder


class Recorder(Editor):
    """Paints everything white and records its requests."""

    name = "recorder"

    def __init__(self) -> None:
        self.requests: list[EditRequest] = []

    def retrieval_query(self, instruction: str) -> str:
        return instruction.partition("like ")[2]

    def edit(self, request: EditRequest) -> Edit:
        self.requests.append(request)
        return Edit(
            Image.new("RGB", (2, 2), "white"),
            np.ones((2, 2), bool),
            request.evidence,
            request.instruction,
        )


@pytest.fixture
def base(pictures: Path, tmp_path: Path, fake_encoder: FakeEncoder) -> KnowledgeBase:
    entries = [
        Entry(name, str(pictures / f"{name}.png"), (f"a {name} picture",))
        for name in ("red", "green", "blue")
    ]
    return KnowledgeBase.build(
        tmp_path / "kb", [*entries, Entry("words", None, ("a red text",))], encoder=fake_encoder
    )


def test_the_base_is_searched_only_for_an_edit_by_example(base: KnowledgeBase) -> None:
    """By the words of the example, among images: a text entry has no colors to lend."""
    editor = Recorder()
    model = RetrievalAugmentedVLM(base, k=1, editor=editor)
    model.edit(landscape(), "make the sky red")
    model.edit(landscape(), "make the sky like red", seed=7)
    model.edit(landscape(), "make the sky like red", k=1)
    model.edit(landscape(), "make the sky like red", k=0)
    retrieved = [[hit.entry.id for hit in request.evidence] for request in editor.requests]
    assert [len(ids) for ids in retrieved] == [0, 2, 1, 0]
    assert retrieved[1][0] == retrieved[2][0] == "red"
    assert [request.seed for request in editor.requests] == [0, 7, 0, 0]


def test_evidence_passed_by_the_caller_replaces_retrieval(base: KnowledgeBase) -> None:
    editor = Recorder()
    hits = tuple(base.search(text="blue", k=1, modality="image"))
    edit = RetrievalAugmentedVLM(base, editor=editor).edit(
        landscape(), "like red", evidence=Evidence(hits)
    )
    assert [hit.entry.id for hit in edit.evidence] == ["blue"]


def test_lists_in_lists_out(base: KnowledgeBase) -> None:
    model = RetrievalAugmentedVLM(base, editor=RuleBasedEditor(ColorSegmenter()))
    instructions = ["make the sky red", "make the grass blue"]
    two = model.edit(landscape(), instructions)
    assert [edit.understood for edit in two] == [
        "Understood: the sky red.",
        "Understood: the grass blue.",
    ]
    assert not np.array_equal(two[0].image, two[1].image)
    assert [
        edit.understood for edit in model.edit([landscape(), landscape(seed=1)], instructions)
    ] == [edit.understood for edit in two]
    assert len(model.edit([landscape(), landscape(seed=1)], "make it darker")) == 2
    assert model.edit([], "make it darker") == []


def test_a_retrieved_example_steers(base: KnowledgeBase) -> None:
    """End to end: the retrieved image lends its colors and is returned as evidence."""
    model = RetrievalAugmentedVLM(base, editor=RuleBasedEditor(ColorSegmenter()))
    for color, channel in (("red", 0), ("green", 1)):
        edit = model.edit(landscape(), f"make the picture like {color}", k=1)
        assert [hit.entry.id for hit in edit.evidence] == [color]
        assert np.asarray(edit.image).reshape(-1, 3).mean(axis=0).argmax() == channel
    without = model.edit(landscape(), "make the picture like red", k=0)
    assert without.region is None
    assert without.image.tobytes() == landscape().tobytes()
    assert "0 images were retrieved" in without.understood


@pytest.mark.parametrize(
    ("image", "instruction", "options", "words"),
    [
        (None, "make it darker", {}, "no image to edit"),
        (landscape(), "  ", {}, "instruction is empty; write what to change"),
        (landscape(), 3, {}, "instruction is of type int"),
        (landscape(), ["make it darker", ""], {}, "instruction is empty"),
        ([landscape()] * 2, ["make it darker"] * 3, {}, "3 texts and 2 images"),
        (landscape(), "make it darker", {"k": -1}, "k is -1"),
    ],
)
def test_bad_arguments(
    base: KnowledgeBase, image: Any, instruction: Any, options: dict[str, Any], words: str
) -> None:
    model = RetrievalAugmentedVLM(base, editor=RuleBasedEditor(ColorSegmenter()))
    with pytest.raises(InvalidInput, match=words):
        model.edit(image, instruction, **options)
