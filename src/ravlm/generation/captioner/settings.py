"""How a captioner is fed and decoded: the file generator.json in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ravlm.checkpoint import read_json_object
from ravlm.config import from_mapping, to_mapping
from ravlm.files import STARTER
from ravlm.records import Modality

STARTER_GENERATOR = STARTER / "generator"
"""The captioner that comes with the package."""
SETTINGS_FILE = "generator.json"
_OLD_KEYS = {
    "sources": "processor",
    "beams": "num_beams",
    "most_words": "max_new_tokens",
    "budget": "max_evidence_tokens",
    "reads": "evidence_modality",
    "most_unknown": "max_unknown",
    "agreement": "agreement_weight",
    "least_sure": "confidence_threshold",
}
_OLD_PROCESSORS = {"processor": "transformers"}


@dataclass(frozen=True)
class CaptionerSettings:
    """How a captioner is fed and decoded."""

    processor: Literal["starter", "transformers"] = "starter"
    """What turns images and texts into model inputs: the starter's backbones, or the image
    processor and the tokenizer of a Transformers checkpoint."""
    image_size: int = 260
    """Side of an image in pixels; used by the starter's backbones."""
    num_beams: int = 3
    length_penalty: float = 1.0
    max_new_tokens: int = 24
    max_evidence_tokens: int = 240
    """Tokens of evidence per request."""
    evidence_modality: Modality = "image"
    """See `Generator.evidence_modality`."""
    max_unknown: float = 0.15
    """If more than this fraction of the evidence's words is not in the vocabulary, the fallback
    generator writes the caption."""
    agreement_weight: float = 0.0
    """Weight of a beam's agreement with the evidence, next to its mean log-probability of a token,
    when the best beam is chosen."""
    confidence_threshold: float = 0.0
    """Below this mean token probability the caption is no better than a guess: the top retrieved
    caption is returned instead."""
    trained_on: tuple[str, ...] = ()
    """Training data, for people."""


def read_settings(folder: Path) -> CaptionerSettings:
    """Read a captioner's settings, those with earlier names included.

    Raises BrokenData for a file that is not JSON, InvalidInput for an unknown setting.
    """
    path = folder / SETTINGS_FILE
    values = {_OLD_KEYS.get(key, key): value for key, value in read_json_object(path).items()}
    processor = values.get("processor")
    if isinstance(processor, str):
        values["processor"] = _OLD_PROCESSORS.get(processor, processor)
    return from_mapping(CaptionerSettings, values, str(path))


def write_settings(settings: CaptionerSettings, folder: Path) -> None:
    """Write the settings into a captioner's folder."""
    text = json.dumps(to_mapping(settings), indent=1) + "\n"
    (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
