"""The inputs of a fusion next to the tokens: states of the image and of the evidence, all as wide
as the decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class FusionInputs(ModelOutput):
    """A batch of b images with k entries of evidence each.

    It is a ModelOutput so that Transformers' `generate` repeats its rows for beams and samples as
    it repeats an encoder's output."""

    last_hidden_state: Any = None
    """The image's states (b, p, d), under the name that `generate` expects; p is 0 without an
    image."""
    evidence_states: Tensor | None = None
    """States of the evidence's tokens (b, k, l, d); None for the closed book."""
    evidence_mask: Tensor | None = None
    """(b, k, l), True for a token and False for padding."""
    log_prior: Tensor | None = None
    """log p(z|x) (b, k): how likely each entry is the right one; -inf for a missing entry."""

    @property
    def image_states(self) -> Tensor:
        """The image's states (b, p, d)."""
        return self.last_hidden_state

    def joined(self) -> tuple[Tensor, Tensor | None]:
        """Return image and evidence as one sequence.

        States are (b, p + k l, d); the mask is (b, p + k l), or None without evidence."""
        if self.evidence_states is None or self.evidence_mask is None:
            return self.image_states, None
        rows, p = self.image_states.shape[:2]
        states = torch.cat([self.image_states, self.evidence_states.flatten(1, 2)], dim=1)
        image_mask = self.evidence_mask.new_ones((rows, p))
        return states, torch.cat([image_mask, self.evidence_mask.flatten(1)], dim=1)

    def split_entries(self) -> FusionInputs:
        """Return b k rows, each with one entry of evidence."""
        if self.evidence_states is None or self.evidence_mask is None:
            return self
        k = self.evidence_states.shape[1]
        return FusionInputs(
            self.image_states.repeat_interleave(k, 0),  # (b k, p, d)
            self.evidence_states.flatten(0, 1)[:, None],  # (b k, 1, l, d)
            self.evidence_mask.flatten(0, 1)[:, None],  # (b k, 1, l)
        )
