"""The machine: device, dtype, CPU cores, random state, processes of a training run, cache folder.

No other module queries these. `torch` is imported inside the functions that need it.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ravlm.errors import MissingExtra

if TYPE_CHECKING:
    import torch

_COLLECTIVE_TIMEOUT = timedelta(hours=24)
"""How long a process waits for another one, which may be computing the features of a large set."""
_SINGLE_PROCESS = ContextVar("single_process", default=False)
"""True inside `main_process_first`: the process acts as if it were the only one."""


def cache_folder() -> Path:
    """Return the folder for derived files.

    It is `RAVLM_CACHE` if that is set, else `$XDG_CACHE_HOME/ravlm` or `~/.cache/ravlm`.
    """
    if folder := os.environ.get("RAVLM_CACHE"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ravlm"


def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package, which is not imported; None without it."""
    spec = find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def has_packages(*names: str) -> bool:
    """Return whether all these packages are installed; none is imported."""
    return all(find_spec(name) is not None for name in names)


def require_torch(purpose: str) -> None:
    """Raise MissingExtra unless PyTorch and Transformers are installed; neither is imported.

    `purpose` begins the message: 'The encoder "x"'.
    """
    for name in ("torch", "transformers"):
        if not has_packages(name):
            raise MissingExtra(name, "torch", purpose)


def cpu_count() -> int:
    """Return the number of cores this process may use, within a container's or taskset's limit."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def cpu_flags() -> frozenset[str]:
    """Return the processor's feature flags on Linux, and an empty set elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "")
    return frozenset(flags.split())


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector while creating many acyclic records.

    It runs once per few hundred new objects and would cost 25 % of the time. Reference counting
    goes on.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def device() -> torch.device:
    """Return the accelerator if there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast(target: torch.device, dtype: torch.dtype | None = None) -> torch.autocast:
    """Return a context in which models on `target` compute in `dtype`.

    `dtype` defaults to `inference_dtype(target)`. Only bfloat16 changes anything.
    """
    import torch

    dtype = inference_dtype(target) if dtype is None else dtype
    return torch.autocast(target.type, dtype, enabled=dtype == torch.bfloat16)


def inference_dtype(target: torch.device) -> torch.dtype:
    """Return the fastest dtype that is safe for inference on `target`.

    On a CPU it is bfloat16 only if the processor computes in it: without `avx512_bf16` or
    `amx_bf16`, bfloat16 was a hundred times slower than float32.
    """
    import torch

    if target.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float16
    if target.type == "cpu" and cpu_flags() & {"avx512_bf16", "amx_bf16"}:
        return torch.bfloat16
    return torch.float32


def rng_state() -> list[torch.Tensor]:
    """Return the state of the generators that dropout draws from.

    The first item is the CPU's; the accelerator's follows if there is one.
    """
    import torch

    accelerator = device()
    states = [torch.get_rng_state()]
    if accelerator.type != "cpu":
        states.append(torch.get_device_module(accelerator).get_rng_state())
    return states


def set_rng_state(states: list[torch.Tensor]) -> None:
    """Restore what `rng_state` returned, so that the same numbers are drawn again."""
    import torch

    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.get_device_module(device()).set_rng_state(state)


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Let the block draw and seed random numbers without a trace in those of the caller."""
    states = rng_state()
    try:
        yield
    finally:
        set_rng_state(states)


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started for the duration of the block.

    Each process gets its own GPU if there are any. A single process runs the block unchanged.
    """
    import torch.distributed as dist

    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    # The functions of this module bind the process group of the time of their import as a default
    # argument. torch's optimizers import it when they are created, and a group that is still
    # referenced outlives its destruction: its threads then abort a process that is exiting.
    import torch.distributed.nn.functional

    cuda = device().type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, timeout=_COLLECTIVE_TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def process_index() -> int:
    """Return the rank of this process: 0 if it is the only one."""
    import torch.distributed as dist

    return dist.get_rank() if _is_distributed() else 0


def num_processes() -> int:
    """Return the number of processes of this run: 1 without torchrun."""
    import torch.distributed as dist

    return dist.get_world_size() if _is_distributed() else 1


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block in process 0 first, then in the others, each as if it were the only one.

    Use it for what is cached on disk: the others find the files that process 0 wrote.
    """
    import torch.distributed as dist

    if num_processes() == 1:
        yield
        return
    is_main = process_index() == 0
    if not is_main:
        dist.barrier()
    token = _SINGLE_PROCESS.set(True)
    try:
        yield
    finally:
        _SINGLE_PROCESS.reset(token)
    if is_main:
        dist.barrier()


def sum_over_processes(values: Mapping[str, float]) -> dict[str, float]:
    """Return the sum of each value over all processes; all of them pass the same names."""
    import torch
    import torch.distributed as dist

    if num_processes() == 1:
        return dict(values)
    totals = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(totals)
    return dict(zip(values, totals.tolist(), strict=True))


def broadcast(tensors: Iterable[torch.Tensor]) -> None:
    """Overwrite tensors of every process with those of process 0, in place.

    All processes pass tensors of the same shapes in the same order.
    """
    import torch.distributed as dist

    if num_processes() == 1:
        return
    for tensor in tensors:
        values = tensor.detach().contiguous()  # a copy if `tensor` is a strided view
        dist.broadcast(values, src=0)
        tensor.detach().copy_(values)


def gather(rows: torch.Tensor) -> torch.Tensor:
    """Concatenate the rows of all processes in the order of their ranks, with gradient.

    Every process passes equally many rows: (n, dim) -> (num_processes * n, dim).

    The gradient is the sum of the gradients that all processes have for these rows. With
    `average_gradients` after the backward pass, a loss over all rows has the gradient that a single
    process would compute.
    """
    import torch
    import torch.distributed as dist

    if num_processes() == 1:
        return rows

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, rows: torch.Tensor) -> torch.Tensor:
            parts = [torch.empty_like(rows) for _ in range(num_processes())]
            dist.all_gather(parts, rows.contiguous())
            return torch.cat(parts)

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            total = gradient.contiguous().clone()
            dist.all_reduce(total)
            return total.chunk(num_processes())[process_index()]

    gathered: torch.Tensor = Gather.apply(rows)
    return gathered


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace the gradients of every process with their mean over all processes.

    A missing gradient counts as 0 if another process has one, and stays missing if none has.
    A single process keeps its gradients unchanged.
    """
    import torch
    import torch.distributed as dist

    world_size = num_processes()
    if world_size == 1:
        return
    params = list(parameters)
    num_users = torch.tensor([p.grad is not None for p in params], dtype=torch.int32)
    dist.all_reduce(num_users)
    for param, users in zip(params, num_users.tolist(), strict=True):
        if users:
            param.grad = torch.zeros_like(param) if param.grad is None else param.grad
            dist.all_reduce(param.grad)
            param.grad /= world_size


def _is_distributed() -> bool:
    import torch.distributed as dist

    return dist.is_initialized() and not _SINGLE_PROCESS.get()
