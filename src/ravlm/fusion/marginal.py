"""Fusion by marginalization over the entries: p(y|x) = sum over z of p(z|x) p(y|x,z).

The decoder reads each entry separately, and its predictions are mixed by how likely the entry is
the right one: token by token while decoding, over the whole sequence for the training loss and for
rescoring. The gradient reaches the prior, and so the query encoder that produced it. After
RAG-Token and RAG-Sequence of "Retrieval-Augmented Generation" (Lewis et al., 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Cache, DynamicCache, EncoderDecoderCache

from ravlm.errors import InvalidInput
from ravlm.fusion.base import Fusion, FusionOutput, repeat_rows
from ravlm.fusion.cross_attention import CrossAttentionFusion
from ravlm.fusion.inputs import FusionInputs
from ravlm.fusion.prefix import PrefixFusion


def marginal_log_probs(logits: Tensor, log_prior: Tensor) -> Tensor:
    """Return log p (n, t, v) of the next token.

    `logits` (n, k, t, v) are those of each entry, `log_prior` (n, k) is log p(z|x)."""
    log_probs = F.log_softmax(logits.float(), dim=-1)
    return torch.logsumexp(log_probs + log_prior[:, :, None, None], dim=1)


def sequence_log_likelihood(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """Return log p(y|x) (n,) of the sequences `labels` (n, t; -100 is ignored).

    `logits` (n, k, t, v) are those of each entry, `log_prior` (n, k) is log p(z|x)."""
    mask = labels != -100
    num_entries = logits.shape[1]
    targets = labels.clamp(min=0)[:, None, :, None].expand(-1, num_entries, -1, 1)  # (n, k, t, 1)
    log_probs = F.log_softmax(logits.float(), dim=-1).gather(-1, targets)[..., 0]  # (n, k, t)
    per_entry = (log_probs * mask[:, None]).sum(-1)  # (n, k)
    return torch.logsumexp(per_entry + log_prior, dim=1)


class MarginalFusion(Fusion):
    """Another fusion (`inner_class`), entry by entry."""

    inner_class: ClassVar[type[Fusion]] = CrossAttentionFusion
    needs_cross_attention: ClassVar[bool] = True
    needs_evidence_scores: ClassVar[bool] = True
    reads_entries_separately: ClassVar[bool] = True

    def __init__(self, decoder: Any) -> None:
        super().__init__(decoder)
        self.inner = self.inner_class(decoder)

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        inputs: FusionInputs,
        cache: Cache | None = None,
        use_cache: bool = False,
    ) -> FusionOutput:
        if inputs.evidence_states is None:
            return self.inner(input_ids, attention_mask, inputs, cache, use_cache)
        log_prior = _log_prior(inputs, input_ids.shape[0])  # (n, k)
        num_entries = log_prior.shape[1]
        if use_cache and not isinstance(cache, _EntriesCache):
            cache = _EntriesCache(num_entries)
        logits = self._entry_logits(
            input_ids, attention_mask, inputs, num_entries, cache, use_cache
        )
        return FusionOutput(marginal_log_probs(logits, log_prior), cache)

    def loss(
        self, input_ids: Tensor, labels: Tensor, inputs: FusionInputs, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return -log p(y|x), averaged over all tokens; labels are not smoothed."""
        if inputs.evidence_states is None:
            return self.inner.loss(input_ids, labels, inputs, label_smoothing)
        log_prior = _log_prior(inputs, input_ids.shape[0])
        logits = self._entry_logits(input_ids, None, inputs, log_prior.shape[1])
        likelihood = sequence_log_likelihood(logits, labels, log_prior)
        return -likelihood.sum() / (labels != -100).sum()

    def _entry_logits(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        inputs: FusionInputs,
        num_entries: int,
        cache: Cache | None = None,
        use_cache: bool = False,
    ) -> Tensor:
        """Return the logits (n, k, t, v) with each entry alone."""
        n = input_ids.shape[0]
        entries = repeat_rows(inputs, n).split_entries()  # n k rows
        entry_ids = input_ids.repeat_interleave(num_entries, 0)
        if attention_mask is not None:
            attention_mask = attention_mask.repeat_interleave(num_entries, 0)
        output = self.inner(entry_ids, attention_mask, entries, cache, use_cache)
        return output.logits.unflatten(0, (n, num_entries))


class MarginalPrefixFusion(MarginalFusion):
    """Each entry as a prefix of its own."""

    inner_class: ClassVar[type[Fusion]] = PrefixFusion
    needs_cross_attention: ClassVar[bool] = False


class _EntriesCache(EncoderDecoderCache):
    """A cache with k rows for each beam, which move together."""

    def __init__(self, num_entries: int) -> None:
        super().__init__(DynamicCache(), DynamicCache())
        self._num_entries = num_entries

    def reorder_cache(self, beam_idx: Tensor) -> None:
        k = self._num_entries
        rows = beam_idx[:, None] * k + torch.arange(k, device=beam_idx.device)  # (beams, k)
        super().reorder_cache(rows.flatten())


def _log_prior(inputs: FusionInputs, num_rows: int) -> Tensor:
    """Return log p(z|x) (num_rows, k). Raises InvalidInput if the inputs have none."""
    if inputs.log_prior is None:
        raise InvalidInput(
            "Marginal fusion needs to know how likely each entry is; pass evidence_scores (n, k)."
        )
    return inputs.log_prior.repeat_interleave(num_rows // inputs.log_prior.shape[0], 0)
