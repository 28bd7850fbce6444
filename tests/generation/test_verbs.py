"""The table of verbs and the requests that are built from it."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from ravlm.errors import InvalidInput
from ravlm.generation.base import VerbName
from ravlm.generation.verbs import VERBS, build_requests
from ravlm.model import RetrievalAugmentedVLM

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
