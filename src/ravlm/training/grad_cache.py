"""Gradient caching: a contrastive loss over a batch that memory could not hold, with the gradient
of the whole batch.

Gao et al. 2021 (arXiv:2101.06983). First every chunk is encoded without a graph; the loss over all
vectors gives the gradient at each vector; then every chunk is encoded again with a graph, which
takes that gradient to the weights. Memory grows with the chunk, not with the batch. Knows no
encoder and no loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ravlm import runtime

Chunk = TypeVar("Chunk")


def cached_backward(
    towers: Sequence[tuple[Callable[[Chunk], Tensor], Sequence[Chunk]]],
    loss_of: Callable[..., Tensor],
) -> Tensor:
    """Put the gradient of `loss_of(vectors of tower 1, vectors of tower 2, ...)` into the
    parameters; the loss.

    Each tower is a function from a chunk to its vectors (n, dim), and its chunks in order. Dropout
    draws the same numbers both times. `loss_of` may have parameters of its own (a scale), which get
    their gradient too."""
    vectors: list[Tensor] = []
    states: list[list[list[Tensor]]] = []
    with torch.no_grad():
        for encode, chunks in towers:
            states.append([])
            encoded = []
            for chunk in chunks:
                states[-1].append(runtime.random_state())
                encoded.append(encode(chunk))
            vectors.append(torch.cat(encoded).requires_grad_())
    loss = loss_of(*vectors)
    loss.backward()
    after = runtime.random_state()
    for (encode, chunks), whole, state in zip(towers, vectors, states, strict=True):
        assert whole.grad is not None
        start = 0
        for chunk, at in zip(chunks, state, strict=True):
            runtime.set_random_state(at)
            again = encode(chunk)
            again.backward(whole.grad[start : start + len(again)])
            start += len(again)
    runtime.set_random_state(after)
    return loss.detach()
