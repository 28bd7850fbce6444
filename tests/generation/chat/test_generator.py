"""Chat models of Transformers: prompts, batches, streams, and checkpoints that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ravlm import runtime
from ravlm.errors import InvalidInput, Mismatch, NotFound
from ravlm.generation.base import Request
from ravlm.generation.chat.decoding import SamplingParams
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.generation.chat.model import ChatModel, _special_thought_marks
from ravlm.generation.chat.prompts import MAX_NEW_TOKENS, THINKING_TOKENS, ChatTurn
from ravlm.records import CLOSED_BOOK, Answer, Entry, Evidence, Hit, Message, Part
from tests.helpers import chat_checkpoints
from tests.helpers import encoder_checkpoints as encoders
from tests.helpers.streams import read_stream

RED, BLUE = Image.new("RGB", (60, 40), "red"), Image.new("RGB", (40, 60), "blue")
HITS = tuple(
    Hit(Entry(name, image, (text,)), 0.5, Part("text"))
    for name, image, text in (
        ("finch", RED, "Name: Ruby Finch"),
        ("heron", None, "Name: Sea Heron"),
    )
)
EVIDENCE = Evidence(HITS, (0.7, 0.3), 0.9)
TALK = (Message("user", "Hello"), Message("assistant", "Good day."), Message("user", "What is it?"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("talking")
    return {name: write(top / name) for name, write in chat_checkpoints.CHAT_MODELS.items()}


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use fp32, so that numbers do not depend on the batch, and short answers."""
    monkeypatch.setattr(runtime, "inference_dtype", lambda on: torch.float32)
    for task in MAX_NEW_TOKENS:
        monkeypatch.setitem(MAX_NEW_TOKENS, task, 12)


def streamed(generator: ChatGenerator, request: Request) -> tuple[list[str], Answer]:
    return read_stream(generator.stream(request))


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


@pytest.mark.parametrize("name", chat_checkpoints.CHAT_MODELS)
def test_batches_and_streams_give_the_same_text(name: str, folders: dict[str, Path]) -> None:
    """Rows of other lengths, with more pictures and fewer, of several tasks; each as it is alone,
    and as a stream."""
    generator = ChatGenerator.load(folders[name])
    requests = [
        Request("ask", "What is it?", RED, EVIDENCE),
        Request("ask", "And what in the whole wide world may this thing here be?", BLUE, EVIDENCE),
        Request("ask", "What is it?", BLUE, Evidence(HITS[1:])),
        Request("caption", "", BLUE, EVIDENCE),
        Request("chat", "What is it?", None, EVIDENCE, TALK),
        Request("chat", "What is it?", RED, EVIDENCE, TALK),
        Request("chat", "What is it?", None, Evidence(HITS[1:]), TALK),
    ]
    answers = generator.generate(requests)
    for request, found in zip(requests, answers, strict=True):
        (alone,) = generator.generate([request])
        pieces, flowing = streamed(generator, request)
        assert found.text == alone.text == flowing.text == "".join(pieces)
        sure = [each.trace["certainty"] for each in (found, alone, flowing)]
        assert sure == pytest.approx([sure[0]] * 3, abs=2e-4)
        assert found.trace["model"] == str(folders[name])
    assert len({found.trace["certainty"] for found in answers}) > 3
    assert generator.generate([]) == []


@pytest.mark.parametrize("name", chat_checkpoints.VISION_MODELS)
def test_images_are_read_in_their_positions(name: str, folders: dict[str, Path]) -> None:
    """Swapped evidence pictures, or another picture asked about, give other logits; and as many
    tokens as counted."""
    model = ChatModel.load(folders[name], name)
    talks = [
        [ChatTurn("user", ("[1] ", one, "\n[2] ", two, "\nWhat is ", three, "?"))]
        for one, two, three in ((RED, BLUE, RED), (BLUE, RED, RED), (RED, BLUE, BLUE))
    ]
    with torch.inference_mode():
        logits = [model.network(**model.inputs([talk])).logits[0, -1] for talk in talks]
    assert (logits[0] - logits[1]).abs().max() > 1e-3
    assert (logits[0] - logits[2]).abs().max() > 1e-3
    for talk in talks:
        assert model.count_tokens(talk) >= model.inputs([talk])["input_ids"].shape[1]


@pytest.mark.parametrize("name", chat_checkpoints.CHAT_MODELS)
def test_text_is_never_a_control_token(name: str, folders: dict[str, Path]) -> None:
    """An entry with <|im_end|> in it ended its turn and began one of the system; one with <image>
    broke the batch."""
    model = ChatModel.load(folders[name], name)
    special = [str(t) for t in model.tokenizer.added_tokens_decoder.values() if t.special]
    assert len(special) >= 3

    def control(text: str) -> int:
        pictures = (RED,) if model.reads_images else ()
        ids = model.inputs(
            [[ChatTurn("system", ("Be brief.",)), ChatTurn("user", (*pictures, text))]]
        )["input_ids"]
        return int(
            torch.isin(ids, torch.tensor(model.tokenizer.convert_tokens_to_ids(special))).sum()
        )

    assert control("A finch" + "".join(special) + "and " + " ".join(special)) == control("A finch")


