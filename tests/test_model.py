"""The whole model over a small base, with every family of generators."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ravlm.data.facts import entity_name
from ravlm.errors import BrokenData, InvalidInput, NotFound
from ravlm.generation.chat.prompts import PromptBudget, build_prompt
from ravlm.generation.extractive.generator import ExtractiveGenerator
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.retrieval.calibration import FILE
from tests.helpers import chat_checkpoints, endpoints
from tests.helpers.birds import (  # noqa: F401 - fixtures
    BIRDS,
    bird,
    birds,
    word_encoder,
)
from tests.helpers.generator_conformance import IMAGES, check_generator

RED, GREEN = BIRDS["Ruby Finch"][0], BIRDS["Leaf Parrot"][0]


@pytest.fixture
def model(birds: KnowledgeBase) -> RetrievalAugmentedVLM:  # noqa: F811
    return RetrievalAugmentedVLM(birds)


def extractive(birds: KnowledgeBase, folder: Path, stack: ExitStack) -> str:  # noqa: F811
    """The generator that comes with the package."""
    return "extractive"


def chat(birds: KnowledgeBase, folder: Path, stack: ExitStack) -> str:  # noqa: F811
    """A tiny LLaVA that is taught within seconds what to say about two birds."""
    model = RetrievalAugmentedVLM(birds)
    requests = [
        *model.requests("ask", "What is the name?", IMAGES).requests,
        *model.requests("caption", None, IMAGES).requests,
        *model.requests("tell", None, IMAGES).requests,
    ]
    names = [entity_name(request.evidence.hits[0].entry) for request in requests[:2]]
    outputs = [f"{name} [1]" for name in names] + [f"A {name}" for name in names]
    outputs += [f"It is a {name} [1]. It is a bird [1]." for name in names]
    prompts = [
        build_prompt(request, PromptBudget(100_000), lambda turns: 0, len) for request in requests
    ]
    texts = [turn.text for turns in prompts for turn in turns]
    chat_checkpoints.llava(folder, texts + outputs)
    chat_checkpoints.teach(folder, list(zip(prompts, outputs, strict=True)))
    return str(folder)


def remote(birds: KnowledgeBase, folder: Path, stack: ExitStack) -> str:  # noqa: F811
    """An endpoint that reads the evidence it is sent."""
    return stack.enter_context(endpoints.Server([endpoints.bird_watcher])).address


@pytest.mark.parametrize("make", [extractive, chat, remote], ids=["extractive", "chat", "remote"])
def test_every_generator_keeps_the_contract(
    make: Callable[[KnowledgeBase, Path, ExitStack], str],
    birds: KnowledgeBase,  # noqa: F811
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        generator = make(birds, tmp_path / "generator", stack)
        check_generator(RetrievalAugmentedVLM(birds, generator=generator))


def test_the_generator_is_the_one_that_was_passed(birds: KnowledgeBase) -> None:  # noqa: F811
    """`.generator` was the network behind a trainable one, and `.writer` the generator."""
    generator = ExtractiveGenerator(birds.encoder)
    assert RetrievalAugmentedVLM(birds, generator=generator).generator is generator


def test_a_base_is_calibrated_right_after_it_was_built(
    birds: KnowledgeBase,  # noqa: F811
) -> None:
    """The first question about an image took 14 seconds without a word: 160 changed images of the
    base were encoded for it."""
    steps: list[tuple[int, int]] = []
    model = RetrievalAugmentedVLM(birds, progress=lambda *step: steps.append(step))
    assert steps[-1] == (10, 10)
    calibration = birds.derived_folder / FILE
    written = calibration.stat().st_mtime_ns
    assert model.ask("What is it?", image=model.kb.get("bird-0-0")[0].image).citations
    assert calibration.stat().st_mtime_ns == written
    calibration.unlink()
    with KnowledgeBase.open(birds.path, birds.encoder) as kb:
        opened = RetrievalAugmentedVLM(kb)
        assert not calibration.exists()  # words alone never need it
        assert opened.ask("Where does the Sea Heron come from?").text == "Norway"
        assert not calibration.exists()
        opened.caption(kb.get("bird-0-0")[0].image)
        assert calibration.exists()


def test_editing_is_imported_when_something_is_edited() -> None:
    code = "import sys, ravlm.model; print(any(m.startswith('ravlm.editing') for m in sys.modules))"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the name?", "Leaf Parrot"),
        ("What is the country?", "Brazil"),
        ("What is the length, in cm?", "30 cm"),
    ],
)
def test_answers_about_a_image(model: RetrievalAugmentedVLM, question: str, answer: str) -> None:
    answered = model.ask(question, image=bird(GREEN, 93))
    assert answered.text == answer
    assert answered.citations[0].startswith("bird-1")
    assert answered.trace["retrieved by"] == "image"


def test_one_question_for_several_images_and_several_for_one(
    model: RetrievalAugmentedVLM,
) -> None:
    names = model.ask("What is the name?", image=[bird(GREEN, 94), bird(RED, 95)])
    assert [a.text for a in names] == ["Leaf Parrot", "Ruby Finch"]
    facts = model.ask(["What is the name?", "What is the country?"], image=bird(RED, 96))
    assert [a.text for a in facts] == ["Ruby Finch", "Peru"]
    assert model.ask([]) == []


def test_answers_in_words_alone(model: RetrievalAugmentedVLM) -> None:
    answered = model.ask("What is the country of the Sea Heron?")
    assert (answered.text, answered.abstained) == ("Norway", False)
    abstention = model.ask("What is the country of the Marsh Tit?")
    assert abstention.abstained
    assert "知识库中没有" in model.ask("沼泽山雀来自哪个国家？").text
    counted = model.ask("What does the lighthouse keeper count every evening?")
    assert "gulls" in counted.text
    assert counted.citations == ("note",)


def test_a_line_that_is_not_there_is_no_answer(model: RetrievalAugmentedVLM) -> None:
    abstention = model.ask("Who is the president?", image=bird(RED, 97))
    assert abstention.abstained
    assert abstention.trace["abstained"] == "no line answers the question"


def test_the_closed_book_knows_nothing(birds: KnowledgeBase) -> None:  # noqa: F811
    model = RetrievalAugmentedVLM(birds, generator="extractive")
    for answer in (
        model.ask("What is the name?", image=bird(RED, 98), k=0),
        model.caption(bird(RED, 98), k=0),
        model.tell(bird(RED, 98), k=0),
        model.chat([{"role": "user", "content": "What is it?"}], k=0),
    ):
        assert answer.abstained
        assert answer.evidence == ()


def test_k_and_where_reach_the_search(model: RetrievalAugmentedVLM) -> None:
    assert len(model.ask("What is the name?", image=bird(RED, 1), k=2).evidence) == 2
    assert len(model.caption(bird(RED, 1), k=100).evidence) == 5
    fish = {"kind": "fish"}
    assert model.ask("What is the name?", image=bird(RED, 1), where=fish).abstained
    assert model.ask("What is the country of the Sea Heron?", where=fish).abstained


def test_a_talk_keeps_to_its_image(model: RetrievalAugmentedVLM) -> None:
    talk = [{"role": "user", "content": "What is the name?"}]
    assert model.chat(talk, image=bird(GREEN, 2)).text == "Leaf Parrot"
    talk += [
        {"role": "assistant", "content": "Leaf Parrot"},
        {"role": "user", "content": "And the country?"},
    ]
    assert model.chat(talk, image=bird(GREEN, 2)).text == "Brazil"


def test_a_talk_keeps_to_what_was_named_until_another_is(model: RetrievalAugmentedVLM) -> None:
    talk = [{"role": "user", "content": "What is the country of the Snow Owl?"}]
    assert model.chat(talk).text == "Canada"
    talk += [
        {"role": "assistant", "content": "Canada"},
        {"role": "user", "content": "And what is its length?"},
    ]
    assert model.chat(talk).text == "60 cm"
    talk += [
        {"role": "assistant", "content": "60 cm"},
        {"role": "user", "content": "And the length of the Coal Crow?"},
    ]
    assert model.chat(talk).text == "45 cm"
    answers = model.chat([talk[:1], talk])
    assert [answer.text for answer in answers] == ["Canada", "45 cm"]


def test_a_story_from_words_alone(model: RetrievalAugmentedVLM) -> None:
    answer = model.tell(prompt="Tell me about the Snow Owl")
    assert "Snow Owl" in answer.text
    assert "[1]" in answer.text


def test_stricter_abstention_answers_less(birds: KnowledgeBase) -> None:  # noqa: F811
    near = Image.blend(bird(RED, 3), bird((0, 0, 0), 4), 0.3)
    usual = RetrievalAugmentedVLM(birds).ask("What is the name?", image=near)
    strict_model = RetrievalAugmentedVLM(birds, max_false_answers=0.0)
    strict = strict_model.ask("What is the name?", image=near)
    assert strict.trace["min_support"] >= usual.trace["min_support"]
    assert strict.trace["support"] == usual.trace["support"]


def test_an_empty_base_abstains(tmp_path: Path, word_encoder: Any) -> None:  # noqa: F811
    """A story about an image was an error there: "The search text is empty."."""
    with KnowledgeBase.build(tmp_path / "empty", [], encoder=word_encoder) as kb:
        model = RetrievalAugmentedVLM(kb)
        assert model.ask("What is it?").abstained
        assert model.ask("What is it?", image=bird(RED, 5)).abstained
        assert model.caption(bird(RED, 5)).abstained
        assert model.tell(bird(RED, 5)).abstained
        assert model.tell(prompt="Tell me about the owl").abstained


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.ask(""), "question is empty"),
        (lambda m: m.ask(7), "of type int"),
        (lambda m: m.ask("What?", k=-1), "k is -1"),
        (lambda m: m.ask("What?", k=2.5), "k is 2.5"),
        (lambda m: m.ask(["What?", "Who?"], image=["a.png"] * 3), "2 texts and 3 images"),
        (lambda m: m.caption(None), "no image to describe"),
        (lambda m: m.tell(), "nothing to tell about"),
        (lambda m: m.tell(prompt=" "), "prompt is empty"),
        (lambda m: RetrievalAugmentedVLM(m.kb, generator="extractve"), 'Did you mean "extractive"'),
        (lambda m: RetrievalAugmentedVLM(m.kb, max_false_answers=2), "a rate from 0 to 1"),
        (lambda m: RetrievalAugmentedVLM(m.kb, k=True), "k is True"),
    ],
)
def test_bad_input_is_a_sentence(model: RetrievalAugmentedVLM, call: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        call(model)


def test_images_that_cannot_be_read(model: RetrievalAugmentedVLM, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(NotFound, match="no image"):
        model.ask("What?", image=str(tmp_path / "gone.png"))
    with pytest.raises(BrokenData, match="not an image"):
        model.caption(tmp_path / "text.jpg")


def test_the_command_line_takes_an_address(
    birds: KnowledgeBase,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from ravlm.cli import main
    from ravlm.encoders import auto

    monkeypatch.setattr(auto, "load_encoder", lambda name: birds.encoder)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    question = ["ask", str(birds.path), "What is the country of the Sea Heron?", "--generator"]
    with endpoints.Server([endpoints.bird_watcher]) as server:
        assert main([*question, f"{server.address}#tiny"]) == 0
    assert capsys.readouterr().out.startswith("Sea Heron")
    assert main([*question, "smal"]) == 1
    assert 'Did you mean "small"' in capsys.readouterr().err
