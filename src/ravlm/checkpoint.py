"""A model on disk is a folder: config.json + model.safetensors, written atomically.

Knows no model: it moves a mapping of values and a mapping of arrays. Loading is strict or raises.
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
WEIGHTS = "model.safetensors"


def save_checkpoint(
    folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]
) -> None:
    """Write `config` and `weights` (name -> array) as the folder `folder`, whole or not at all."""
    with atomic_write(folder) as aside:
        aside.mkdir()
        (aside / CONFIG).write_text(_text(config), encoding="utf-8")
        (aside / WEIGHTS).write_bytes(_packed(weights))


def finish_checkpoint(
    folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]
) -> None:
    """Make a checkpoint of a folder that holds other things too, a training's log say; config.json
    comes last, so a folder that has one is whole."""
    with atomic_write(Path(folder) / WEIGHTS) as aside:
        aside.write_bytes(_packed(weights))
    with atomic_write(Path(folder) / CONFIG) as aside:
        aside.write_text(_text(config), encoding="utf-8")


def move_into(whole: Path, folder: Path) -> None:
    """Move a checkpoint's files from the folder `whole` into `folder`, which holds other things
    too; config.json comes last, so a checkpoint that has one is complete."""
    for path in sorted(whole.iterdir(), key=lambda path: path.name == CONFIG):
        if path.is_dir() and (folder / path.name).is_dir():
            shutil.rmtree(folder / path.name)
        os.replace(path, folder / path.name)
    whole.rmdir()


def read_checkpoint_config(folder: str | Path) -> dict[str, Any]:
    """The config.json of a checkpoint folder."""
    path = Path(folder) / CONFIG
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f'"{folder}" is not a checkpoint: there is no {CONFIG} in it.') from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BrokenData(f'The checkpoint config "{path}" is not valid JSON: {error}.') from error


def read_weights(folder: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint folder, by name."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise NotFound(
            f'The checkpoint "{folder}" has no weights: {WEIGHTS} is missing; save or download it again.'
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BrokenData(
            f'The weights "{path}" are damaged ({error}); save or download them again.'
        ) from error


def check_names(
    found: Mapping[str, Any], needed: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Raise Mismatch unless `found` has exactly the arrays of `needed` (name -> shape)."""
    missing, extra = sorted(needed.keys() - found.keys()), sorted(found.keys() - needed.keys())
    if missing or extra:
        faults = (("missing", missing), ("unknown", extra))
        parts = [f"{what}: {', '.join(names[:5])}" for what, names in faults if names]
        raise Mismatch(
            f'The weights of "{where}" do not fit the model ({"; ".join(parts)}); nothing was loaded.'
        )
    for name, shape in needed.items():
        if tuple(found[name].shape) != tuple(shape):
            raise Mismatch(
                f'"{name}" of "{where}" has the shape {tuple(found[name].shape)}; {tuple(shape)} is needed.'
            )


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _packed(weights: Mapping[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.asarray(array, order="C") for name, array in weights.items()})


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(dict(config), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
