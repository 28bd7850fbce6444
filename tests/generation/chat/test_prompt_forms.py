"""Models without a chat template: the prompts of their training, and what they cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ravlm import runtime
from ravlm.errors import InvalidInput, Mismatch
from ravlm.generation.base import Request
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.generation.chat.prompt_forms import PROMPT_FORMS
from ravlm.records import Entry, Evidence, Hit, Message, Part
from tests.helpers import chat_checkpoints, family_checkpoints
from tests.helpers.streams import read_stream

RED, BLUE = Image.new("RGB", (60, 40), "red"), Image.new("RGB", (40, 60), "blue")
EVIDENCE = Evidence(
    (Hit(Entry("finch", RED, ("Name: Ruby Finch\nColor: red",)), 0.5, Part("text")),)
)
TALK = (
    Message("system", "Be brief."),
    Message("user", "Hello", BLUE),
    Message("assistant", "Good day."),
    Message("user", "What is it?"),
)


@pytest.fixture(scope="module")
def generators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatGenerator]:
    top = tmp_path_factory.mktemp("forms")
    return {
        name: ChatGenerator.load(write(top / name), max_tokens=4, dtype=torch.float32)
        for name, write in family_checkpoints.PROMPTED.items()
    }


def prompt(generator: ChatGenerator, request: Request) -> str:
    return generator.model.template.render(generator.build_turns(request))


@pytest.mark.parametrize(
    ("name", "request_", "expected"),
    [
        (
            "paligemma",
            Request("ask", "What is it?", RED, EVIDENCE),
            "<image> [1] Name: Ruby Finch Color: red answer en What is it?",
        ),
        ("paligemma", Request("ask", "是什么?", RED, chinese=True), "<image> answer zh 是什么?"),
        ("paligemma", Request("caption", "", RED), "<image> caption en"),
        ("paligemma", Request("tell", "", RED), "<image> describe en"),
        (
            "blip2",
            Request("ask", "What is it?", RED, EVIDENCE),
            "[1] Name: Ruby Finch Color: red Question: What is it? Answer:",
        ),
        ("blip2", Request("caption", "", RED), "a photo of"),
        (
            "blip2",
            Request("chat", "What is it?", RED, messages=TALK),
            "Question: Hello Answer: Good day. Question: What is it? Answer:",
        ),
        (
            "instructblip",
            Request("ask", "What is it?", RED),
            "Question: What is it? Short answer:",
        ),
        ("instructblip", Request("caption", "", RED), "A short image description."),
        ("florence2", Request("caption", "", RED, EVIDENCE), "What does the image describe?"),
    ],
)
def test_prompts_have_the_form_of_the_training(
    name: str, request_: Request, expected: str, generators: dict[str, ChatGenerator]
) -> None:
    assert prompt(generators[name], request_) == expected


def test_t5_gets_its_instructions_in_plain_text(generators: dict[str, ChatGenerator]) -> None:
    text = prompt(generators["t5"], Request("chat", "What is it?", None, EVIDENCE, TALK))
    assert text.startswith("You talk with a person")
    assert "Be brief." in text
    assert "User: Hello Assistant: Good day." in text
    assert "Ruby Finch" in text
    assert text.endswith("User: What is it? Assistant:")
    assert "\n" not in text


def test_no_text_passes_for_an_image_or_a_task(generators: dict[str, ChatGenerator]) -> None:
    """A question with <image> in it broke the batch: one image too few."""
    for name in ("paligemma", "blip2", "instructblip"):
        generator = generators[name]
        (answer,) = generator.generate([Request("ask", "Is <image> it?", RED)])
        assert answer.text
        assert prompt(generator, Request("ask", "Is <image> it?", RED)).count("<image>") == (
            name == "paligemma"
        )


def test_requests_that_a_model_cannot_take(generators: dict[str, ChatGenerator]) -> None:
    with pytest.raises(InvalidInput, match='"florence2" model, which can only caption and tell'):
        generators["florence2"].generate([Request("ask", "What is it?", RED)])
    with pytest.raises(InvalidInput, match='"blip-2" model, which reads an image with every req'):
        generators["blip2"].generate([Request("ask", "What is it?", None, EVIDENCE)])
    several = Request("ask", "Which one?", RED, more_images=(BLUE,))
    assert not generators["blip2"].reads_several_images
    assert len(generators["blip2"].build_turns(several)[-1].images) == 1


def test_long_evidence_fits_a_short_context(generators: dict[str, ChatGenerator]) -> None:
    """InstructBLIP's Q-Former reads 512 tokens of the text, and failed with an IndexError."""
    long = Hit(Entry("long", None, ("The finch sings at dawn. " * 300,)), 0.5, Part("text"))
    request = Request("ask", "What is it?", BLUE, Evidence((long,)))
    for name in ("instructblip", "t5"):
        generator = generators[name]
        inputs = generator.model.inputs([generator.build_turns(request)])
        assert inputs["input_ids"].shape[1] <= generator.model.context_length
        assert "finch sings" in prompt(generator, request)
    assert generators["instructblip"].generate([request])[0].text


