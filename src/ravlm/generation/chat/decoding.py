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
from transformers import LogitsProcessor, StoppingCriteria
from transformers.generation import BaseStreamer


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


@contextmanager
def seeded(params: SamplingParams) -> Iterator[None]:
    """Seed torch's generators within the block, if anything is sampled, and restore them."""
    if params.temperature <= 0:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(params.seed)
        yield
