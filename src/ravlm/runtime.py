"""Where we run: device, dtype, threads, seed, rank, cache folder. The only place that asks.

Knows nothing of models. `torch` is imported inside the functions that need it.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def cache_folder() -> Path:
    """The user's cache folder for derived files: `RAVLM_CACHE`, `$XDG_CACHE_HOME/ravlm` or `~/.cache/ravlm`."""
    if chosen := os.environ.get("RAVLM_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ravlm"


def cpu_count() -> int:
    """Cores this process may use (a container's or taskset's limit included)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


@contextmanager
def without_collecting() -> Iterator[None]:
    """No pass of the garbage collector while many records are made, none of which refers to another in a circle: each
    few hundred of them would set one off, a quarter of the time. Counting references goes on."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def processor_flags() -> frozenset[str]:
    """The processor's feature flags where the system tells them (Linux), else an empty set."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "").split())


def device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast(on: torch.device, dtype: torch.dtype | None = None) -> torch.autocast:
    """A context in which a model there computes in `dtype`, or the fastest that is safe; fp32 is left as it is."""
    import torch

    dtype = inference_dtype(on) if dtype is None else dtype
    return torch.autocast(on.type, dtype, enabled=dtype == torch.bfloat16)


def inference_dtype(on: torch.device) -> torch.dtype:
    """The fastest dtype that is safe for inference: bf16 only where the processor computes in it.

    Without `avx512_bf16` or `amx_bf16` bf16 was a hundred times slower than fp32, so it is never a constant.
    """
    import torch

    if on.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if on.type == "cpu" and processor_flags() & {"avx512_bf16", "amx_bf16"}:
        return torch.bfloat16
    return torch.float32


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that torchrun started, for the time of the block; alone, nothing happens."""
    import torch.distributed as group

    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or group.is_initialized():
        yield
        return
    # Its functions take the group of the time of their import as a default. torch's optimizers import it when they are
    # made, and a group that is held so outlives its destruction: its threads then abort a process that is ending.
    import torch.distributed.nn.functional  # noqa: F401

    group.init_process_group("nccl" if device().type == "cuda" else "gloo")
    try:
        yield
    finally:
        group.destroy_process_group()


def rank() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) when alone."""
    import torch.distributed as group

    return (group.get_rank(), group.get_world_size()) if group.is_initialized() else (0, 1)


def gather(mine: torch.Tensor) -> torch.Tensor:
    """The rows of every process (equally many each), by rank, with gradient: (n, dim) -> (processes x n, dim).

    Its gradient is the sum of what all processes want of these rows; with `average_gradients` after the backward pass
    a loss over all rows then has the gradient that one process alone would get.
    """
    import torch
    import torch.distributed as group

    if rank()[1] == 1:
        return mine

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, mine: torch.Tensor) -> torch.Tensor:
            parts = [torch.empty_like(mine) for _ in range(rank()[1])]
            group.all_gather(parts, mine.contiguous())
            return torch.cat(parts)

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            total = gradient.contiguous().clone()
            group.all_reduce(total)
            return total.chunk(rank()[1])[rank()[0]]

    gathered: torch.Tensor = Gather.apply(mine)
    return gathered


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give every process the mean of all processes' gradients; alone, nothing happens."""
    import torch.distributed as group

    if (world := rank()[1]) > 1:
        for p in parameters:
            if p.grad is not None:
                group.all_reduce(p.grad)
                p.grad /= world
