"""Gradient caching gives the gradient of the whole batch, with memory for one chunk."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm import runtime
from ravlm.encoders.losses import softmax_contrastive
from ravlm.training.grad_cache import cached_backward


def towers(dropout: float = 0.0) -> tuple[nn.Module, nn.Module, nn.Parameter]:
    torch.manual_seed(0)
    image = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4))
    text = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4))
    return image, text, nn.Parameter(torch.tensor(3.0))


def gradients(*owners: nn.Module | nn.Parameter) -> list[Tensor]:
    parameters = [
        p for o in owners for p in ([o] if isinstance(o, nn.Parameter) else o.parameters())
    ]
    return [p.grad for p in parameters if p.grad is not None]


def test_the_gradient_is_that_of_the_whole_batch() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(10, 6, generator=generator), torch.randn(10, 5, generator=generator)
    image, text, scale = towers()
    full_loss = softmax_contrastive(
        F.normalize(image(a), dim=1), F.normalize(text(b), dim=1), scale
    )
    full_loss.backward()
    expected = gradients(image, text, scale)
    image, text, scale = towers()
    loss = cached_backward(
        [
            (lambda x: F.normalize(image(x), dim=1), a.split(3)),
            (lambda x: F.normalize(text(x), dim=1), b.split(4)),
        ],
        lambda i, t: softmax_contrastive(i, t, scale),
    )
    assert torch.allclose(loss, full_loss.detach(), atol=1e-6)
    for ours, theirs in zip(gradients(image, text, scale), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_both_passes_draw_the_same_dropout() -> None:
    """With other random numbers in the second pass, the gradient belonged to other vectors than the
    loss."""
    draws: list[Tensor] = []
    image, text, scale = towers(dropout=0.5)

    def encode(x: Tensor) -> Tensor:
        draws.append(image(x))
        return draws[-1]

    texts = (text, [torch.ones(6, 5)])
    cached_backward(
        [(encode, torch.ones(6, 6).split(2)), texts], lambda i, t: (i * t).sum() * scale
    )
    first, second = draws[:3], draws[3:]
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x, y.detach())


def test_an_accelerators_dropout_is_repeated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its own generator; when only the CPU's was restored, the second pass drew other
    numbers."""

    class Accelerator:
        state = torch.zeros(1)

        def get_rng_state(self) -> Tensor:
            return self.state.clone()

        def set_rng_state(self, state: Tensor) -> None:
            self.state.copy_(state)

    accelerator, draws = Accelerator(), list[float]()
    monkeypatch.setattr(runtime, "device", lambda: SimpleNamespace(type="accelerator"))
    monkeypatch.setattr(torch, "get_device_module", lambda on: accelerator)
    image, text, scale = towers()

    def encode(x: Tensor) -> Tensor:
        accelerator.state += 1
        draws.append(accelerator.state.item())
        return image(x)

    texts = (text, [torch.ones(6, 5)])
    cached_backward(
        [(encode, torch.ones(6, 6).split(2)), texts], lambda i, t: (i * t).sum() * scale
    )
    assert draws == [1, 2, 3, 1, 2, 3]
    assert accelerator.state.item() == 3


def test_only_one_chunk_has_a_graph() -> None:
    alive, peak = 0, 0
    image, text, scale = towers()

    class Count(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            nonlocal alive, peak
            if torch.is_grad_enabled() or x.requires_grad:
                alive, peak = alive + len(x), max(peak, alive + len(x))
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            nonlocal alive
            alive -= len(gradient)
            return gradient

    for size in (8, 64):
        peak = 0
        chunks = torch.ones(size, 6).split(4)
        images = (lambda x: Count.apply(image(x)), chunks)
        cached_backward(
            [images, (text, [torch.ones(size, 5)])], lambda i, t: (i * t).mean() * scale
        )
        assert peak == 4
