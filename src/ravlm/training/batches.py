"""Which rows of the data are in a batch, and how a batch is divided among processes and parts."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ravlm import runtime
from ravlm.errors import InvalidInput

_EPOCH_SEED_STRIDE = 7919


def batch_rows(num_rows: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Return the row numbers in the batch of a step, (batch_size,).

    Every epoch is a new permutation, divided into full batches.
    """
    epoch, batch = divmod(step, num_rows // batch_size)
    generator = torch.Generator().manual_seed(seed * _EPOCH_SEED_STRIDE + epoch)
    order = torch.randperm(num_rows, generator=generator)
    return order[batch * batch_size :][:batch_size]


def process_rows(batch_size: int) -> slice:
    """Return this process's rows of a batch. Raises InvalidInput if processes would get unequal
    numbers."""
    world_size = runtime.num_processes()
    if batch_size % world_size:
        raise InvalidInput(
            f"Batch size {batch_size} is not divisible by the number of processes ({world_size}). "
            "Choose another batch size."
        )
    size = batch_size // world_size
    start = runtime.process_index() * size
    return slice(start, start + size)


def batch_parts(batch_size: int, accumulate: int) -> list[slice]:
    """Divide this process's rows of a batch into `accumulate` parts. Raises InvalidInput if there
    are fewer rows than parts."""
    rows = process_rows(batch_size)
    num_rows = rows.stop - rows.start
    if not 1 <= accumulate <= num_rows:
        raise InvalidInput(
            f"accumulate is {accumulate}, but a batch of {num_rows} rows can be divided into "
            f"1 to {num_rows} parts."
        )
    bounds = [rows.start + i * num_rows // accumulate for i in range(accumulate + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
