"""Helpers of token-by-token generation: sampling parameters, certainty, streaming, seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria
from transformers.generation import BaseStreamer

from ravlm.generation.chat.reply import partial_mark_length

_MODEL_SETTINGS = (
    "bos_token_id", "decoder_start_token_id", "forced_bos_token_id", "repetition_penalty",
    "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens",
)  # fmt: skip
"""Settings of a checkpoint that its replies need."""
_SAMPLING_SETTINGS = ("top_p", "min_p")
"""Settings of a checkpoint for sampled replies."""


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen."""

    max_tokens: int
    temperature: float = 0.0
    """0 takes the most likely token each time."""
    seed: int = 0


class CertaintyRecorder(LogitsProcessor):
    """Records the log-probabilities of the chosen tokens; leaves the scores unchanged."""

    def __init__(self) -> None:
        self._last: Tensor | None = None  # (n, vocabulary)
        self._log_probs: list[Tensor] = []  # (n,) each

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._last is not None:
            self._log_probs.append(self._last.gather(1, input_ids[:, -1:])[:, 0])
        self._last = scores.float().log_softmax(dim=-1)
        return scores

    @property
    def num_steps(self) -> int:
        """Number of tokens that were chosen."""
        return len(self._log_probs) + (self._last is not None)

    def certainty(self, ids: Tensor, end_tokens: Sequence[int]) -> list[float]:
        """Return the geometric mean of the token probabilities of each row of `ids` (n, t), up to
        its end token."""
        if self._last is None or not ids.shape[1]:
            return [0.0] * len(ids)
        last = self._last.gather(1, ids[:, -1:])[:, 0]
        log_probs = torch.stack([*self._log_probs, last], dim=1)  # (n, t)
        is_end = torch.isin(ids, torch.tensor(list(end_tokens), device=ids.device)).long()
        mask = (is_end.cumsum(dim=1) - is_end) == 0  # up to the first end token
        mean = log_probs.masked_fill(~mask, 0).sum(dim=1) / mask.sum(dim=1)
        return mean.exp().tolist()


class QueueStreamer(BaseStreamer):
    """Passes each new token to another thread."""

    def __init__(self, tokens: SimpleQueue[int | None]) -> None:
        self._tokens = tokens
        self._is_prompt = True  # Transformers passes the prompt first

    def put(self, value: Tensor) -> None:
        if not self._is_prompt:
            for token in value.flatten().tolist():
                self._tokens.put(token)
        self._is_prompt = False

    def end(self) -> None:
        """The thread itself signals the end."""


class StopOnEvent(StoppingCriteria):
    """Stops all rows as soon as the event is set."""

    def __init__(self, event: Event) -> None:
        self._event = event

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        return torch.full((len(input_ids),), self._event.is_set(), device=input_ids.device)


class DecodingSettings:
    """How replies of a network are decoded: greedily or sampled, token by token.

    Of the settings in the checkpoint's generation_config.json it keeps those that belong to the
    model: what ends a reply, and which tokens are suppressed. How tokens are searched for (beams,
    contrastive search, assistants) and what is returned is up to ravlm."""

    def __init__(self, network: Any, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # BLIP-2 and its like leave the generation to a language model with settings of its own.
        self._owners = [m for m in network.modules() if "generation_config" in vars(m)]
        values: dict[str, Any] = {}
        for owner in reversed(self._owners):  # the outermost counts
            config = owner.generation_config
            keys = [*_MODEL_SETTINGS, *_SAMPLING_SETTINGS, "eos_token_id", "stop_strings"]
            values |= {k: v for k in keys if (v := getattr(config, k, None)) is not None}
        self.end_tokens: list[int] = _as_list(values.pop("eos_token_id", tokenizer.eos_token_id))
        """The tokens that end a reply."""
        self.stop_strings: list[str] = [s for s in _as_list(values.pop("stop_strings", None)) if s]
        """The texts that end a reply."""
        self._settings = values

    @property
    def final_tokens(self) -> list[int]:
        """The tokens that stand at or after the end of a reply."""
        padding = [self._tokenizer.pad_token_id] if self.stop_strings else []
        return [*self.end_tokens, *padding]

    def options(self, params: SamplingParams, max_tokens: int) -> dict[str, Any]:
        """Return the options of Transformers' `generate`."""
        is_sampled = params.temperature > 0
        settings = {
            key: value
            for key, value in self._settings.items()
            if is_sampled or key not in _SAMPLING_SETTINGS
        }
        config = GenerationConfig(
            max_new_tokens=max_tokens,
            do_sample=is_sampled,
            temperature=params.temperature or None,
            top_k=0 if is_sampled else None,
            eos_token_id=self.end_tokens or None,
            pad_token_id=self._tokenizer.pad_token_id,
            stop_strings=self.stop_strings or None,
            **settings,
        )
        options: dict[str, Any] = {"generation_config": config}
        return options | ({"tokenizer": self._tokenizer} if self.stop_strings else {})

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Hide the checkpoint's own settings, which Transformers takes wherever a value is None."""
        configs = [owner.generation_config for owner in self._owners]
        for owner in self._owners:
            owner.generation_config = GenerationConfig()
        try:
            yield
        finally:
            for owner, config in zip(self._owners, configs, strict=True):
                owner.generation_config = config

    def before_stop(self, text: str, is_partial: bool = False) -> str:
        """Return a reply without the text that ends it, and, if it `is_partial`, without what may
        be the beginning of that."""
        positions = [text.find(stop) for stop in self.stop_strings]
        end = min((position for position in positions if position >= 0), default=len(text))
        if is_partial and end == len(text) and self.stop_strings:
            end -= partial_mark_length(text, tuple(self.stop_strings))
        return text[:end]


def _as_list(value: Any) -> list[Any]:
    """Return a setting that may be one value, several or None as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


@contextmanager
def seeded(params: SamplingParams) -> Iterator[None]:
    """Seed torch's generators within the block, if anything is sampled, and restore them."""
    if params.temperature <= 0:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(params.seed)
        yield