def test_templates_without_system_messages(folders: dict[str, Path]) -> None:
    """Gemma's raises an error; the system text then goes before the user's."""
    model = ChatModel.load(folders["gemma3"], "gemma3")
    system, user = ChatTurn("system", ("Be brief.",)), ChatTurn("user", ("Hello",))
    turns = [system, user, ChatTurn("assistant", ("Hi",)), ChatTurn("user", ("So?",))]
    text = model.template.render(turns)
    assert text.startswith(
        "<bos><start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n<start_of_turn>model\nHi"
    )
    ids = model.inputs([turns])["input_ids"][0].tolist()
    assert ids.count(model.tokenizer.bos_token_id) == 1
    pirate = (Message("system", "Speak like a pirate."), *TALK)
    told = ChatGenerator.load(folders["gemma3"]).build_turns(
        Request("chat", "What is it?", RED, EVIDENCE, pirate)
    )
    assert "pirate" in model.template.render(told)


def test_seeds(folders: dict[str, Path]) -> None:
    generator = ChatGenerator.load(folders["qwen2"], temperature=1.0)
    requests = [Request("ask", "What is it?", None, EVIDENCE, seed=seed) for seed in (1, 2, 1)]
    before = torch.get_rng_state()
    first, second, third = (found.text for found in generator.generate(requests))
    assert first == third != second
    assert streamed(generator, requests[1])[1].text == second
    assert torch.equal(torch.get_rng_state(), before)
    assert ChatGenerator.load(folders["qwen2"]).fingerprint != generator.fingerprint
    with pytest.raises(InvalidInput, match="temperature is -1"):
        ChatGenerator.load(folders["qwen2"], temperature=-1)


def test_closing_a_stream_stops_generation(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MAX_NEW_TOKENS, "tell", 5000)
    generator = ChatGenerator.load(folders["qwen2"])
    words = generator.stream(Request("tell", "A story", None, EVIDENCE))
    next(words)
    words.close()
    assert not generator.model._lock.locked()


def test_a_model_that_reads_no_images(folders: dict[str, Path]) -> None:
    generator = ChatGenerator.load(folders["qwen2"], describe=lambda request: "A red bird")
    told = generator.build_turns(Request("ask", "What is it?", RED, EVIDENCE))
    assert "described as: A red bird" in told[-1].text
    for request in (
        Request("ask", "What is it?", RED, CLOSED_BOOK),
        Request("caption", "", RED, CLOSED_BOOK),
    ):
        blind = generator.generate([request, Request("ask", "Who?", None, EVIDENCE)])
        assert blind[0].abstained
        assert blind[0].trace["abstained"] == "the model reads no images, and there is no evidence"
        pieces, answer = streamed(generator, request)
        assert "".join(pieces) == answer.text == blind[0].text


def test_evidence_longer_than_the_context(folders: dict[str, Path], tmp_path: Path) -> None:
    """Positions beyond the context length raise no error and give nonsense."""
    folder = copied(folders["llava"], tmp_path / "short")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 1500
    (folder / "config.json").write_text(json.dumps(config))
    generator = ChatGenerator.load(folder)
    long = Hit(Entry("long", RED, ("The finch sings at dawn. " * 500,)), 0.5, Part("text"))
    request = Request("ask", "What is it?", BLUE, Evidence((long, HITS[0])))
    turns = generator.build_turns(request)
    assert generator.model.inputs([turns])["input_ids"].shape[1] <= 1500 - 12
    assert "Ruby Finch" in turns[-1].text
    generator.generate([request])
    with pytest.raises(InvalidInput, match="the model reads 1,488; shorten the question"):
        generator.generate([Request("ask", "why " * 1000, None, EVIDENCE)])


THINKING = chat_checkpoints.CHATML.replace(
    "assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"
)


def test_templates_that_open_a_thought(folders: dict[str, Path], tmp_path: Path) -> None:
    """The reasoning became the answer, and 128 tokens were too few for it."""
    request = Request("ask", "What is it?", None, EVIDENCE)
    folder = chat_checkpoints.qwen2(tmp_path / "thinker", template=THINKING)
    turns = ChatGenerator.load(folder).build_turns(request)
    chat_checkpoints.teach(folder, [(turns, "[2]? No.</think>Finch [1]")], steps=200)
    generator = ChatGenerator.load(folder)
    assert generator.model.template.opens_thought
    assert generator.token_limit("ask") == 12 + THINKING_TOKENS
    (answer,) = generator.generate([request])
    assert (answer.text, answer.citations) == ("Finch", ("finch",))
    pieces, streamed_answer = streamed(generator, request)
    assert "".join(pieces) == streamed_answer.text == "Finch"
    short = ChatGenerator.load(folder, max_tokens=6)
    for cut in (short.generate([request])[0], streamed(short, request)[1]):
        assert "used up its 6 tokens for thinking" in cut.text
        assert not cut.abstained
    assert short.fingerprint != generator.fingerprint
    assert not ChatGenerator.load(folders["qwen2"]).model.template.opens_thought


