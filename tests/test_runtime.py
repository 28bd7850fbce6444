"""What a single process gets from the runtime; tests/training has the tests with two processes."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from ravlm import runtime


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAVLM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert runtime.cache_folder() == Path.home() / ".cache" / "ravlm"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert runtime.cache_folder() == Path("/xdg/ravlm")
    monkeypatch.setenv("RAVLM_CACHE", "/chosen")
    assert runtime.cache_folder() == Path("/chosen")


def test_a_single_process_works_alone() -> None:
    rows = torch.ones(2, 3)
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    with runtime.process_group(), runtime.main_process_first():
        assert (runtime.process_index(), runtime.num_processes()) == (0, 1)
        assert runtime.gather(rows) is rows
        assert runtime.sum_over_processes({"loss": 1.5}) == {"loss": 1.5}
        runtime.average_gradients([parameter])
    assert parameter.grad.tolist() == [1, 1]


def test_random_numbers_are_drawn_again() -> None:
    states = runtime.rng_state()
    first = torch.rand(3)
    runtime.set_rng_state(states)
    assert torch.equal(torch.rand(3), first)


def test_garbage_collection_goes_on_after_an_error() -> None:
    with runtime.gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), runtime.gc_paused():
        _ = 1 / 0
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [({"avx2"}, torch.float32), ({"avx512_bf16"}, torch.bfloat16), (set(), torch.float32)],
)
def test_bfloat16_needs_a_processor_that_computes_in_it(
    flags: set[str], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `avx512_bf16` or `amx_bf16` it was a hundred times slower than float32."""
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset(flags))
    assert runtime.inference_dtype(torch.device("cpu")) == dtype
    assert runtime.autocast(torch.device("cpu"))._enabled == (dtype == torch.bfloat16)
