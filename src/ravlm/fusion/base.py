"""The interface of a fusion: a decoder, and a way for a picture and evidence to enter it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Cache

from ravlm.fusion.inputs import FusionInputs


@dataclass(frozen=True)
class Decoded:
    """What a decoder says after some words."""

    logits: Tensor
    """(n, t, vocabulary): of the next word after each; log-probabilities where entries are
    mixed."""
    cache: Cache | None = None


class Fusion(ABC):
    """A causal language model (`decoder`, of Transformers' interface) with sources before or beside
    its words.

    `ids` (n, t): words. `mask` (n, past + t): which of them count, None for all. n is the number of
    the sources' rows, or a multiple of it: then neighbouring rows share a row of the sources."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder

    @abstractmethod
    def __call__(
        self,
        ids: Tensor,
        mask: Tensor | None,
        sources: FusionInputs,
        cache: Cache | None = None,
        use_cache: bool = False,
    ) -> Decoded:
        """What comes after each word."""

    def loss(
        self, ids: Tensor, labels: Tensor, sources: FusionInputs, smoothing: float = 0.0
    ) -> Tensor:
        """The mean negative log-likelihood of `labels` (n, t) after the words `ids` (n, t); -100
        counts nowhere."""
        there = labels != -100
        logits = self(ids, None, sources).logits[there]
        return F.cross_entropy(logits.float(), labels[there], label_smoothing=smoothing)


def repeated(sources: FusionInputs, rows: int) -> FusionInputs:
    """Sources with each row as often as makes `rows` in all."""
    times = rows // max(1, sources.picture.shape[0])
    if times == 1:
        return sources
    return FusionInputs(
        **{name: tensor.repeat_interleave(times, 0) for name, tensor in sources.items()}
    )


def words_seen(mask: Tensor | None, ids: Tensor, past: int) -> Tensor:
    """The mask (n, past + t) of words, of ones where none is given."""
    if mask is not None:
        return mask
    return torch.ones((ids.shape[0], past + ids.shape[1]), device=ids.device, dtype=torch.bool)
