"""Fine-tuning chat models by `train_generator`: equal to plain PEFT, saved, resumed, compared."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ravlm
from ravlm import runtime
from ravlm.cli import main
from ravlm.errors import BrokenData, InvalidInput, RavlmError
from ravlm.generation.auto import load_generator
from ravlm.generation.base import Request
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry, Evidence, Hit, Part
from ravlm.training.before_after import AnswerPair, compare_answers, table
from ravlm.training.chat_examples import ChatExample
from ravlm.training.chat_generator import LoraTrainingConfig
from ravlm.training.chat_tuning import ChatTuningStep
from ravlm.training.generator import train_generator
from ravlm.training.grounded_examples import GroundedExample, GroundedExamples
from ravlm.training.lora import LoraConfig, default_learning_rate
from ravlm.training.training_examples import TrainingExample
from tests.helpers import chat_checkpoints
from tests.helpers.fakes import FakeEncoder
from tests.helpers.family_checkpoints import t5
from tests.helpers.training_data import FactExamples

peft = pytest.importorskip("peft")
NAMES = ("Kilume", "Batedo", "Sarivu", "Menoki", "Dolusa", "Lukido", "Teviba", "Norime")
SMALL = LoraTrainingConfig(
    epochs=2, batch_size=4, r=2, num_evidence=2, num_candidates=4, max_compared=2, bf16=False
)


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, KnowledgeBase]]:
    """A folder with questions about eight towers, a tiny chat model, and their base."""
    folder = tmp_path_factory.mktemp("towers")
    chat_checkpoints.qwen2(folder / "qwen2")
    rows = [
        {"question": f"How tall is the tower {name}?", "answer": f"{101 + 11 * i} m"}
        for i, name in enumerate(NAMES)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries = [
        Entry(name, text=f"Name: {name}\nHeight: {101 + 11 * i} m") for i, name in enumerate(NAMES)
    ]
    with KnowledgeBase.build(folder / "kb", entries, encoder=FakeEncoder()) as kb:
        yield folder, kb


def plain_loss(
    network: Any, generator: ChatGenerator, examples: Sequence[ChatExample]
) -> torch.Tensor:
    """Return the loss as a plain loop over Transformers computes it: the processor's inputs, the
    reply behind them, labels of -100 on the prompt, one example at a time."""
    losses, num_tokens = [], 0
    for example in examples:
        inputs = generator.model.inputs([generator.build_turns(example.request)])
        reply = generator.model.tokenizer(example.replies[0], add_special_tokens=False)
        ids = torch.tensor([[*reply["input_ids"], generator.model.end_tokens()[0]]])
        num_tokens += ids.shape[1]
        if generator.model.is_encoder_decoder:
            losses.append(network(**inputs, labels=ids).loss * ids.shape[1])
            continue
        prompt = inputs["input_ids"]
        for name, values in inputs.items():
            if values.shape == prompt.shape:
                tail = (
                    ids if name == "input_ids" else torch.full_like(ids, name == "attention_mask")
                )
                inputs[name] = torch.cat([values, tail], dim=1)
        labels = torch.cat([torch.full_like(prompt, -100), ids], dim=1)
        losses.append(network(**inputs, labels=labels).loss * ids.shape[1])
    return torch.stack(losses).sum() / num_tokens


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "smolvlm", "qwen2", "t5"])
def test_a_step_equals_plain_peft_and_transformers(family: str, tmp_path: Path) -> None:
    """Padding, groups of images, positions and labels change nothing: one step of AdamW ends with
    the same weights to 1e-6."""
    make = t5 if family == "t5" else chat_checkpoints.CHAT_MODELS[family]
    folder = make(tmp_path / family)
    layers = ["q", "v"] if family == "t5" else ["q_proj", "v_proj"]
    weights = []
    examples = FactExamples().batch(0, random.Random(3))[:4]
    for is_plain in (False, True):
        generator = ChatGenerator.load(folder, dtype=torch.float32)
        torch.manual_seed(1)
        if is_plain:
            network = generator.model.network
            network = peft.get_peft_model(network, peft.LoraConfig(r=2, target_modules=layers))
            trained = {n.replace(".", "/"): p for n, p in network.named_parameters()}
            trained = {n: p for n, p in trained.items() if p.requires_grad}
        else:
            config = LoraConfig(r=2, lora_alpha=8, target_modules=tuple(layers))
            step = ChatTuningStep(
                generator, FactExamples(), config, pack=False, dtype=torch.float32
            )
            trained = dict(step.model.named_parameters())
        with torch.no_grad():
            for _, weight in sorted(trained.items()):
                weight.normal_(std=0.1)
        loss = plain_loss(network, generator, examples) if is_plain else step.loss(examples)
        loss.backward()
        torch.optim.AdamW(trained.values(), lr=1e-3).step()
        weights.append((loss.detach(), {n: p.detach() for n, p in trained.items()}))
    (loss, ours), (expected_loss, expected) = weights
    assert float(loss) == pytest.approx(float(expected_loss), abs=1e-6)
    assert ours.keys() == expected.keys()
    assert len(ours) >= 8
    for name, weight in expected.items():
        torch.testing.assert_close(ours[name], weight, atol=1e-6, rtol=0, msg=name)


def outputs(generator: ChatGenerator) -> torch.Tensor:
    with torch.no_grad():
        return generator.model.network(input_ids=torch.tensor([[3, 4, 5, 6]])).logits.float()


def test_an_adapter_is_trained_saved_and_loaded(
    towers: tuple[Path, KnowledgeBase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MODEL+FOLDER and the merged folder are the trained model; the base is not touched."""
    monkeypatch.setattr(runtime, "inference_dtype", lambda target: torch.float32)
    folder, kb = towers
    out = tmp_path / "out"
    lines: list[str] = []
    config = replace(SMALL, merge=True, gradient_checkpointing=True, held_out=0.25)
    model = ravlm.train_generator(
        folder / "qwen2", folder / "questions.jsonl", kb, out, config, report=lines.append
    )
    tuned = outputs(model)
    assert not torch.allclose(tuned, outputs(ChatGenerator.load(folder / "qwen2")), atol=1e-3)
    for name in (f"{folder / 'qwen2'}+{out}", str(out), str(out / "merged")):
        torch.testing.assert_close(outputs(load_generator(name, kb)), tuned, atol=1e-4, rtol=1e-4)
    ravlm.merge_adapter(out, tmp_path / "merged")
    merged = load_generator(str(tmp_path / "merged"), kb)
    torch.testing.assert_close(outputs(merged), tuned, atol=1e-4, rtol=1e-4)

    settings = json.loads((out / "training.json").read_text())
    assert (settings["r"], settings["learning_rate"]) == (2, 1e-3)  # by the size of the model
    changes = json.loads((out / "comparison.json").read_text())
    assert {change["metric"] for change in changes} >= {
        "answers: right and cited",
        "declined, entry gone",
    }
    assert all(change["n"] == 2 for change in changes)
    assert any("answers: right" in line and "[" in line for line in lines)
    assert (out / "lora" / "log.jsonl").is_file()
    with pytest.raises(InvalidInput, match="already contains a trained adapter"):
        train_generator(str(folder / "qwen2"), folder / "questions.jsonl", kb, out, SMALL)
    with pytest.raises(InvalidInput, match=r"has an adapter already.*ravlm\.merge_adapter"):
        train_generator(out, folder / "questions.jsonl", kb, tmp_path / "new", SMALL)


