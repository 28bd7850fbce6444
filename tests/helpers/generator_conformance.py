"""What every generator must do, over the base of birds."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ravlm.model import RetrievalAugmentedVLM
from tests.helpers.birds import BIRDS, bird
from tests.helpers.streams import read_stream

ABSENT = "not in the knowledge base"
IMAGES: list[Any] = [bird(BIRDS["Ruby Finch"][0], 90), bird(BIRDS["Leaf Parrot"][0], 91)]


def strange_image() -> Image.Image:
    """Return an image unlike all birds: patches of many colors."""
    patches = np.random.default_rng(5).integers(0, 255, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(patches).resize((64, 48), Image.Resampling.NEAREST)


def check_generator(model: RetrievalAugmentedVLM) -> None:
    """Check answers in order, citations of the evidence, streams, and abstention."""
    _check_batches(model)
    _check_abstention(model)
    _check_stream(model)


def _check_batches(model: RetrievalAugmentedVLM) -> None:
    for answers in (
        model.ask("What is the name?", image=IMAGES),
        model.caption(IMAGES),
        model.tell(IMAGES),
    ):
        assert len(answers) == 2
        assert answers[0].text != answers[1].text
        for answer in answers:
            ids = {hit.entry.id for hit in answer.evidence}
            assert answer.citations
            assert set(answer.citations) <= ids
            assert len(answer.citations) <= 3
            assert 0 <= answer.confidence <= 1


def _check_abstention(model: RetrievalAugmentedVLM) -> None:
    answer = model.ask("What is the name?", image=strange_image())
    assert answer.abstained
    assert ABSENT in answer.text
    assert answer.citations == ()


def _check_stream(model: RetrievalAugmentedVLM) -> None:
    pieces, streamed = read_stream(model.stream_ask("What is the name?", image=IMAGES[0]))
    answer = model.ask("What is the name?", image=IMAGES[0])
    assert "".join(pieces) == streamed.text == answer.text
    assert streamed.citations == answer.citations
    assert answer.text == "Ruby Finch"
    assert answer.citations[0].startswith("bird-0")
