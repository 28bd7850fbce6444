"""The contrastive losses, compared with manual calculations."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from ravlm.encoders.losses import sigmoid_contrastive, softmax_contrastive

A = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
B = torch.tensor([[1.0, 0.0], [0.6, 0.8]])


def test_softmax_on_paper() -> None:
    """Logits 2 x [[1, .6], [0, .8]]: each row and column is a softmax over two values."""
    rows = (math.log(1 + math.exp(1.2 - 2)) + math.log(1 + math.exp(0 - 1.6))) / 2
    columns = (math.log(1 + math.exp(0 - 2)) + math.log(1 + math.exp(1.2 - 1.6))) / 2
    assert math.isclose(
        softmax_contrastive(A, B, torch.tensor(2.0)).item(), (rows + columns) / 2, rel_tol=1e-6
    )


def test_softmax_with_the_diagonal_as_positives_is_the_plain_loss() -> None:
    image, text = (
        F.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(s)), dim=1)
        for s in (0, 1)
    )
    plain = softmax_contrastive(image, text, torch.tensor(10.0))
    assert torch.allclose(
        plain,
        softmax_contrastive(image, text, torch.tensor(10.0), torch.eye(5, dtype=torch.bool)),
    )


def test_softmax_spreads_the_target_over_several_positives() -> None:
    """Two texts of the first image, one of the second: -(log p1 + log p2) / 2 in the first row."""
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    positives = torch.tensor([[True, True, False], [False, False, True]])
    log_total = math.log(2 * math.e + 1)
    rows = ((log_total - 1) + (math.log(2 + math.e) - 1)) / 2
    columns = math.log(1 + math.exp(-1))
    loss = softmax_contrastive(A, text, torch.tensor(1.0), positives)
    assert math.isclose(loss.item(), (rows + columns) / 2, rel_tol=1e-6)


def test_sigmoid_on_paper() -> None:
    """Logits 2 x cosine - 1; positives on the diagonal, all other pairs negative; the sum over 2
    images."""

    def no(z: float) -> float:
        return math.log(1 + math.exp(z))

    expected = (no(-1.0) + no(-0.6) + no(0.2) + no(-1.0)) / 2
    loss = sigmoid_contrastive(A, B, torch.tensor(2.0), torch.tensor(-1.0))
    assert math.isclose(loss.item(), expected, rel_tol=1e-6)
