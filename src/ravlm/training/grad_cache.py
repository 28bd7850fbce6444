"""Gradient caching: a contrastive loss over a batch that does not fit in memory, with its exact
gradient.

Gao et al. 2021 (arXiv:2101.06983). First every chunk is encoded without a graph; the loss over all
vectors gives the gradient at each vector; then every chunk is encoded again with a graph, which
carries that gradient to the weights. Memory grows with the chunk size, not with the batch size.
"""

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
    """Add the gradient of `loss_of(vectors of tower 1, vectors of tower 2, ...)` to the parameters
    and return the loss.

    Each tower is a function from a chunk to its vectors (n, dim), and its chunks in order. Dropout
    draws the same numbers both times. Parameters of `loss_of` itself (a scale) get their gradient
    too. A tower without trained parameters is not encoded again.
    """
    vectors: list[Tensor] = []
    rng_states: list[list[list[Tensor]]] = []  # of each tower and chunk
    with torch.no_grad():
        for encode, chunks in towers:
            rng_states.append([])
            parts = []
            for chunk in chunks:
                rng_states[-1].append(runtime.rng_state())
                parts.append(encode(chunk))
            vectors.append(torch.cat(parts).requires_grad_())
    loss = loss_of(*vectors)
    loss.backward()

    final_rng_state = runtime.rng_state()
    for (encode, chunks), tower_vectors, states in zip(towers, vectors, rng_states, strict=True):
        assert tower_vectors.grad is not None
        start = 0
        for chunk, state in zip(chunks, states, strict=True):
            runtime.set_rng_state(state)
            encoded = encode(chunk)
            if not encoded.requires_grad:
                break
            encoded.backward(tower_vectors.grad[start : start + len(encoded)])
            start += len(encoded)
    runtime.set_rng_state(final_rng_state)
    return loss.detach()
