"""The interface of a fusion: a decoder that writes after an image and retrieved evidence.

Knows no tokenizer, no image tower and no knowledge base."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Cache

from ravlm.fusion.inputs import FusionInputs


@dataclass(frozen=True)
class FusionOutput:
    """The decoder's predictions."""

    logits: Tensor
    """(n, t, vocabulary) for the token after each input token; log-probabilities where a fusion
    mixes entries."""
    cache: Cache | None = None


class Fusion(ABC):
    """A causal language model with an image and evidence as further inputs.

    `decoder` has the interface of a Transformers causal language model. The class attributes
    state what a fusion needs; models, training and `from_backbones` read them and never the name.
    """

    needs_cross_attention: ClassVar[bool] = False
    """The decoder needs cross-attention layers."""
    needs_evidence_scores: ClassVar[bool] = False
    """The inputs need `evidence_scores`: how well each entry matches the image."""
    reads_entries_separately: ClassVar[bool] = False
    """Each entry is read on its own: entries have no rank, and none attends to another."""
    packs_evidence: ClassVar[bool] = False
    """Entries may be joined to one sequence without padding between them."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder

    @property
    def shares_inputs(self) -> bool:
        """Whether the beams of an image share one row of the inputs instead of a copy each."""
        return False

    @abstractmethod
    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        inputs: FusionInputs,
        cache: Cache | None = None,
        use_cache: bool = False,
    ) -> FusionOutput:
        """Predict the token after each of `input_ids` (n, t).

        `attention_mask` is (n, past + t); None attends to all tokens. n is the number of rows of
        `inputs` or a multiple of it: neighboring rows then share a row of `inputs`."""

    def loss(
        self, input_ids: Tensor, labels: Tensor, inputs: FusionInputs, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return the mean negative log-likelihood of `labels` (n, t) after `input_ids` (n, t).

        Labels of -100 are ignored."""
        mask = labels != -100
        logits = self(input_ids, None, inputs).logits[mask]  # (labels, vocabulary)
        return F.cross_entropy(logits.float(), labels[mask], label_smoothing=label_smoothing)


def repeat_rows(inputs: FusionInputs, num_rows: int) -> FusionInputs:
    """Repeat each row of `inputs` so that there are `num_rows` in all."""
    repeats = num_rows // max(1, inputs.image_states.shape[0])
    if repeats == 1:
        return inputs
    return FusionInputs(
        **{name: tensor.repeat_interleave(repeats, 0) for name, tensor in inputs.items()}
    )


def token_mask(attention_mask: Tensor | None, input_ids: Tensor, past: int) -> Tensor:
    """Return the attention mask (n, past + t), all ones by default."""
    if attention_mask is not None:
        return attention_mask
    size = (input_ids.shape[0], past + input_ids.shape[1])
    return torch.ones(size, device=input_ids.device, dtype=torch.bool)
