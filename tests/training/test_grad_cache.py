"""Gradient caching gives the gradient of the whole batch, in memory that does not grow with it."""

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
    found = [p for o in owners for p in ([o] if isinstance(o, nn.Parameter) else o.parameters())]
    return [p.grad for p in found if p.grad is not None]


def test_the_gradient_is_the_whole_batchs() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(10, 6, generator=generator), torch.randn(10, 5, generator=generator)
    image, text, scale = towers()
    whole = softmax_contrastive(F.normalize(image(a), dim=1), F.normalize(text(b), dim=1), scale)
    whole.backward()
    expected = gradients(image, text, scale)
    image, text, scale = towers()
    loss = cached_backward(
        [
            (lambda x: F.normalize(image(x), dim=1), a.split(3)),
            (lambda x: F.normalize(text(x), dim=1), b.split(4)),
        ],
        lambda i, t: softmax_contrastive(i, t, scale),
    )
    assert torch.allclose(loss, whole.detach(), atol=1e-6)
    for ours, theirs in zip(gradients(image, text, scale), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_both_passes_draw_the_same_dropout() -> None:
    """With other numbers in the second pass the gradient belonged to vectors that the loss had
    never seen."""
    seen: list[Tensor] = []
    image, text, scale = towers(dropout=0.5)

    def encode(x: Tensor) -> Tensor:
        seen.append(image(x))
        return seen[-1]

    texts = (text, [torch.ones(6, 5)])
    cached_backward(
        [(encode, torch.ones(6, 6).split(2)), texts], lambda i, t: (i * t).sum() * scale
    )
    first, second = seen[:3], seen[3:]
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x, y.detach())


def test_an_accelerators_dropout_is_drawn_again_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a generator of its own; with the processor's alone put back, the second pass drew
    other numbers."""

    class Accelerator:
        drawn = torch.zeros(1)

        def get_rng_state(self) -> Tensor:
            return self.drawn.clone()

        def set_rng_state(self, state: Tensor) -> None:
            self.drawn.copy_(state)

    there, seen = Accelerator(), list[float]()
    monkeypatch.setattr(runtime, "device", lambda: SimpleNamespace(type="accelerator"))
    monkeypatch.setattr(torch, "get_device_module", lambda on: there)
    image, text, scale = towers()

    def encode(x: Tensor) -> Tensor:
        there.drawn += 1
        seen.append(there.drawn.item())
        return image(x)

    texts = (text, [torch.ones(6, 5)])
    cached_backward(
        [(encode, torch.ones(6, 6).split(2)), texts], lambda i, t: (i * t).sum() * scale
    )
    assert seen == [1, 2, 3, 1, 2, 3]
    assert there.drawn.item() == 3


def test_no_graph_is_kept_for_more_than_a_chunk() -> None:
    alive, most = 0, 0
    image, text, scale = towers()

    class Count(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            nonlocal alive, most
            if torch.is_grad_enabled() or x.requires_grad:
                alive, most = alive + len(x), max(most, alive + len(x))
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            nonlocal alive
            alive -= len(gradient)
            return gradient

    for size in (8, 64):
        most = 0
        chunks = torch.ones(size, 6).split(4)
        images = (lambda x: Count.apply(image(x)), chunks)
        cached_backward(
            [images, (text, [torch.ones(size, 5)])], lambda i, t: (i * t).mean() * scale
        )
        assert most == 4
