"""LoRA adapters as the package PEFT saves them (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ravlm.encoders.hub_files import quiet
from ravlm.errors import Mismatch, MissingExtra

ADAPTER_CONFIG = "adapter_config.json"


def merge_adapter(network: Any, folder: Path) -> Any:
    """Return `network` with the adapter of `folder` merged into its weights.

    Raises MissingExtra without PEFT, Mismatch for an adapter that does not fit.
    """
    try:
        from peft import PeftModel
    except ImportError:
        raise MissingExtra("peft", "train", "An adapter") from None
    try:
        with quiet():
            return PeftModel.from_pretrained(network, folder).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Mismatch(f'The adapter "{folder}" does not fit its model: {reason}') from None