def test_a_killed_training_goes_on_to_the_same_weights(
    towers: tuple[Path, KnowledgeBase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout in the adapter; the second run goes on behind the last save."""
    folder, kb = towers
    config = replace(SMALL, epochs=6, lora_dropout=0.2, max_compared=0)
    monkeypatch.setattr(LoraTrainingConfig, "min_save_interval", 2)
    questions = folder / "questions.jsonl"
    whole = train_generator(folder / "qwen2", questions, kb, tmp_path / "whole", config)

    batch, calls = GroundedExamples.batch, []

    def stop_at_fifth(self: GroundedExamples, index: int, rng: random.Random) -> Any:
        calls.append(index)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return batch(self, index, rng)

    monkeypatch.setattr(GroundedExamples, "batch", stop_at_fifth)
    with pytest.raises(KeyboardInterrupt):
        train_generator(folder / "qwen2", questions, kb, tmp_path / "killed", config)
    assert not (tmp_path / "killed" / "adapter_config.json").exists()
    resumed = train_generator(folder / "qwen2", questions, kb, tmp_path / "killed", config)
    assert calls[6:][0] == 4
    files = [tmp_path / name / "adapter_model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert torch.equal(outputs(whole), outputs(resumed))


def test_what_cannot_be_trained(towers: tuple[Path, KnowledgeBase], tmp_path: Path) -> None:
    folder, kb = towers
    qwen2, questions = folder / "qwen2", folder / "questions.jsonl"
    with pytest.raises(InvalidInput, match="tuned on evidence; pass kb="):
        train_generator(qwen2, questions, None, tmp_path / "out")
    lost = [{"question": "How tall?", "answer": "7 miles"}] * 4
    with pytest.raises(InvalidInput, match="no entry has their answer; name it"):
        train_generator(qwen2, lost, kb, tmp_path / "out", SMALL)
    with pytest.raises(InvalidInput, match="There are no examples to train on"):
        train_generator(qwen2, [], kb, tmp_path / "out", SMALL)
    with pytest.raises(RavlmError, match='quantize="4bit" needs an NVIDIA GPU'):
        train_generator(qwen2, questions, kb, tmp_path / "out", replace(SMALL, quantize="4bit"))
    config = replace(SMALL, target_modules=("no_such_layer",))
    with pytest.raises(InvalidInput, match="The adapter can't be added to this model"):
        train_generator(qwen2, questions, kb, tmp_path / "out", config)
    with pytest.raises(InvalidInput, match='"extractive" can\'t be trained'):
        train_generator(load_generator("extractive", kb), questions, kb, tmp_path / "out")
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    (tmp_path / "bad.jsonl").write_text('{"question": "Why?"}\n')
    with pytest.raises(BrokenData, match="line 1: It has no answer"):
        train_generator(qwen2, tmp_path / "bad.jsonl", kb, tmp_path / "out", SMALL)


def test_the_command(
    towers: tuple[Path, KnowledgeBase],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, kb = towers
    open_base = KnowledgeBase.open
    monkeypatch.setattr(KnowledgeBase, "open", lambda path: open_base(path, encoder=FakeEncoder()))
    base = ["train", "generator", "--examples", str(folder / "questions.jsonl")]
    base += ["--generator", str(folder / "qwen2"), "--out", str(tmp_path / "out")]
    assert main([*base, "--kb", str(kb.path), "--min-frequency", "5"]) == 2
    assert "--min-frequency is for captioners" in capsys.readouterr().err
    assert main(base) == 2
    assert "Pass --kb" in capsys.readouterr().err
    options = ["--epochs", "1", "--r", "2", "-k", "2", "--batch-size", "4", "--held-out", "0.25"]
    assert main([*base, "--kb", str(kb.path), *options]) == 0
    output = capsys.readouterr()
    assert f"--generator {folder / 'qwen2'}+{tmp_path / 'out'}" in output.out
    assert "held-out examples" in output.err
    assert (tmp_path / "out" / "lora" / "curve.png").is_file()


def test_gain_harm_and_abstention_are_compared() -> None:
    """Four questions: one gained, one harmed; the entry is cited; all decline when it is gone."""
    hit = Hit(Entry("a", text="It is red."), 1.0, Part("text", 0, "It is red."))
    request = Request("ask", "What color?", evidence=Evidence((hit,)))
    example = GroundedExample(TrainingExample("What color?", ("red",)), request, (hit,), ())
    right = ravlm.Answer("red", (hit,), citations=("a",))
    wrong, uncited = ravlm.Answer("blue", (hit,)), ravlm.Answer("red", (hit,))
    absent = ravlm.Answer("not in the knowledge base", abstained=True)
    before = [AnswerPair(answer, wrong) for answer in (wrong, right, uncited, uncited)]
    after = [AnswerPair(answer, absent) for answer in (right, wrong, right, absent)]
    changes = {c.metric: c for c in compare_answers([example] * 4, before, after)}
    accuracy = changes["answers: right"]
    assert (accuracy.before, accuracy.after, accuracy.n) == (0.75, 0.5, 4)
    assert (accuracy.gain, accuracy.harm) == (0.25, 0.5)
    assert accuracy.low <= accuracy.difference <= accuracy.high
    cited = changes["answers: right and cited"]
    assert (cited.before, cited.after) == (0.25, 0.5)
    assert (changes["declined, entry there"].after, changes["declined, entry gone"].after) == (
        0.25,
        1,
    )
    assert len(table(list(changes.values()))) == 5
    assert table([]) == []


def test_the_learning_rate_follows_the_size_of_the_model() -> None:
    assert default_learning_rate(30_000) == 1e-3
    assert default_learning_rate(7_000_000_000) == pytest.approx(1.39e-4, rel=0.01)
    assert default_learning_rate(70_000_000_000) == 1e-4
