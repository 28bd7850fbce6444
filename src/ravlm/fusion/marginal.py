"""Fusion by marginalising over the entries: p(y|x) = sum over z of p(z|x) p(y|x,z).

Each entry is read apart and what follows is mixed by how likely the entry is the right one: word by
word while decoding, over the whole sequence as the loss of training and for rescoring, with
gradient to the prior and so to whatever made it (a query encoder). After RAG-Token and RAG-Sequence
of "Retrieval-Augmented Generation" (Lewis et al., 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Cache, DynamicCache, EncoderDecoderCache

from ravlm.errors import InvalidInput
from ravlm.fusion.base import Decoded, Fusion
from ravlm.fusion.inputs import FusionInputs


def mixed_words(logits: Tensor, prior: Tensor) -> Tensor:
    """log p of the next word (n, t, v), from logits (n, k, t, v) of each entry and log p(z|x) (n,
    k)."""
    return torch.logsumexp(F.log_softmax(logits.float(), dim=-1) + prior[:, :, None, None], dim=1)


def sequence_likelihood(logits: Tensor, labels: Tensor, prior: Tensor) -> Tensor:
    """log p(y|x) (n,) of sequences `labels` (n, t; -100 counts nowhere), from logits (n, k, t, v)
    and log p(z|x)."""
    counts = labels != -100
    wanted = labels.clamp(min=0)[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
    words = F.log_softmax(logits.float(), dim=-1).gather(-1, wanted)[..., 0] * counts[:, None]
    return torch.logsumexp(words.sum(-1) + prior, dim=1)


class MarginalFusion(Fusion):
    """Another fusion, entry by entry."""

    def __init__(self, inner: Fusion) -> None:
        super().__init__(inner.decoder)
        self.inner = inner

    def __call__(
        self,
        ids: Tensor,
        mask: Tensor | None,
        sources: FusionInputs,
        cache: Cache | None = None,
        use_cache: bool = False,
    ) -> Decoded:
        if sources.evidence is None:
            return self.inner(ids, mask, sources, cache, use_cache)
        prior = _prior(sources, ids.shape[0])
        k = prior.shape[1]
        if use_cache and not isinstance(cache, _EntriesCache):
            cache = _EntriesCache(k)
        said = self._each(ids, mask, sources, k, cache, use_cache)
        return Decoded(mixed_words(said, prior), cache)

    def loss(
        self, ids: Tensor, labels: Tensor, sources: FusionInputs, smoothing: float = 0.0
    ) -> Tensor:
        """The mean over all words of -log p(y|x); labels are not smoothed."""
        if sources.evidence is None:
            return self.inner.loss(ids, labels, sources, smoothing)
        prior = _prior(sources, ids.shape[0])
        likelihood = sequence_likelihood(
            self._each(ids, None, sources, prior.shape[1]), labels, prior
        )
        return -likelihood.sum() / (labels != -100).sum()

    def _each(
        self,
        ids: Tensor,
        mask: Tensor | None,
        sources: FusionInputs,
        k: int,
        cache: Cache | None = None,
        use_cache: bool = False,
    ) -> Tensor:
        """Logits (n, k, t, v) with each entry alone."""
        times = ids.shape[0] // sources.picture.shape[0]
        apart = FusionInputs(
            **{n: t.repeat_interleave(times, 0) for n, t in sources.items()}
        ).one_each()
        each_mask = None if mask is None else mask.repeat_interleave(k, 0)
        said = self.inner(ids.repeat_interleave(k, 0), each_mask, apart, cache, use_cache)
        return said.logits.unflatten(0, (ids.shape[0], k))


class _EntriesCache(EncoderDecoderCache):
    """A cache of k rows for each beam: they move together."""

    def __init__(self, k: int) -> None:
        super().__init__(DynamicCache(), DynamicCache())
        self._k = k

    def reorder_cache(self, beam_idx: Tensor) -> None:
        rows = beam_idx[:, None] * self._k + torch.arange(self._k, device=beam_idx.device)
        super().reorder_cache(rows.flatten())


def _prior(sources: FusionInputs, rows: int) -> Tensor:
    """log p(z|x) (rows, k). Raises InvalidInput where there is none."""
    if sources.prior is None:
        raise InvalidInput(
            "Marginal fusion needs how likely each entry is; give evidence_scores (n, k)."
        )
    return sources.prior.repeat_interleave(rows // sources.prior.shape[0], 0)
