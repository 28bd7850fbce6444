"""What a decoder may look at beside the words so far: the picture's states and the evidence's.

All states are of the decoder's width. Knows no tower and no knowledge base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class FusionInputs(ModelOutput):
    """A batch of pictures with their evidence. It is a ModelOutput so that Transformers' `generate`
    repeats its rows for beams and samples as it does an encoder's output."""

    last_hidden_state: Any = None
    """The picture's states (b, p, d); p is 0 where there is no picture."""
    evidence: Tensor | None = None
    """States of the evidence's tokens (b, k, l, d); None for the closed book."""
    mask: Tensor | None = None
    """(b, k, l), True where there is a token."""
    prior: Tensor | None = None
    """(b, k) log p(z|x): how likely each entry is the right one; -inf where there is none."""

    @property
    def picture(self) -> Tensor:
        """The picture's states (b, p, d)."""
        return self.last_hidden_state

    def flat(self) -> tuple[Tensor, Tensor | None]:
        """Picture and evidence one after the other: states (b, p + k l, d), and the mask (b, p + k
        l) or None."""
        if self.evidence is None or self.mask is None:
            return self.picture, None
        rows, p = self.picture.shape[:2]
        states = torch.cat([self.picture, self.evidence.flatten(1, 2)], dim=1)
        seen = self.mask.new_ones((rows, p))
        return states, torch.cat([seen, self.mask.flatten(1)], dim=1)

    def one_each(self) -> FusionInputs:
        """An entry a row: b k rows with one entry of evidence each."""
        if self.evidence is None or self.mask is None:
            return self
        k = self.evidence.shape[1]
        return FusionInputs(
            self.picture.repeat_interleave(k, 0),
            self.evidence.flatten(0, 1)[:, None],
            self.mask.flatten(0, 1)[:, None],
        )
