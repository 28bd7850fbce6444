"""A model on disk is a folder with config.json and model.safetensors, written atomically.

This module moves a mapping of values and a mapping of arrays. Loading is strict or raises.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ravlm.errors import BrokenData, Mismatch, NotFound
from ravlm.files import atomic_write

CONFIG = "config.json"
MAX_JSON_BYTES = 1 << 24
"""Largest size of a configuration; those that list classes and weights have some megabytes."""
WEIGHTS = "model.safetensors"


def save_checkpoint(
    folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]
) -> None:
    """Write `config` and `weights` (name -> array) as `folder`, atomically.

    An existing checkpoint is replaced; a folder that holds other files keeps them.
    """
    files = {CONFIG, WEIGHTS}
    if Path(folder).is_dir() and any(path.name not in files for path in Path(folder).iterdir()):
        save_checkpoint_into(folder, config, weights)
        return
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        (temporary / CONFIG).write_text(_config_json(config), encoding="utf-8")
        (temporary / WEIGHTS).write_bytes(_safetensors(weights))


def save_checkpoint_into(
    folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]
) -> None:
    """Write a checkpoint into a folder that holds other files, such as a training log.

    config.json is written last, so a folder that has one is a complete checkpoint.
    """
    with atomic_write(Path(folder) / WEIGHTS) as temporary:
        temporary.write_bytes(_safetensors(weights))
    with atomic_write(Path(folder) / CONFIG) as temporary:
        temporary.write_text(_config_json(config), encoding="utf-8")


def move_checkpoint_into(source: Path, folder: Path) -> None:
    """Move the files of the checkpoint `source` into `folder`, which may hold other files.

    config.json (of an adapter: adapter_config.json) is moved last, so a folder that has one is a
    complete checkpoint. `source` is removed.
    """
    last = (CONFIG, f"adapter_{CONFIG}")
    for path in sorted(source.iterdir(), key=lambda path: path.name in last):
        if path.is_dir() and (folder / path.name).is_dir():
            shutil.rmtree(folder / path.name)
        os.replace(path, folder / path.name)
    source.rmdir()


def read_checkpoint_config(folder: str | Path) -> dict[str, Any]:
    """Read the config.json of a checkpoint. Raises NotFound or BrokenData."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise NotFound(f'"{folder}" is not a checkpoint: it has no {CONFIG}.')
    return read_json_object(path)


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file of a checkpoint. Raises BrokenData."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise BrokenData(
                f'The file "{path}" is too large for a configuration: more than '
                f"{MAX_JSON_BYTES:,} bytes."
            )
        values = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenData(f'The file "{path}" is not valid JSON: {error}.') from error
    if not isinstance(values, dict):
        raise BrokenData(
            f'The file "{path}" is of type {type(values).__name__}; it must be a JSON object.'
        )
    return values


def read_weights(folder: str | Path) -> dict[str, np.ndarray]:
    """Read all arrays of a checkpoint: name -> array. Raises NotFound or BrokenData."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise NotFound(
            f'The checkpoint "{folder}" has no weights: {WEIGHTS} is missing. '
            "Save or download it again."
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BrokenData(
            f'The weights "{path}" are damaged ({error}). Save or download them again.'
        ) from error


def check_shapes(
    weights: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], source: str
) -> None:
    """Raise Mismatch unless `weights` has exactly the names and shapes of `expected`.

    `expected`: name -> shape. `source` names the weights in the message.
    """
    missing = sorted(expected.keys() - weights.keys())
    unknown = sorted(weights.keys() - expected.keys())
    if missing or unknown:
        names = {"missing": missing, "unknown": unknown}
        problems = "; ".join(f"{kind}: {', '.join(n[:5])}" for kind, n in names.items() if n)
        raise Mismatch(
            f'The weights of "{source}" do not fit the model ({problems}); nothing was loaded.'
        )
    for name, shape in expected.items():
        actual = tuple(weights[name].shape)
        if actual != tuple(shape):
            raise Mismatch(
                f'"{name}" of "{source}" has the shape {actual}; the model needs {tuple(shape)}.'
            )


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_file(path: Path, sha256: str, remedy: str) -> Path:
    """Return `path` if the file has this SHA-256.

    Raises Mismatch otherwise; `remedy` says what to do.
    """
    digest = hash_file(path)
    if digest != sha256:
        raise Mismatch(
            f'"{path}" has the hash {digest[:12]}..., expected {sha256[:12]}...; {remedy}.'
        )
    return path


def _safetensors(weights: Mapping[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.asarray(array, order="C") for name, array in weights.items()})


def _config_json(config: Mapping[str, Any]) -> str:
    return json.dumps(dict(config), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