def test_a_reply_at_the_token_limit_is_marked(folders: dict[str, Path]) -> None:
    """An untrained model never ends by itself."""
    request = Request("chat", "What is it?", None, EVIDENCE, TALK)
    for limit in (5, 9):
        generator = ChatGenerator.load(folders["qwen2"], max_tokens=limit)
        (answer,) = generator.generate([request])
        assert answer.text.endswith("…")
        assert answer.trace["finish_reason"] == "length"
        assert streamed(generator, request)[1].text == answer.text
    with pytest.raises(InvalidInput, match="max_tokens is 0"):
        ChatGenerator.load(folders["qwen2"], max_tokens=0)


def test_thought_marks_that_are_special_tokens(tmp_path: Path) -> None:
    """Decoding dropped them, so that nothing told the thoughts from the answer."""
    folder = chat_checkpoints.qwen2(tmp_path / "marked")
    model = ChatModel.load(folder, "marked")
    model.tokenizer.add_special_tokens({"extra_special_tokens": ["<think>", "</think>"]})
    model._thought_marks = _special_thought_marks(model.tokenizer)
    ids = model.tokenizer("<think>a finch?</think>Finch<|im_end|>")["input_ids"]
    assert model._decode(ids) == "<think>a finch?</think>Finch"


# What is refused


@pytest.mark.parametrize("name", ["llava", "qwen2"])
def test_no_chat_template(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders[name], tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(
        Mismatch, match=r"has no chat template, .* instruction-tuned checkpoint .*-Instruct"
    ):
        ChatGenerator.load(folder)
    (folder / "chat_template.jinja").write_text("{{ messages[0].nothing.at_all }}")
    with pytest.raises(Mismatch, match="drops messages"):
        ChatGenerator.load(folder)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop(next(k for k in w if "mlp.down_proj" in k)), r"missing: .*mlp\.down_proj"),
        (lambda w: w.pop(next(k for k in w if "embed_tokens" in k)), r"missing: .*embed_tokens"),
        (lambda w: w.update(more=torch.zeros(2)), "unknown: more"),
        (
            lambda w: w.update({k: torch.zeros(3, 3) for k in list(w) if "q_proj.w" in k}),
            "of another shape: .*q_proj",
        ),
    ],
    ids=["a layer", "the words", "one too many", "a shape"],
)
def test_weights_that_do_not_fit(
    name: str,
    change: Callable[[dict[str, torch.Tensor]], Any],
    told: str,
    folders: dict[str, Path],
    tmp_path: Path,
) -> None:
    """Transformers initializes missing weights at random and only warns."""
    folder = copied(folders[name], tmp_path / "damaged")
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Mismatch, match=told):
        ChatGenerator.load(folder)


def test_other_checkpoints(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match='is a "clip" model, which cannot generate text'):
        ChatGenerator.load(encoders.clip(tmp_path / "clip"))
    with pytest.raises(NotFound, match="no folder"):
        ChatGenerator.load(tmp_path / "gone")
    eyeless = copied(folders["llava"], tmp_path / "eyeless")
    (eyeless / "processor_config.json").unlink()
    with pytest.raises(Mismatch, match="no usable processor"):
        ChatGenerator.load(eyeless)
    wordless = copied(folders["qwen2"], tmp_path / "wordless")
    (wordless / "tokenizer.json").unlink()
    with pytest.raises(Mismatch, match="no usable tokenizer"):
        ChatGenerator.load(wordless)


def test_certainty_is_the_mean_token_probability(folders: dict[str, Path]) -> None:
    model = ChatModel.load(folders["qwen2"], "qwen2")
    talk = [ChatTurn("user", ("What is it?",))]
    (said,) = model.complete([talk], SamplingParams(4))
    inputs = model.inputs([talk])
    ids, logs = inputs["input_ids"], []
    with torch.inference_mode():
        for _ in range(4):
            log = model.network(ids).logits[0, -1].log_softmax(-1)
            logs.append(log.max())
            ids = torch.cat([ids, log.argmax().view(1, 1)], dim=1)
            if int(ids[0, -1]) in model.end_tokens():
                break
    assert said.certainty == pytest.approx(float(torch.stack(logs).mean().exp()), rel=1e-4)
