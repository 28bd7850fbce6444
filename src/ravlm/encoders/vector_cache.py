"""Vectors that are derived from an encoder and stored in the user's cache folder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ravlm import runtime
from ravlm.files import atomic_write


def cached_vectors(
    name: str, shape: tuple[int, int], compute: Callable[[], np.ndarray]
) -> np.ndarray:
    """Return the array `name` of the user's cache, or compute and store it.

    A file that is damaged, has another shape or values that are not finite is computed again;
    without a writable cache the array is computed each time.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    path = runtime.cache_folder() / f"{name}.safetensors"
    try:
        vectors = load_file(path)["vectors"]
        if vectors.shape == shape and np.isfinite(vectors).all():
            return vectors
    except (OSError, SafetensorError, KeyError):
        pass  # not there, or damaged
    vectors = np.ascontiguousarray(compute())
    try:
        with atomic_write(path) as temporary:
            save_file({"vectors": vectors}, temporary)
    except OSError:
        pass  # without a writable cache
    return vectors
