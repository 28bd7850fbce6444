"""The table of verbs and the requests that are built from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import pytest

from ravlm.errors import InvalidInput
from ravlm.generation.base import ABSENT, Generator, Request, VerbName, split_pieces
from ravlm.generation.verbs import VERBS, build_requests
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Answer, AnswerStream
from tests.helpers.generator_conformance import strange_image
from tests.helpers.streams import read_stream

TALK = [{"role": "user", "content": "What is this?"}]
INPUTS = {"question": "What is this?", "prompt": "Tell me", "messages": TALK, "": None}


def test_the_table_has_every_verb_and_the_model_a_method_for_each() -> None:
    assert set(VERBS) == set(get_args(VerbName))
    for name in VERBS:
        assert callable(getattr(RetrievalAugmentedVLM, name))
        assert callable(getattr(RetrievalAugmentedVLM, f"stream_{name}"))


@pytest.mark.parametrize("name", VERBS)
def test_single_inputs_and_batches(name: VerbName) -> None:
    text = INPUTS[VERBS[name].text]
    single = build_requests(name, text, "a.jpg")
    assert not single.is_batch
    assert [(r.task, r.image) for r in single.requests] == [(name, "a.jpg")]
    batch = build_requests(name, text, ["a.jpg", "b.jpg"])
    assert batch.is_batch
    assert [r.image for r in batch.requests] == ["a.jpg", "b.jpg"]
    assert len({r.text for r in batch.requests}) == 1


def test_items_of_a_batch_may_lack_what_is_not_required() -> None:
    requests = build_requests("tell", ["The owl", None], [None, "a.jpg"]).requests
    assert [(r.text, r.image) for r in requests] == [("The owl", None), ("", "a.jpg")]


def test_a_list_of_conversations_is_a_batch() -> None:
    assert not build_requests("chat", TALK).is_batch
    batch = build_requests("chat", [TALK, TALK])
    assert batch.is_batch
    assert len(batch.requests) == 2


def test_the_language_of_the_text_is_that_of_the_answer() -> None:
    assert build_requests("ask", "这是什么？").requests[0].chinese
    assert not build_requests("caption", None, "a.jpg").requests[0].chinese


@pytest.mark.parametrize(
    ("name", "text", "image", "message"),
    [
        ("ask", None, "a.jpg", "question is of type NoneType"),
        ("ask", ["What?", " "], None, "question is empty"),
        ("ask", ["What?"], ["a.jpg", "b.jpg"], "1 texts and 2 images"),
        ("caption", None, None, "no image to describe"),
        ("caption", "What?", "a.jpg", "caption takes no text"),
        ("tell", None, None, "nothing to tell about"),
        ("tell", [None, "The owl"], None, "nothing to tell about"),
        ("chat", "What?", None, "list of messages"),
        ("chat", [], None, "list of messages"),
    ],
)
def test_bad_input_is_a_sentence(name: VerbName, text: Any, image: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        build_requests(name, text, image)


class Knowledgeable(Generator):
    """Says that the evidence has no answer, and knows one by itself."""

    name = "knowledgeable"
    own_answer = "It is the Musee d'Orsay, a museum in Paris, in a former railway station."

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        self.requests += requests
        return [
            Answer(ABSENT[False], r.evidence.hits, abstained=True)
            if r.evidence.hits
            else Answer(self.own_answer, citations=("bird-0-0",), confidence=0.7)
            for r in requests
        ]

    def stream(self, request: Request) -> AnswerStream:
        answer = self.generate([request])[0]
        yield from split_pieces(answer.text)
        return answer


@pytest.mark.parametrize("declined_by", ["retrieval", "generator"])
def test_a_question_that_the_base_cannot_answer_goes_on(
    birds: KnowledgeBase, declined_by: str
) -> None:
    """With base_only=False it still ended at the base, though the model could see the image."""
    image = strange_image() if declined_by == "retrieval" else birds.get(["bird-1-0"])[0].image
    generator = Knowledgeable()
    model = RetrievalAugmentedVLM(birds, generator)
    strict = model.ask("What is its price?", image=image)
    assert strict.abstained
    assert "closed_book" not in strict.trace
    for open_answer in (
        model.ask("What is its price?", image=image, base_only=False),
        RetrievalAugmentedVLM(birds, generator, base_only=False).ask("What?", image=image),
        model.chat([{"role": "user", "content": "What?"}], image, base_only=False),
    ):
        assert open_answer.text == generator.own_answer
        assert (open_answer.abstained, open_answer.citations) == (False, ())
        assert open_answer.trace["closed_book"] is True
        assert generator.requests[-1].image is image
        assert not generator.requests[-1].evidence.hits
    stream = model.stream_ask("What is its price?", image, base_only=False)
    assert "".join(stream) == generator.own_answer


def test_the_closed_book_is_marked(birds: KnowledgeBase) -> None:
    model = RetrievalAugmentedVLM(birds, Knowledgeable())
    assert model.ask("What is it?", k=0).trace["closed_book"] is True
    _, streamed = read_stream(model.stream_ask("What is it?", k=0))
    assert streamed.trace["closed_book"] is True
    assert "closed_book" not in RetrievalAugmentedVLM(birds).ask("What is it?", k=0).trace


def test_what_nobody_knows_is_declined_once(birds: KnowledgeBase) -> None:
    model = RetrievalAugmentedVLM(birds, base_only=False)
    answer = model.ask("What is its price?", image=strange_image())
    assert answer.abstained
    assert "".join(model.stream_ask("What is its price?", strange_image())) == answer.text
    known = model.ask("What is the name?", image=birds.get(["bird-1-0"])[0].image)
    assert (known.text, "closed_book" in known.trace) == ("Leaf Parrot", False)
