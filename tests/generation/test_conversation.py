"""Messages of a conversation that are no questions."""

from __future__ import annotations

import pytest

from ravlm.generation.conversation import read_command, small_talk_kind, turns_of_subject
from ravlm.generation.extractive.generator import ExtractiveGenerator
from ravlm.generation.extractive.span_reader import SpanReader
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Message
from tests.helpers.birds import bird

GREEN = (30, 200, 40)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Hello!", "greeting"),
        ("hi there", "greeting"),
        ("Thank you very much.", "thanks"),
        ("OK, thanks", "thanks"),
        ("who are you?", "identity"),
        ("What can you do?", "identity"),
        ("How are you?", "state"),
        ("great", "approval"),
        ("bye", "farewell"),
        ("你好", "greeting"),
        ("谢谢！", "thanks"),
        ("你是谁？", "identity"),
        ("你好吗？", "state"),
        ("好的", "approval"),
        ("再见", "farewell"),
        ("Hello, how old is the Vasa?", None),
        ("Who are the owners?", None),
        ("What is it?", None),
        ("谢谢你告诉我它多高", None),
        ("thanks " + "for " * 10_000, None),
        ("", None),
    ],
)
def test_small_talk(text: str, kind: str | None) -> None:
    assert small_talk_kind(text) == kind


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("Describe it", ("tell", "")),
        ("describe the picture, please", ("tell", "")),
        ("Tell me a story about it", ("tell", "")),
        ("Can you tell me about the Vasa?", ("tell", "the Vasa")),
        ("Write a short story about the crested gecko", ("tell", "the crested gecko")),
        ("caption it", ("caption", "")),
        ("Give me a caption for this photo", ("caption", "")),
        ("描述一下它", ("tell", "")),
        ("描述这张图片", ("tell", "")),
        ("写一个关于瓦萨号的故事", ("tell", "瓦萨号")),
        ("给这张照片写个标题", ("caption", "")),
        ("Tell me the height of the tower", None),
        ("Tell me about how it works", None),
        ("What is the title?", None),
        ("它多高？", None),
        ("讲一下这个故事的作者是谁", None),
        ("describe " * 10_000, None),
    ],
)
def test_commands(text: str, command: tuple[str, str] | None) -> None:
    assert read_command(text) == command


def user(text: str, image: str | None = None) -> Message:
    return Message("user", text, image)


def test_the_turns_that_may_name_the_subject() -> None:
    talk = [
        user("Which ship sank in 1545?"),
        Message("assistant", "Mary Rose [1]"),
        user("And its length?"),
    ]
    assert turns_of_subject(talk, False) == ("Mary Rose", "Which ship sank in 1545?")
    shown = [user("What is it?", "a.png"), Message("assistant", "x" * 99), user("Is it tame?")]
    assert turns_of_subject(shown, False) == ()
    named = [*shown[:2], user("Who is the Snow Owl?"), Message("assistant", ""), user("Its size?")]
    assert turns_of_subject(named, False) == ("Who is the Snow Owl?",)
    picture = [*named[:-1], user("What is in the picture?")]
    assert turns_of_subject(picture, False) == ()


@pytest.fixture
def model(birds: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> RetrievalAugmentedVLM:
    """A model without the span reader, which takes seconds to load."""
    monkeypatch.setattr(SpanReader, "is_available", staticmethod(lambda: False))
    return RetrievalAugmentedVLM(birds, ExtractiveGenerator(birds.encoder))


def chat(model: RetrievalAugmentedVLM, *turns: str, **options: object) -> list[str]:
    talk: list[dict[str, str]] = []
    answers = []
    for turn in turns:
        talk.append({"role": "user", "content": turn})
        answers.append(model.chat(talk, **options).text)  # type: ignore[call-overload]
        talk.append({"role": "assistant", "content": answers[-1]})
    return answers


def test_small_talk_is_answered_without_a_search(model: RetrievalAugmentedVLM) -> None:
    """Each "hello" was once searched for and declined."""
    answer = model.chat([{"role": "user", "content": "Hello!"}])
    assert not answer.abstained
    assert (answer.evidence, answer.citations, answer.trace) == ((), (), {"small talk": "greeting"})
    stream = model.stream_chat([{"role": "user", "content": "谢谢"}])
    assert "".join(stream) == "不客气。"


def test_a_greeting_is_no_question(model: RetrievalAugmentedVLM) -> None:
    """`ravlm ask KB Hello` was answered with the number in the nearest passage."""
    assert model.ask("Hello").trace == {"small talk": "greeting"}


def test_a_talk_about_a_bird(model: RetrievalAugmentedVLM) -> None:
    answers = chat(
        model,
        "What is the country of the Snow Owl?",
        "Describe it",
        "Tell me a story about the Coal Crow",
        "What is its length?",
        "What is the capital of France?",
    )
    assert answers[0] == "Canada"
    assert answers[1].startswith("Snow Owl's country is Canada")
    assert "The nest" not in answers[1]
    assert answers[2].startswith("Coal Crow")
    assert answers[3] == "45 cm"
    assert "not in the knowledge base" in answers[4]


def test_what_is_named_after_the_picture_is_the_subject(model: RetrievalAugmentedVLM) -> None:
    """After "and the Snow Owl?", "its length" was still that of the picture's bird."""
    answers = chat(
        model,
        "What is the name?",
        "What is the country of the Snow Owl?",
        "And its length?",
        "What is the name of the bird in the picture?",
        "caption it",
        image=bird(GREEN, 5),
    )
    assert answers[:4] == ["Leaf Parrot", "Canada", "60 cm", "Leaf Parrot"]
