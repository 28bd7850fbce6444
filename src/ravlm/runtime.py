"""Where we run: device, dtype, threads, seed, rank, cache folder. The only place that asks.

Knows nothing of models. `torch` is imported inside the functions that need it.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_LONGEST_WAIT = timedelta(hours=24)
"""Of a process for another one, which may be computing features of a large set."""
_APART = ContextVar("apart", default=False)


def cache_folder() -> Path:
    """The user's cache folder for derived files: `RAVLM_CACHE`, `$XDG_CACHE_HOME/ravlm` or
    `~/.cache/ravlm`."""
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
    """No pass of the garbage collector while many records are made, none of which refers to another
    in a circle: each few hundred of them would set one off, a quarter of the time. Counting
    references goes on."""
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
    return frozenset(
        next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "").split()
    )


def device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast(on: torch.device, dtype: torch.dtype | None = None) -> torch.autocast:
    """A context in which a model there computes in `dtype`, or the fastest that is safe; fp32 is
    left as it is."""
    import torch

    dtype = inference_dtype(on) if dtype is None else dtype
    return torch.autocast(on.type, dtype, enabled=dtype == torch.bfloat16)


def inference_dtype(on: torch.device) -> torch.dtype:
    """The fastest dtype that is safe for inference: bf16 only where the processor computes in it.

    Without `avx512_bf16` or `amx_bf16` bf16 was a hundred times slower than fp32, so it is never a
    constant."""
    import torch

    if on.type == "cuda":
        return (
            torch.bfloat16
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float16
        )
    if on.type == "cpu" and processor_flags() & {"avx512_bf16", "amx_bf16"}:
        return torch.bfloat16
    return torch.float32


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> list[torch.Tensor]:
    """The state of what dropout draws from: the CPU's generator, and the accelerator's where there
    is one."""
    import torch

    on = device()
    return [torch.get_rng_state()] + (
        [torch.get_device_module(on).get_rng_state()] if on.type != "cpu" else []
    )


def set_random_state(state: list[torch.Tensor]) -> None:
    """Draw from there on what was drawn after `random_state` gave `state`."""
    import torch

    torch.set_rng_state(state[0])
    for more in state[1:]:
        torch.get_device_module(device()).set_rng_state(more)


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that torchrun started, for the time of the block, each with a GPU of its
    own where there are any; alone, nothing happens."""
    import torch.distributed as group

    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or group.is_initialized():
        yield
        return
    # Its functions take the group of the time of their import as a default. torch's optimizers
    # import it when they are made, and a group that is held so outlives its destruction: its
    # threads then abort a process that is ending.
    import torch.distributed.nn.functional

    cuda = device().type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    group.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield
    finally:
        group.destroy_process_group()


def rank() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) when alone."""
    import torch.distributed as group

    together = group.is_initialized() and not _APART.get()
    return (group.get_rank(), group.get_world_size()) if together else (0, 1)


@contextmanager
def in_turn() -> Iterator[None]:
    """The first process does the block, then the others do, each as if it were alone: for what is
    kept on disk, which the others then find there."""
    import torch.distributed as group

    number, world = rank()
    if world == 1:
        yield
        return
    if number > 0:
        group.barrier()
    before = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(before)
    if number == 0:
        group.barrier()


def summed(values: Mapping[str, float]) -> dict[str, float]:
    """The sum of each value over the processes, which all give the same names."""
    import torch
    import torch.distributed as group

    if rank()[1] == 1:
        return dict(values)
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    group.all_reduce(total)
    return dict(zip(values, total.tolist(), strict=True))


def gather(mine: torch.Tensor) -> torch.Tensor:
    """The rows of every process (equally many each), by rank, with gradient: (n, dim) -> (processes
    x n, dim).

    Its gradient is the sum of what all processes want of these rows; with `average_gradients` after
    the backward pass a loss over all rows then has the gradient that one process alone would get.
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
    """Give every process the mean of all processes' gradients; alone, nothing happens.

    A parameter that one process had no use for counts as 0 there; one that none had stays without.
    """
    import torch
    import torch.distributed as group

    if (world := rank()[1]) == 1:
        return
    every = list(parameters)
    used = torch.tensor([p.grad is not None for p in every], dtype=torch.int32)
    group.all_reduce(used)
    for p, users in zip(every, used.tolist(), strict=True):
        if users:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            group.all_reduce(p.grad)
            p.grad /= world
