"""What a run saves to resume from, and the identity that it must share to be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ravlm.checkpoint import CONFIG, WEIGHTS, check_shapes
from ravlm.config import to_mapping
from ravlm.errors import BrokenData, Busy
from ravlm.files import atomic_write, try_lock
from ravlm.training.config import OLD_LOOP_KEYS, LoopConfig

_LOCK = ".lock"
_MAX_DIFFERENCES = 4
"""Settings that a message names."""


@dataclass(frozen=True)
class RunIdentity:
    """What decides the result of a run, apart from the initial weights of what is trained."""

    loop: LoopConfig
    settings: Mapping[str, Any]
    """The whole training configuration, as JSON."""
    data: str
    """Hash of the data."""
    frozen_weights: str
    """Hash of the weights that are not trained."""

    def to_mapping(self) -> dict[str, Any]:
        """Return the JSON form, which is saved with the weights."""
        return {
            "config": to_mapping(self.loop),
            "settings": dict(self.settings),
            "data": self.data,
            "frozen_weights": self.frozen_weights,
        }

    def differences(self, saved: Mapping[str, Any]) -> str:
        """Return what a saved identity has that this one has not, in words; "" if they are equal.

        Checkpoints of earlier versions have only the configuration of the loop, which is compared.
        """
        loop = saved.get("config", saved)
        if not isinstance(loop, Mapping):
            return "it is of another version of ravlm"
        loop = {OLD_LOOP_KEYS.get(key, key): value for key, value in loop.items()}
        current_loop = to_mapping(self.loop)
        if loop.keys() != current_loop.keys():
            return "it is of another version of ravlm"
        settings = saved.get("settings", self.settings)
        names = [*self.settings, *(name for name in current_loop if name not in self.settings)]
        before, now = {**loop, **settings}, {**current_loop, **self.settings}
        differences = [
            f"{name} was {before.get(name)}, now {now.get(name)}"
            for name in dict.fromkeys([*names, *settings])
            if before.get(name) != now.get(name)
        ]
        if len(differences) > _MAX_DIFFERENCES:
            differences[_MAX_DIFFERENCES:] = ["..."]
        for key, name in (("data", "the data"), ("frozen_weights", "the frozen weights")):
            if saved.get(key, getattr(self, key)) != getattr(self, key):
                differences.append(f"{name} changed")
        return "; ".join(differences)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep `folder` for one run: Busy is raised if another process trains there."""
    with try_lock(folder / _LOCK) as is_locked:
        if is_locked is False:
            raise Busy(
                f'Another training is running in "{folder}". Wait until it ends, or choose '
                "another folder."
            )
        try:
            yield
        finally:
            (folder / _LOCK).unlink(missing_ok=True)


def write_config(folder: Path, identity: RunIdentity) -> None:
    """Write config.json of a checkpoint, atomically. Raises DiskError."""
    with atomic_write(folder / CONFIG) as path:
        path.write_text(json.dumps(identity.to_mapping(), indent=2) + "\n", encoding="utf-8")


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any dtype as a safetensors file, atomically. Raises DiskError."""
    from safetensors.torch import save_file

    # copies: safetensors refuses tensors that share memory, as tied weights do
    contiguous = torch.contiguous_format
    copies = {n: t.detach().cpu().clone(memory_format=contiguous) for n, t in tensors.items()}
    with atomic_write(path) as target:
        save_file(copies, target)


def read_tensors(folder: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint on the CPU, more than the `expected` ones included.

    Raises BrokenData for a damaged file, Mismatch if an expected tensor is missing or has another
    shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise BrokenData(
            f'The weights "{folder / WEIGHTS}" are damaged ({error}). Delete "{folder}" to start '
            "over."
        ) from error
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    check_shapes({n: t for n, t in tensors.items() if n in shapes}, shapes, str(folder))
    return tensors