def test_an_unknown_form_is_a_sentence(tmp_path: Path) -> None:
    """For every type, the message advised adding a chat template."""
    folder = chat_checkpoints.qwen2(tmp_path / "base", template="")
    with pytest.raises(Mismatch, match='a "qwen2" model, has no chat template') as caught:
        ChatGenerator.load(folder)
    assert all(model_type in str(caught.value) for model_type in PROMPT_FORMS)


# Values of generation_config.json


def with_settings(folder: Path, **settings: Any) -> ChatGenerator:
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return ChatGenerator.load(folder, max_tokens=8, dtype=torch.float32)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 3, "early_stopping": True, "length_penalty": 0.5},
        {"num_return_sequences": 2, "do_sample": True, "top_k": 3},
        {"return_dict_in_generate": True, "output_scores": True},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"prompt_lookup_num_tokens": 3},
        {"min_new_tokens": 4, "max_length": 20, "forced_eos_token_id": 2},
        {"guidance_scale": 1.5},
        {"stop_strings": ["never written"]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_of_a_checkpoint_do_not_break_replies(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Beams, several sequences and stop strings were tracebacks."""
    request = Request("ask", "What is it?", None, EVIDENCE)
    plain = ChatGenerator.load(
        chat_checkpoints.qwen2(tmp_path / "qwen2"), max_tokens=8, dtype=torch.float32
    )
    (expected,) = plain.generate([request])
    generator = with_settings(tmp_path / "qwen2", **settings)
    assert [a.text for a in generator.generate([request] * 2)] == [expected.text] * 2
    assert read_stream(generator.stream(request))[1].text == expected.text
    kept = generator.model.network.generation_config
    assert all(getattr(kept, key) == value for key, value in settings.items())


def test_stop_strings_end_a_reply_and_are_not_shown(tmp_path: Path) -> None:
    """The batch's other row goes on, and its text is whole."""
    folder = chat_checkpoints.qwen2(tmp_path / "qwen2")
    plain = ChatGenerator.load(folder)
    requests = [
        Request("chat", text, None, EVIDENCE, (*TALK[:-1], Message("user", text)))
        for text in ("What is it?", "Who?")
    ]
    replies = ("Bird ##END and more", "A finch")
    turns = [plain.build_turns(request) for request in requests]
    chat_checkpoints.teach(folder, list(zip(turns, replies, strict=True)), steps=200)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stop_strings": ["##END", "##ST"]}))
    generator = ChatGenerator.load(folder, max_tokens=40, dtype=torch.float32)
    answers = generator.generate(requests)
    assert [answer.text for answer in answers] == ["Bird", "A finch"]
    assert all("finish_reason" not in answer.trace for answer in answers)
    for request, answer in zip(requests, answers, strict=True):
        pieces, streamed = read_stream(generator.stream(request))
        assert "".join(pieces) == streamed.text == answer.text
        assert streamed.trace["certainty"] == pytest.approx(answer.trace["certainty"], abs=2e-4)
        assert "#" not in "".join(pieces)


def plain_params() -> Any:
    from ravlm.generation.chat.decoding import SamplingParams

    return SamplingParams(8)


def test_suppressed_tokens_stay_suppressed(tmp_path: Path) -> None:
    """They belong to the model, unlike its beams."""
    request = Request("ask", "What is it?", None, EVIDENCE)
    folder = chat_checkpoints.qwen2(tmp_path / "qwen2")
    plain = ChatGenerator.load(folder, max_tokens=1, dtype=torch.float32)
    turns = plain.build_turns(request)
    with torch.inference_mode():
        first = int(plain.model.network(**plain.model.inputs([turns])).logits[0, -1].argmax())
    generator = with_settings(folder, suppress_tokens=[first])
    (other,) = generator.model.complete([turns], plain_params())
    ids = generator.model.tokenizer(other.text, add_special_tokens=False)["input_ids"]
    assert first not in ids[:1]


def test_a_model_that_needs_torchvision_says_so(tmp_path: Path) -> None:
    """Pixtral was a raw ImportError; Phi-4-multimodal was loaded without its eyes, silently."""
    if runtime.has_packages("torchvision"):
        pytest.skip("torchvision is installed")
    with pytest.raises(Mismatch, match=r'a "mistral3" model, needs the package "torchvision"'):
        ChatGenerator.load(family_checkpoints.mistral3(tmp_path / "mistral3"))
    phi4 = tmp_path / "phi4"
    phi4.mkdir()
    (phi4 / "config.json").write_text(json.dumps({"model_type": "phi4_multimodal"}))
    (phi4 / "processor_config.json").write_text(
        json.dumps({"processor_class": "Phi4MultimodalProcessor"})
    )
    with pytest.raises(Mismatch, match=r'a "phi4_multimodal" model, needs .*"torchvision"'):
        ChatGenerator.load(phi4)
