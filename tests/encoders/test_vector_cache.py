"""Arrays in the user's cache folder: memory-mapped, and computed again when they are damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ravlm.encoders.vector_cache import cached_arrays

ARRAYS = {
    "codes": np.arange(21, dtype=np.uint8).reshape(7, 3),
    "scale": np.linspace(0, 1, 5, dtype=np.float32),
    "epsilon": np.array(1e-6),
}


def read(times_computed: list[int]) -> dict[str, np.ndarray]:
    """Return `ARRAYS` by the cache, and count how often they are computed."""

    def compute() -> dict[str, np.ndarray]:
        times_computed.append(1)
        return ARRAYS

    return cached_arrays("example", compute)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("RAVLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_arrays_are_mapped_and_not_read(cache: Path) -> None:
    """Opening the compressed table of the multilingual network took 0.4 s of each first search."""
    times_computed: list[int] = []
    read(times_computed)
    arrays = read(times_computed)
    assert len(times_computed) == 1
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
        assert not arrays[name].flags.writeable  # a view of the file
        assert arrays[name].flags.aligned


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:90],
        lambda content: b"",
        lambda content: content.replace(bytes([5, 6, 7]), bytes([5, 9, 7])),
    ],
)
def test_a_damaged_file_is_computed_again(cache: Path, damage: Callable[[bytes], bytes]) -> None:
    times_computed: list[int] = []
    read(times_computed)
    (path,) = cache.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        np.testing.assert_array_equal(read(times_computed)["codes"], ARRAYS["codes"])
    assert len(times_computed) == 2
    assert [of_cache.name for of_cache in cache.iterdir()] == [path.name]


def test_without_a_writable_cache_arrays_are_computed_each_time(cache: Path) -> None:
    cache.write_text("where the folder should be")
    times_computed: list[int] = []
    for _ in range(2):
        np.testing.assert_array_equal(read(times_computed)["scale"], ARRAYS["scale"])
    assert len(times_computed) == 2
