"""Fine-tune a chat model with LoRA on requests with evidence, through ravlm's own prompts.

The reply with its citation marks is the only target. Sources: Hu et al. 2021 (LoRA,
arXiv:2106.09685), Zhang et al. 2024 (RAFT: right entries among distractors, arXiv:2403.10131).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ravlm import runtime
from ravlm.errors import MissingExtra
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.records import CLOSED_BOOK, Evidence
from ravlm.training.chat_examples import ChatExample, ChatExamples
from ravlm.training.trainer import TrainingStep

_LENGTH_STEP = 32
"""Batches are padded to a multiple: few shapes, since oneDNN compiles a kernel for each."""
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoraConfig:
    """The adapter."""

    rank: int = 16
    alpha: int = 32
    target_modules: tuple[str, ...] = _PROJECTIONS
    trained_modules: tuple[str, ...] = ()
    """Modules that are trained as a whole and saved with the adapter."""


@dataclass(frozen=True)
class PackedReplies:
    """Prompts, padded on the left, with all replies of each behind them, padded on the right.

    A reply sees its prompt and itself, but not the other replies.
    """

    input_ids: Tensor
    """(n, tokens)"""
    mask: Tensor
    """Which tokens (column) a token (row) sees, bool (n, 1, tokens, tokens)."""
    positions: Tensor
    """(n, tokens); each reply continues its prompt's."""
    labels: Tensor
    """The next token of each token (n, tokens); -100 where nothing is to be learned."""
    prompt_length: int
    """Tokens before the replies, the same for all rows."""


class ChatTuningStep(TrainingStep):
    """Next-token loss of the replies.

    `generator` builds the prompts; its network gets a LoRA adapter, which is all that is trained.
    """

    def __init__(
        self,
        generator: ChatGenerator,
        examples: ChatExamples,
        config: LoraConfig = LoraConfig(),
        held_out: Sequence[ChatExample] = (),
    ) -> None:
        self.generator = generator
        self.examples = examples
        self.held_out = held_out
        self.network = add_adapter(generator.model.network, config)
        self.model = TrainedWeights(self.network)

    def held_out_figures(self) -> dict[str, float]:
        """Return the losses of the held-out examples: with their own evidence, with that of other
        examples, and with none. A model that reads its evidence loses by both changes."""
        examples = list(self.held_out)
        if not examples:
            return {}
        others = [*examples[1:], examples[0]]
        shuffled = [
            _with_evidence(example, other.request.evidence)
            for example, other in zip(examples, others, strict=True)
        ]
        without = [_with_evidence(example, CLOSED_BOOK) for example in examples]
        arms = {"right": examples, "shuffled": shuffled, "none": without}
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad():
            figures = {f"loss, {name} evidence": self._mean_loss(arm) for name, arm in arms.items()}
        self.model.train(was_training)
        return figures

    def _mean_loss(self, examples: Sequence[ChatExample], batch_size: int = 8) -> float:
        starts = range(0, len(examples), batch_size)
        losses = [float(self.loss(examples[start : start + batch_size])) for start in starts]
        return sum(losses) / len(losses)

    def evaluate(self) -> dict[str, float]:
        return self.held_out_figures()

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        seed = int(torch.randint(2**31, (), generator=generator))
        rng = random.Random(seed)  # noqa: S311 - not for secrets
        return {"loss": self.loss(self.examples.batch(index, rng))}

    def loss(self, examples: Sequence[ChatExample]) -> Tensor:
        """Return the mean over all tokens of all replies."""
        chat = self.generator.model
        prompts = [self.generator.build_turns(example.request) for example in examples]
        inputs = chat.inputs(prompts)
        replies = [[self._reply_ids(text) for text in example.replies] for example in examples]
        packed = pack_replies(inputs.pop("input_ids"), inputs.pop("attention_mask"), replies)
        device = chat.network.device
        num_reply_tokens = packed.input_ids.shape[1] - packed.prompt_length
        with runtime.autocast(device):
            logits = self.network(
                input_ids=packed.input_ids.to(device),
                attention_mask=packed.mask.to(device),
                position_ids=packed.positions.to(device),
                logits_to_keep=num_reply_tokens,
                use_cache=False,
                **inputs,
            ).logits
        labels = packed.labels[:, -num_reply_tokens:].to(device)
        is_target = labels != -100
        return nn.functional.cross_entropy(logits[is_target].float(), labels[is_target])

    def _reply_ids(self, text: str) -> list[int]:
        tokenizer = self.generator.model.tokenizer
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.generator.model.end_tokens()[0]]


