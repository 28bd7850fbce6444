"""Fusion by cross-attention: the decoder looks at the picture and at the evidence in each of its
layers.

Our own decoder looks at each apart, at evidence through a gate. A decoder of Transformers whose
class has cross-attention (GPT-2, BERT, RoBERTa ...) looks at both at once; its new layers are given
a gate that begins at 0, so that training starts from the language model as it was."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from ravlm.errors import InvalidInput
from ravlm.fusion.base import Decoded, Fusion, repeated
from ravlm.fusion.decoder import EvidenceDecoder
from ravlm.fusion.inputs import FusionInputs


class Gated(nn.Module):
    """A cross-attention module times tanh of a learnt gate."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.gate = nn.Parameter(torch.zeros(1))
        self._adds_its_input = hasattr(
            module, "output"
        )  # BERT's gives input + attention, normed; GPT-2's does not

    def forward(self, words: Tensor, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        seen, *rest = self.module(words, *args, **kwargs)
        change = seen - words if self._adds_its_input else seen
        gated = torch.tanh(self.gate) * change
        return (words + gated if self._adds_its_input else gated, *rest)


def gate_cross_attention(decoder: nn.Module) -> int:
    """Put each cross-attention of a Transformers decoder behind a gate; how many there are.

    Raises InvalidInput where it has none.
    """
    owners: list[Any] = [
        m for m in decoder.modules() if isinstance(getattr(m, "crossattention", None), nn.Module)
    ]
    if not owners:
        raise InvalidInput(
            f"{type(decoder).__name__} has no cross-attention; take GPT-2, BERT or RoBERTa, our own decoder, "
            'or fusion="prompt".'
        )
    for module in owners:
        module.crossattention = Gated(module.crossattention)
    return len(owners)


class CrossAttentionFusion(Fusion):
    """Picture and evidence beside the words. Gates must be in place (`gate_cross_attention`)."""

    def __call__(
        self,
        ids: Tensor,
        mask: Tensor | None,
        sources: FusionInputs,
        cache: Cache | None = None,
        use_cache: bool = False,
    ) -> Decoded:
        given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": use_cache}
        if isinstance(self.decoder, EvidenceDecoder):
            given["encoder_hidden_states"] = sources.picture if sources.picture.shape[1] else None
            if sources.evidence is not None and sources.mask is not None:
                given["evidence_hidden_states"] = sources.evidence.flatten(1, 2)
                given["evidence_attention_mask"] = sources.mask.flatten(1)
        else:
            states, there = repeated(sources, ids.shape[0]).flat()
            given["encoder_hidden_states"] = states
            given["encoder_attention_mask"] = None if there is None else there.long()
        said = self.decoder(**given, past_key_values=cache)
        return Decoded(said.logits, said.past_key_values if use_cache else None)
