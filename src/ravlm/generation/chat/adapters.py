"""LoRA adapters as the package PEFT saves them (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from ravlm.encoders.hub_files import hash_weights, quiet
from ravlm.errors import BrokenData, Mismatch, MissingExtra, NotFound

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
SEPARATOR = "+"
"""Between a model and its adapter: "MODEL+ADAPTER"."""
_SCALING_KEYS = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")


def split_adapter(name: str) -> tuple[str, str]:
    """Split "MODEL+ADAPTER"; the adapter is empty for a model alone. A folder may contain a "+".

    >>> split_adapter("Qwen/Qwen2-VL-2B-Instruct+runs/birds")
    ('Qwen/Qwen2-VL-2B-Instruct', 'runs/birds')
    """
    if Path(name).expanduser().exists():
        return name, ""
    splits = [i for i, character in enumerate(name) if character == SEPARATOR]
    for i in splits:  # the first "+" behind which a folder is
        if Path(name[i + 1 :]).expanduser().is_dir():
            return name[:i], name[i + 1 :]
    model, _, adapter = name.partition(SEPARATOR)
    return model, adapter


def is_adapter(folder: Path) -> bool:
    """Return whether a folder has an adapter and no model of its own."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def adapter_base(folder: Path) -> str:
    """Return the name of the model that an adapter was trained on.

    Raises NotFound, BrokenData or Mismatch for a folder without a readable adapter, or one that
    names no model.
    """
    base = _read_config(folder).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise Mismatch(
            f'The adapter "{folder}" does not name its model. Name both: '
            f'generator="MODEL{SEPARATOR}{folder}".'
        )
    return base


def adapter_fingerprint(folder: Path) -> str:
    """Return a hash of an adapter's weights and of what they are scaled by."""
    config = _read_config(folder)
    scaling = json.dumps({key: config.get(key) for key in _SCALING_KEYS}, sort_keys=True)
    weights = hash_weights(_read_weights(folder))
    return hashlib.sha256(f"{weights} {scaling}".encode()).hexdigest()


def load_adapter(network: Any, folder: Path) -> Any:
    """Return `network` with the LoRA adapter of `folder`, as PEFT's model.

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
    missing = [key for key in report.missing_keys if "lora_" in key or "modules_to_save" in key]
    for problem, keys in (("has weights for", report.unexpected_keys), ("lacks", missing)):
        if keys:
            raise Mismatch(
                f'The adapter "{folder}" does not fit its model: it {problem} '
                f"{', '.join(sorted(keys)[:3])}."
            )
    return tuned


def merge_adapter(network: Any, folder: Path) -> Any:
    """Return `network` with the LoRA adapter of `folder` merged into its weights.

    Into quantized weights it is not merged: they would be rounded. Raises what `load_adapter`
    raises.
    """
    tuned = load_adapter(network, folder)
    is_quantized = getattr(network, "quantization_method", None) is not None
    return tuned.eval() if is_quantized else tuned.merge_and_unload()


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
