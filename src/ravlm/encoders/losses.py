"""Contrastive losses as pure functions of unit vectors.

`image` and `text` are (n, dim) and (m, dim) of length 1. `positives` (n, m) is true where a text
describes an image; it defaults to the diagonal.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def softmax_contrastive(
    image: Tensor, text: Tensor, scale: Tensor, positives: Tensor | None = None
) -> Tensor:
    """CLIP's loss: mean of the cross-entropies over texts and over images (Radford et al. 2021,
    arXiv:2103.00020).

    With several positives in a row, the target is spread evenly over them. Returns a scalar.
    """
    logits = scale * image @ text.T  # (n, m)
    if positives is None:
        labels = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    target = positives.to(logits.dtype)
    by_row = target / target.sum(1, keepdim=True).clamp(min=1)
    by_column = (target / target.sum(0, keepdim=True).clamp(min=1)).T
    return (F.cross_entropy(logits, by_row) + F.cross_entropy(logits.T, by_column)) / 2


def sigmoid_contrastive(
    image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positives: Tensor | None = None
) -> Tensor:
    """SigLIP's loss: a binary decision for each pair, summed and divided by the number of images
    (Zhai et al. 2023, arXiv:2303.15343)."""
    logits = scale * image @ text.T + bias  # (n, m)
    if positives is None:
        positives = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    signs = 2 * positives.to(logits.dtype) - 1
    return -F.logsigmoid(signs * logits).sum() / len(logits)
