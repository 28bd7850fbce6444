"""Messages with several images: all of them for generators that read several, else a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

from ravlm.generation.base import Generator, Request
from ravlm.generation.multi_image import merge_evidence
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Answer, Entry, Evidence, Hit, Part
from tests.helpers.birds import BIRDS, bird

RED, GREEN, BLUE = (BIRDS[name][0] for name in ("Ruby Finch", "Leaf Parrot", "Sea Heron"))


class Recorder(Generator):
    """Answers with the ids of its evidence, and keeps the requests."""

    name = "recorder"

    def __init__(self, reads_several_images: bool) -> None:
        self.reads_several_images = reads_several_images
        self.requests: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        self.requests += requests
        return [Answer(" ".join(h.entry.id for h in r.evidence.hits)) for r in requests]


def talk(text: str, *images: Image.Image) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*parts[:1], {"type": "text", "text": text}, *parts[1:]]}]


def test_all_images_and_evidence_for_each_in_order(birds: KnowledgeBase) -> None:
    """All but the last were dropped without a word."""
    generator = Recorder(reads_several_images=True)
    model = RetrievalAugmentedVLM(birds, generator)
    images = [bird(GREEN, 1), bird(RED, 2), bird(BLUE, 3)]
    answer = model.chat(talk("Which of them lives in Peru?", *images), k=3)
    assert generator.requests[0].images == tuple(images)
    assert [entry_id[:6] for entry_id in answer.text.split()] == ["bird-1", "bird-0", "bird-2"]
    turns = [*talk("And these?", *images[:2]), {"role": "assistant", "content": "Birds."}]
    model.chat([*turns, {"role": "user", "content": "Which one is red?"}], k=2)
    assert generator.requests[1].images == tuple(images[:2])
    model.chat([*turns, *talk("And this?", images[2])], k=2)
    assert generator.requests[2].images == (images[2],)


def test_a_generator_that_reads_one_image_says_so(birds: KnowledgeBase) -> None:
    """It answered about the last image, whichever was meant."""
    generator = Recorder(reads_several_images=False)
    model = RetrievalAugmentedVLM(birds, generator)
    two, one = talk("What is this?", bird(RED, 1), bird(BLUE, 2)), talk("What?", bird(RED, 1))
    declined, answered = model.chat([two, one])
    assert 'has 2 pictures, but the generator "recorder" reads one' in declined.text
    assert (declined.citations, declined.abstained) == ((), False)
    assert answered.text.startswith("bird-0")
    assert len(generator.requests) == 1
    assert "".join(model.stream_chat(two)) == declined.text
    chinese = model.chat(talk("这是什么？", bird(RED, 1), bird(BLUE, 2))).text
    assert "2 张图片" in chinese


def hit(entry_id: str) -> Hit:
    return Hit(Entry(entry_id, None, (entry_id,)), 0.5, Part("image"))


@pytest.mark.parametrize(
    ("sources", "ids", "weights"),
    [
        ([Evidence((hit("a"), hit("b")), (0.6, 0.2), 0.9, 0.5)], "ab", (0.6, 0.2)),
        (
            [
                Evidence((hit("a"), hit("b")), (0.6, 0.2), 0.9, 0.5),
                Evidence((hit("c"), hit("a")), (0.5, 0.4), 0.8, 0.5),
            ],
            "acb",
            (0.5, 0.25, 0.1),
        ),
        (
            [
                Evidence((hit("a"),), (0.6,), 0.1, 0.5),
                Evidence((hit("c"), hit("d")), (0.5, 0.4), 0.8, 0.5),
            ],
            "cd",
            (0.5, 0.4),
        ),
        (
            [Evidence((hit("a"),), (0.6,), 0.1, 0.5), Evidence((hit("b"),), (0.6,), 0.2, 0.5)],
            "a",
            (0.6,),
        ),
    ],
    ids=["one", "both known", "only the second known", "none known"],
)
def test_merged_evidence(sources: list[Evidence], ids: str, weights: tuple[float, ...]) -> None:
    merged = merge_evidence(sources, k=3)
    assert "".join(each.entry.id for each in merged.hits) == ids
    assert merged.weights == pytest.approx(weights)
    assert merged.sufficient == any(source.sufficient for source in sources)
    assert sum(merged.weights) <= 1
