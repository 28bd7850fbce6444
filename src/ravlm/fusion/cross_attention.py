"""Fusion by cross-attention: every decoder layer attends to the image and to the evidence.

Our own decoder has one attention for each, the evidence's behind a gate. A Transformers decoder
whose class has cross-attention (GPT-2, BERT, RoBERTa ...) attends to both at once; a gate that
starts at 0 goes before its new layers, so training starts from the language model unchanged."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import Cache

from ravlm.errors import InvalidInput
from ravlm.fusion.base import Fusion, FusionOutput, repeat_rows
from ravlm.fusion.decoder import EvidenceDecoder
from ravlm.fusion.inputs import FusionInputs


class GatedCrossAttention(nn.Module):
    """A cross-attention module whose output is multiplied by tanh of a learned gate."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.gate = nn.Parameter(torch.zeros(1))
        # BERT's returns LayerNorm(input + attention); GPT-2's returns the attention alone
        self._is_residual = hasattr(module, "output")

    def forward(self, states: Tensor, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        output, *extras = self.module(states, *args, **kwargs)
        if self._is_residual:
            gated = states + torch.tanh(self.gate) * (output - states)
        else:
            gated = torch.tanh(self.gate) * output
        return (gated, *extras)


def gate_cross_attention(decoder: nn.Module) -> int:
    """Put a gate before each cross-attention of a Transformers decoder; return their number.

    Raises InvalidInput if the decoder has none.
    """
    layers: list[Any] = [
        module
        for module in decoder.modules()
        if isinstance(getattr(module, "crossattention", None), nn.Module)
    ]
    if not layers:
        raise InvalidInput(
            f"{type(decoder).__name__} has no cross-attention. Use GPT-2, BERT, RoBERTa or ravlm's "
            'own decoder, or fusion="prefix".'
        )
    for layer in layers:
        layer.crossattention = GatedCrossAttention(layer.crossattention)
    return len(layers)


class CrossAttentionFusion(Fusion):
    """Image and evidence as keys and values of the decoder's cross-attention.

    A Transformers decoder must have been through `gate_cross_attention`."""

    needs_cross_attention: ClassVar[bool] = True
    packs_evidence: ClassVar[bool] = True

    @property
    def shares_inputs(self) -> bool:
        return isinstance(self.decoder, EvidenceDecoder)

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        inputs: FusionInputs,
        cache: Cache | None = None,
        use_cache: bool = False,
    ) -> FusionOutput:
        if isinstance(self.decoder, EvidenceDecoder):
            states = _separate_states(inputs)
        else:
            states = _joined_states(repeat_rows(inputs, input_ids.shape[0]))
        output = self.decoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=use_cache,
            **states,
        )
        return FusionOutput(output.logits, output.past_key_values if use_cache else None)


def _separate_states(inputs: FusionInputs) -> dict[str, Tensor | None]:
    """Return image and evidence as arguments of `EvidenceDecoder`."""
    has_image = inputs.image_states.shape[1] > 0
    states = {"encoder_hidden_states": inputs.image_states if has_image else None}  # (b, p, d)
    if inputs.evidence_states is not None and inputs.evidence_mask is not None:
        states["evidence_hidden_states"] = inputs.evidence_states.flatten(1, 2)  # (b, k l, d)
        states["evidence_attention_mask"] = inputs.evidence_mask.flatten(1)  # (b, k l)
    return states


def _joined_states(inputs: FusionInputs) -> dict[str, Tensor | None]:
    """Return image and evidence as one sequence, as arguments of a Transformers decoder."""
    states, mask = inputs.joined()
    return {
        "encoder_hidden_states": states,
        "encoder_attention_mask": None if mask is None else mask.long(),
    }
