"""Prefix fusion: vectors of evidence and image stand before the tokens, like embeddings of a
prompt. It works with any causal language model. After "Prefix-Tuning" (Li and Liang, 2021) and
"Frozen" (Tsimpoukelli et al., 2021: images as a prefix)."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache

from ravlm.fusion.base import Fusion, FusionOutput, repeat_rows, token_mask
from ravlm.fusion.inputs import FusionInputs


class PrefixFusion(Fusion):
    """Evidence first, then the image, then the tokens."""

    def __init__(self, decoder: Any) -> None:
        super().__init__(decoder)
        self._takes_positions = "position_ids" in inspect.signature(decoder.forward).parameters

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        inputs: FusionInputs,
        cache: Cache | None = None,
        use_cache: bool = False,
    ) -> FusionOutput:
        prefix, prefix_mask = left_padded(repeat_rows(inputs, input_ids.shape[0]))
        layer_cache = _self_attention_cache(cache, use_cache)
        past = 0 if layer_cache is None else layer_cache.get_seq_length()
        past_tokens = max(0, past - prefix.shape[1])
        mask = torch.cat(
            [prefix_mask, token_mask(attention_mask, input_ids, past_tokens).bool()], dim=1
        )  # (n, s + past tokens + t)
        embeddings = self.decoder.get_input_embeddings()(input_ids)
        if past == 0:
            embeddings = torch.cat([prefix.to(embeddings.dtype), embeddings], dim=1)
        kwargs: dict[str, Any] = {}
        if self._takes_positions:
            kwargs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -embeddings.shape[1] :]
        output = self.decoder(
            inputs_embeds=embeddings,
            attention_mask=mask.long(),
            past_key_values=layer_cache,
            use_cache=use_cache,
            **kwargs,
        )
        logits = output.logits[:, -input_ids.shape[1] :]  # (n, t, vocabulary)
        return FusionOutput(
            logits, cache if isinstance(cache, EncoderDecoderCache) else layer_cache
        )


def left_padded(inputs: FusionInputs) -> tuple[Tensor, Tensor]:
    """Return evidence and image as one prefix (n, s, d) with its mask (n, s).

    Padding is moved to the left: the positions of a row do not depend on the length of the other
    rows of its batch."""
    image = inputs.image_states
    image_mask = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
    if inputs.evidence_states is None or inputs.evidence_mask is None:
        return image, image_mask
    states = torch.cat([inputs.evidence_states.flatten(1, 2), image], dim=1)
    mask = torch.cat([inputs.evidence_mask.flatten(1), image_mask], dim=1)
    order = mask.long().argsort(dim=1, stable=True)  # padding first
    return states.gather(1, order[..., None].expand_as(states)), mask.gather(1, order)


def _self_attention_cache(cache: Cache | None, use_cache: bool) -> Cache | None:
    """Return the cache of the decoder's own layers, a new one where none was passed."""
    if isinstance(cache, EncoderDecoderCache):
        return cache.self_attention_cache
    return DynamicCache() if use_cache and cache is None else cache
