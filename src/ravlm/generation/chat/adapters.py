"""LoRA adapters as the package PEFT saves them (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from ravlm.encoders.hub_files import quiet
from ravlm.errors import BrokenData, Mismatch, MissingExtra, NotFound

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def merge_adapter(network: Any, folder: Path) -> Any:
    """Return `network` with the LoRA adapter of `folder` merged into its weights.

    Weights are read from safetensors alone. Raises MissingExtra without PEFT, NotFound or
    BrokenData for a folder without a readable adapter, Mismatch for one that does not fit.
    """
    try:
        import peft
    except ImportError:
        raise MissingExtra("peft", "train", "An adapter") from None
    values = _read_config(folder)
    weights = _read_weights(folder)
    known = {field.name for field in fields(peft.LoraConfig)}
    try:
        with quiet():
            config = peft.LoraConfig(**{k: v for k, v in values.items() if k in known})
            tuned = peft.get_peft_model(network, config)
            report: Any = peft.set_peft_model_state_dict(tuned, weights)
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        raise Mismatch(
            f'The adapter "{folder}" does not fit its model: {str(error).splitlines()[0]}'
        ) from None
    unexpected = report.unexpected_keys
    if unexpected:
        raise Mismatch(
            f'The adapter "{folder}" does not fit its model: it has weights for '
            f"{', '.join(sorted(unexpected)[:3])}."
        )
    return tuned.merge_and_unload()


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / ADAPTER_CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f'"{folder}" is not an adapter: it has no {ADAPTER_CONFIG}.') from None
    except ValueError as error:
        raise BrokenData(f'"{path}" is not valid JSON: {error}.') from None
    kind = values.get("peft_type") if isinstance(values, dict) else None
    if kind != "LORA":
        raise Mismatch(f'The adapter "{folder}" is of the type "{kind}"; only LORA is read.')
    return values


def _read_weights(folder: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / ADAPTER_WEIGHTS
    try:
        return load_file(path)
    except FileNotFoundError:
        raise NotFound(f'The adapter "{folder}" has no {ADAPTER_WEIGHTS}.') from None
    except SafetensorError as error:
        raise BrokenData(f'"{path}" is damaged ({error}). Save it again.') from None