def _with_evidence(example: ChatExample, evidence: Evidence) -> ChatExample:
    return replace(example, request=replace(example.request, evidence=evidence))


class TrainedWeights(nn.Module):
    """The trainable parameters of a network as a module of their own, so that checkpoints hold
    nothing else."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._networks = [network]  # not registered as a submodule
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                self.register_parameter(name.replace(".", "/"), parameter)

    def train(self, mode: bool = True) -> TrainedWeights:
        for network in self._networks:
            network.train(mode)
        return super().train(mode)


def add_adapter(network: nn.Module, config: LoraConfig) -> Any:
    """Return `network` with a new LoRA adapter in single precision; all else is frozen.

    Raises MissingExtra without PEFT.
    """
    try:
        import peft
    except ImportError:
        raise MissingExtra("peft", "train", "Fine-tuning with LoRA") from None
    adapter = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=list(config.target_modules),
        modules_to_save=list(config.trained_modules) or None,
    )
    tuned = peft.get_peft_model(network, adapter, autocast_adapter_dtype=True)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return tuned


def pack_replies(
    prompts: Tensor, prompt_mask: Tensor, replies: Sequence[Sequence[Sequence[int]]]
) -> PackedReplies:
    """Put the replies of each prompt behind it. `prompts` and `prompt_mask` (n, p) are padded on
    the left; `replies` are token ids, all with an end token.

    The prompt's last token, which is to predict a reply's first, stands before each reply.
    """
    last = prompts[:, -1].tolist()
    replies = [[[t, *r] for r in row] for t, row in zip(last, replies, strict=True)]
    prompts, prompt_mask = prompts[:, :-1], prompt_mask[:, :-1]
    padding = -prompts.shape[1] % _LENGTH_STEP
    prompts = nn.functional.pad(prompts, (padding, 0))
    prompt_mask = nn.functional.pad(prompt_mask, (padding, 0)).bool()
    n, p = prompts.shape
    longest = max(sum(map(len, row)) for row in replies)
    tokens = p + longest + -longest % _LENGTH_STEP
    ids = torch.zeros(n, tokens, dtype=torch.long)
    ids[:, :p] = prompts
    labels = torch.full((n, tokens), -100)
    segments = torch.full((n, tokens), -1)  # -1: padding, 0: prompt, 1 ...: replies
    segments[:, :p][prompt_mask] = 0
    positions = torch.zeros(n, tokens, dtype=torch.long)
    positions[:, :p] = (prompt_mask.cumsum(1) - 1).clamp(min=0)
    for row, row_replies in enumerate(replies):
        start, length = p, int(prompt_mask[row].sum())
        for number, reply in enumerate(row_replies, 1):
            end = start + len(reply)
            ids[row, start:end] = torch.tensor(reply)
            segments[row, start:end] = number
            positions[row, start:end] = length + torch.arange(len(reply))
            labels[row, start : end - 1] = ids[row, start + 1 : end]
            start = end
    mask = _visible(segments)
    return PackedReplies(ids, mask, positions, labels, p)


def _visible(segments: Tensor) -> Tensor:
    """Return which tokens see which, (n, 1, tokens, tokens): earlier ones of the prompt and of the
    same segment, and every token itself."""
    tokens = segments.shape[1]
    same = segments[:, :, None] == segments[:, None, :]
    is_prompt = (segments == 0)[:, None, :]
    is_token = (segments >= 0)[:, None, :]
    earlier = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    visible = (same | is_prompt) & is_token & earlier
    return (visible | torch.eye(tokens, dtype=torch.bool))[:, None]
