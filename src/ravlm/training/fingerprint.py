"""A hash of training data: arrays, records and texts of any nesting."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

_MAX_BYTES = 1 << 28
"""Of a larger array, evenly spaced rows that are about this large together are hashed."""


def fingerprint(value: Any) -> str:
    """Return a hash of `value`: numbers, texts, paths, images, arrays, tensors, and mappings,
    sequences and dataclasses of them.

    Modules and functions, and objects of other kinds, count by the name of their class only.
    """
    digest = hashlib.sha256()
    _update(digest.update, value)
    return digest.hexdigest()[:32]


def _update(add: Callable[[bytes], None], value: Any) -> None:
    add(type(value).__name__.encode() + b"\0")
    if value is None or isinstance(value, bool | int | float | str | bytes | Path | np.generic):
        add(repr(value).encode() + b"\0")
    elif isinstance(value, np.ndarray):
        _update_array(add, value)
    elif isinstance(value, Tensor):
        rows = value.detach().cpu()
        # NumPy has no bfloat16: such numbers count by their bits
        _update_array(
            add, (rows.view(torch.int16) if rows.dtype == torch.bfloat16 else rows).numpy()
        )
    elif isinstance(value, Image.Image):
        add(repr((value.mode, value.size)).encode() + value.tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            _update(add, key)
            _update(add, value[key])
    elif isinstance(value, list | tuple):
        add(b"%d\0" % len(value))
        for item in value:
            _update(add, item)
    elif isinstance(value, Set):
        _update(add, sorted(value, key=repr))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type | nn.Module):
        for field in dataclasses.fields(value):
            add(field.name.encode() + b"\0")
            _update(add, getattr(value, field.name))


def _update_array(add: Callable[[bytes], None], array: np.ndarray) -> None:
    add(repr((array.dtype.str, array.shape)).encode())
    if array.nbytes > _MAX_BYTES and len(array) > 1:
        num_rows = max(2, len(array) * _MAX_BYTES // array.nbytes)
        array = array[np.linspace(0, len(array) - 1, num_rows).astype(int)]
    add(np.ascontiguousarray(array).tobytes())
