"""Fine-tune a chat model with LoRA on requests with evidence, through ravlm's own prompts.

The reply with its citation marks is the only target. Sources: Hu et al. 2021 (LoRA,
arXiv:2106.09685), Zhang et al. 2024 (RAFT: right entries among distractors, arXiv:2403.10131).
"""

from __future__ import annotations

import inspect
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ravlm import runtime
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.generation.chat.prompts import ChatTurn
from ravlm.records import CLOSED_BOOK, Evidence
from ravlm.training.chat_examples import ChatExample, ChatExamples
from ravlm.training.fingerprint import fingerprint
from ravlm.training.lora import LoraConfig, TrainedWeights, add_adapter
from ravlm.training.reply_batches import (
    IGNORED,
    Replies,
    ReplyBatch,
    append_replies,
    decoder_replies,
    pack_replies,
)
from ravlm.training.trainer import AccumulatingStep


class ChatTuningStep(AccumulatingStep):
    """Next-token loss of the replies.

    `generator` builds the prompts; its network gets a LoRA adapter, which is all that is trained.
    With `pack` all replies of a prompt stand behind it, which saves time but suits only models
    whose positions are numbers in a row; without it each reply gets a prompt of its own, as in
    plain Transformers. `dtype` is that of the computation; None: the processor's best.
    """

    def __init__(
        self,
        generator: ChatGenerator,
        examples: ChatExamples,
        config: LoraConfig = LoraConfig(),  # noqa: B008 frozen
        held_out: Sequence[ChatExample] = (),
        accumulate: int = 1,
        pack: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.config = config
        self.generator = generator
        self.examples = examples
        self.held_out = held_out
        self.batch_size = examples.batch_size
        self.accumulate = accumulate
        self.network = add_adapter(generator.model.network, config)
        self.model = TrainedWeights(self.network)
        self._pack = pack
        self._dtype = dtype

    def fingerprint(self) -> str:
        chat = self.generator.model
        weights = chat.fingerprint if chat.folders else chat.name
        return fingerprint([vars(self.examples), self.held_out, weights])

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

    def part(
        self, index: int, generator: torch.Generator, rows: slice
    ) -> tuple[dict[str, Tensor], float]:
        seed = int(torch.randint(2**31, (), generator=generator))
        rng = random.Random(seed)  # noqa: S311 - not for secrets
        batch = self.examples.batch(index, rng)
        # a step may have fewer examples than the largest batch
        start, stop = (bound * len(batch) // self.batch_size for bound in (rows.start, rows.stop))
        examples = batch[start:stop]
        weight = self._count_tokens(examples) / self._count_tokens(batch)
        return {"loss": self.loss(examples)}, weight

    def loss(self, examples: Sequence[ChatExample]) -> Tensor:
        """Return the mean over all tokens of all replies.

        Examples with equally many images go through the network together."""
        if not self._pack:
            examples = [replace(e, replies=(reply,)) for e in examples for reply in e.replies]
        groups: dict[int, list[tuple[list[ChatTurn], ChatExample]]] = defaultdict(list)
        for example in examples:
            turns = self.generator.build_turns(example.request)
            groups[sum(len(turn.images) for turn in turns)].append((turns, example))
        num_tokens = self._count_tokens(examples)
        losses = []
        for group in groups.values():
            loss = self._group_loss([turns for turns, _ in group], [e for _, e in group])
            losses.append(loss * (self._count_tokens([e for _, e in group]) / num_tokens))
        return torch.stack(losses).sum()

    def _group_loss(
        self, prompts: Sequence[Sequence[ChatTurn]], examples: Sequence[ChatExample]
    ) -> Tensor:
        inputs = self.generator.model.inputs(prompts)
        replies = [[self._reply_ids(text) for text in example.replies] for example in examples]
        batch = self._make_batch(inputs, replies)
        device = self.generator.model.network.device
        labels = batch.labels.to(device)
        num_kept = labels.shape[1] - batch.prompt_length
        options: dict[str, Any] = {"use_cache": False}
        if self._pack or self._keeps_logits:
            options["logits_to_keep"] = num_kept
        with runtime.autocast(device, self._dtype):
            network_inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
            logits = self.network(**network_inputs, **options).logits
        labels = labels[:, -num_kept:]
        is_target = labels != IGNORED
        return nn.functional.cross_entropy(
            logits[:, -num_kept:][is_target].float(), labels[is_target]
        )

    @cached_property
    def _make_batch(self) -> Callable[[Mapping[str, Tensor], Replies], ReplyBatch]:
        if self.generator.model.is_encoder_decoder:
            return decoder_replies
        return pack_replies if self._pack else append_replies

    @cached_property
    def _keeps_logits(self) -> bool:
        """Whether the network can leave out the logits of the prompt."""
        return (
            "logits_to_keep" in inspect.signature(self.generator.model.network.forward).parameters
        )

    def _count_tokens(self, examples: Sequence[ChatExample]) -> int:
        return sum(len(self._reply_ids(text)) for e in examples for text in e.replies)

    def _reply_ids(self, text: str) -> list[int]:
        tokenizer = self.generator.model.tokenizer
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.generator.model.end_tokens()[0]]


def _with_evidence(example: ChatExample, evidence: Evidence) -> ChatExample:
    return replace(example, request=replace(example.request, evidence=evidence))
