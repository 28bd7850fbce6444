"""Examples that a chat model is fine-tuned on: requests with evidence, and the right replies."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass

from ravlm.generation.base import Request


@dataclass(frozen=True)
class ChatExample:
    """A request with its evidence, and the right replies; `[n]` cites the n-th hit."""

    request: Request
    replies: tuple[str, ...]


class ChatExamples(ABC):
    """The training data: a batch for each step."""

    batch_size: int
    """Examples of a step; the largest number if it varies."""

    @abstractmethod
    def batch(self, index: int, rng: random.Random) -> list[ChatExample]:
        """Return the examples of step `index`; all randomness comes from `rng`."""
