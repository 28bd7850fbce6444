"""Fusion by prompt: evidence and picture stand before the words, as if they had been said.

Serves any causal language model. Knows no tokenizer.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache

from ravlm.errors import InvalidInput
from ravlm.fusion.base import Decoded, Fusion, repeated, words_seen
from ravlm.fusion.inputs import FusionInputs


class PromptFusion(Fusion):
    """Evidence first, then the picture, then the words. The mask of the sources is kept beside the
    cache."""

    def __init__(self, decoder: Any) -> None:
        super().__init__(decoder)
        self._takes_positions = "position_ids" in inspect.signature(decoder.forward).parameters

    def __call__(
        self,
        ids: Tensor,
        mask: Tensor | None,
        sources: FusionInputs,
        cache: Cache | None = None,
        use_cache: bool = False,
    ) -> Decoded:
        before, there = _left_padded(repeated(sources, ids.shape[0]))
        own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        if use_cache and own is None:
            own = DynamicCache()
        past = 0 if own is None else own.get_seq_length()
        words = self.decoder.get_input_embeddings()(ids)
        whole = torch.cat(
            [there, words_seen(mask, ids, max(0, past - before.shape[1])).bool()], dim=1
        )
        if past == 0:
            words = torch.cat([before.to(words.dtype), words], dim=1)
        given: dict[str, Any] = {
            "inputs_embeds": words,
            "attention_mask": whole.long(),
            "use_cache": use_cache,
        }
        if self._takes_positions:
            given["position_ids"] = (whole.cumsum(1) - 1).clamp(min=0)[:, -words.shape[1] :]
        said = self.decoder(**given, past_key_values=own)
        return Decoded(
            said.logits[:, -ids.shape[1] :],
            cache if isinstance(cache, EncoderDecoderCache) else own,
        )


def _left_padded(sources: FusionInputs) -> tuple[Tensor, Tensor]:
    """Evidence, then picture (n, s, d), what is no token moved to the left, and the mask (n, s): a
    row's positions do not depend on the length of the rows beside it."""
    picture = sources.picture
    seen = torch.ones(picture.shape[:2], dtype=torch.bool, device=picture.device)
    if sources.evidence is None or sources.mask is None:
        return picture, seen
    states = torch.cat([sources.evidence.flatten(1, 2), picture], dim=1)
    there = torch.cat([sources.mask.flatten(1), seen], dim=1)
    order = there.long().argsort(dim=1, stable=True)
    return states.gather(1, order[..., None].expand_as(states)), there.gather(1, order)


def fair_share(lengths: Sequence[int], budget: int) -> list[int]:
    """How many tokens each entry of evidence may keep so that all together fit `budget`.

    Short entries stay whole; the long ones share what is left alike, the first ones one more where
    it does not come out even. Raises InvalidInput for a budget below 0."""
    if budget < 0:
        raise InvalidInput(f"The budget for evidence is {budget} tokens; at least 0 are needed.")
    kept, left = [0] * len(lengths), budget
    waiting = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    while waiting:
        share, over = divmod(left, len(waiting))
        if lengths[waiting[0]] <= share:
            kept[waiting[0]] = lengths[waiting[0]]
            left -= lengths[waiting.pop(0)]
            continue
        for place, i in enumerate(sorted(waiting)):
            kept[i] = min(lengths[i], share + (place < over))
        break
    return kept
