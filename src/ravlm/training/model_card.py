"""The model card of a trained model: README.md next to its weights, in the form of the Hugging Face
Hub."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ravlm.files import atomic_write

CARD = "README.md"


@dataclass(frozen=True)
class ModelCard:
    """What a reader of a model card wants to know."""

    title: str
    usage: str
    """Commands or code that use the model."""
    data: Mapping[str, str]
    """Part of the data -> its description, as `describe_data` words it: "training", "held out"."""
    settings: Any
    """The training configuration, a dataclass."""
    after: Mapping[str, float]
    """Figures on the held-out data after training ..."""
    before: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """... and before it, under the same names; empty for new weights."""
    base: str = ""
    """Name or folder of the checkpoint that the training began with; "" for new weights."""


def describe_data(num_items: int, noun: str, data: Any) -> str:
    """Return e.g. `608 texts from captions.jsonl`, with the file name if `data` is a path or has a
    `source`."""
    source = data if isinstance(data, str | PathLike) else getattr(data, "source", None)
    name = "" if source is None else f" from {Path(str(source)).name}"
    return f"{num_items:,} {noun}{name}"


def write_model_card(folder: str | Path, card: ModelCard) -> None:
    """Write README.md into the folder of a trained model. Raises DiskError."""
    from huggingface_hub import ModelCardData

    license_name = base_license(card.base)
    metadata = ModelCardData(
        library_name="ravlm", license=license_name, base_model=card.base or None, tags=["ravlm"]
    )
    sections = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {card.title}",
        "Trained with [ravlm](https://pypi.org/project/ravlm).",
        f"## Use\n\n```\n{card.usage}\n```",
        "## Data\n\n" + "\n".join(f"- {part}: {text}" for part, text in card.data.items()),
        "## License\n\n" + _license_text(card.base, license_name),
        "## Figures\n\n" + _figures_table(card),
        "## Settings\n\n" + _settings_table(card.settings),
    ]
    with atomic_write(Path(folder) / CARD) as path:
        path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def base_license(base: str) -> str | None:
    """Return the license in the model card of a checkpoint on this machine; None if there is none.

    `base` is a folder, or a name on the hub whose files are in the cache.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.repocard import metadata_load

    card: Any = Path(base) / CARD
    if not base or not card.is_file():
        try:
            card = try_to_load_from_cache(base, CARD)
        except HFValidationError:  # not the form of a name on the hub
            return None
    if not isinstance(card, str | Path):
        return None
    try:
        metadata = metadata_load(card)
    except (OSError, ValueError):
        return None
    value = (metadata or {}).get("license")
    return value if isinstance(value, str) else None


def _license_text(base: str, license_name: str | None) -> str:
    if not base:
        return "The weights are new; the license of the data applies."
    if base == "starter":
        text = "The terms of the base, ravlm's starter, are in its model card and apply"
    elif license_name is None:
        text = f"The base model is `{base}`; its files do not state a license. Check it"
    else:
        text = f"The base model `{base}` has the license {license_name}, which applies"
    return f"{text}, as well as the license of the data."


def _figures_table(card: ModelCard) -> str:
    names = [name for name in {**card.before, **card.after} if name != "step"]
    if not names:
        return "None: no data was held out."
    rows = [
        f"| {name} | {_number(card.before, name)} | {_number(card.after, name)} |" for name in names
    ]
    return "\n".join(["| held-out data | before | after |", "|---|---|---|", *rows])


def _number(figures: Mapping[str, float], name: str) -> str:
    return f"{figures[name]:.4g}" if name in figures else "-"


def _settings_table(settings: Any) -> str:
    rows = [f"| {name} | {value} |" for name, value in dataclasses.asdict(settings).items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows])
