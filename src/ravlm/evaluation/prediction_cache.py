"""Predictions kept on disk as they come, so that a comparison that was cut off goes on where it
stopped.

A file of JSON lines for each arm and model, named by a hash of what a prediction depends on. Knows
no scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ravlm.config import from_mapping
from ravlm.errors import InvalidInput
from ravlm.tasks.base import Prediction


class PredictionCache:
    """The predictions of one arm and one model in `folder`; `key` says what they depend on."""

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
        self.path = folder / f"{digest[:32]}.jsonl"

    def read(self) -> dict[str, Prediction]:
        """What is there, by the example's id; a line that was cut off is passed over."""
        found = {}
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        for line in lines:
            try:
                prediction = from_mapping(Prediction, json.loads(line))
            except (json.JSONDecodeError, InvalidInput):
                continue
            found[prediction.id] = prediction
        return found

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Keep more of them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(
            f"\n{json.dumps(asdict(prediction), ensure_ascii=False)}" for prediction in predictions
        )
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{text}\n")


def code_fingerprint() -> str:
    """A hash of this package's own code: predictions of other code are not taken for its own."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
