"""Fine-tuning chat models: several replies behind one prompt, and only the adapter is trained."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from ravlm.errors import BrokenData, Mismatch, NotFound
from ravlm.generation.base import Request
from ravlm.generation.chat.adapters import merge_adapter
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.records import Entry, Evidence, Hit, Part
from ravlm.training.chat_examples import ChatExample, ChatExamples
from ravlm.training.chat_tuning import ChatTuningStep
from ravlm.training.lora import LoraConfig
from ravlm.training.reply_batches import pack_replies
from ravlm.training.trainer import LoopConfig, fit
from tests.helpers import chat_checkpoints

pytest.importorskip("peft")


def test_packed_replies_have_the_losses_of_separate_ones() -> None:
    """Each reply must see its prompt and nothing of the other replies."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    prompts = torch.tensor([[0, 0, 5, 6, 7], [11, 12, 13, 14, 15]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    replies = [[[20, 21, 22], [30, 31]], [[40], [41, 42, 43, 44], [45, 46]]]
    packed = pack_replies({"input_ids": prompts, "attention_mask": mask}, replies)
    with torch.no_grad():
        logits = model(**packed.inputs).logits
    is_target = packed.labels != -100
    packed_losses = F.cross_entropy(
        logits[is_target], packed.labels[is_target], reduction="none"
    ).tolist()

    separate = []
    for prompt, row_mask, row in zip(prompts, mask, replies, strict=True):
        start = prompt[row_mask.bool()].tolist()
        for reply in row:
            ids = torch.tensor([[*start, *reply]])
            with torch.no_grad():
                scores = model(input_ids=ids).logits[0, len(start) - 1 : -1]
            separate += F.cross_entropy(scores, torch.tensor(reply), reduction="none").tolist()
    assert packed_losses == pytest.approx(separate, abs=1e-4)


class ColorExamples(ChatExamples):
    """Which of two entries has the color? The values change in every example."""

    batch_size = 4
    colors = ("red", "blue", "green", "white")

    def example(self, rng: random.Random) -> ChatExample:
        color = rng.choice(self.colors)
        entry = Entry("a", texts=(f"color: {color}",))
        hits = (Hit(entry, 1.0, Part("text", 0, entry.text)),)
        request = Request("ask", "What color is it?", evidence=Evidence(hits))
        return ChatExample(request, (f"{color} [1]",))

    def batch(self, index: int, rng: random.Random) -> list[ChatExample]:
        return [self.example(rng) for _ in range(self.batch_size)]


def test_only_the_adapter_is_trained_and_saved(tmp_path: Path) -> None:
    folder = chat_checkpoints.qwen2(tmp_path / "qwen2")
    generator = ChatGenerator.load(folder)
    before = {name: p.clone() for name, p in generator.model.network.named_parameters()}
    held_out = ColorExamples().batch(0, random.Random(1))
    step = ChatTuningStep(generator, ColorExamples(), LoraConfig(r=4), held_out)
    config = LoopConfig(8, learning_rate=1e-2, save_every=4, log_every=2)
    fit(step, config, tmp_path / "run")
    after = dict(step.network.base_model.model.named_parameters())
    for name, weight in before.items():
        parent, _, kind = name.rpartition(".")
        same = after.get(name, after.get(f"{parent}.base_layer.{kind}"))
        assert same is not None
        assert torch.equal(same, weight)
    assert all("lora" in name for name, _ in step.model.named_parameters())
    assert any(float(p.abs().sum()) > 0 for n, p in step.model.named_parameters() if "lora_B" in n)
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(f'"loss, {arm} evidence"' in lines[-1] for arm in ("right", "shuffled", "none"))


def test_a_saved_adapter_is_merged(tmp_path: Path) -> None:
    """The merged weights give the tuned network's output."""
    folder = chat_checkpoints.qwen2(tmp_path / "qwen2")
    generator = ChatGenerator.load(folder)
    step = ChatTuningStep(generator, ColorExamples(), LoraConfig(r=4))
    with torch.no_grad():
        for name, weight in step.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    step.network.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        expected = step.network.eval()(input_ids=ids).logits
        plain = ChatGenerator.load(folder).model.network
        before = plain(input_ids=ids).logits
        merged = merge_adapter(plain, tmp_path / "adapter")(input_ids=ids).logits
    torch.testing.assert_close(merged.float(), expected.float(), atol=0.05, rtol=0.05)
    assert not torch.allclose(before.float(), expected.float(), atol=0.1)


def test_adapters_that_do_not_fit(tmp_path: Path) -> None:
    folder = chat_checkpoints.qwen2(tmp_path / "qwen2")
    network = ChatGenerator.load(folder).model.network
    with pytest.raises(NotFound, match="no adapter_config"):
        merge_adapter(network, tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text('{"peft_type": "IA3"}', encoding="utf-8")
    with pytest.raises(Mismatch, match="only LORA"):
        merge_adapter(network, tmp_path)
    config.write_text('{"peft_type": "LORA", "target_modules": ["q_proj"]}', encoding="utf-8")
    with pytest.raises(NotFound, match="no adapter_model"):
        merge_adapter(network, tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BrokenData, match="damaged"):
        merge_adapter(network, tmp_path)
