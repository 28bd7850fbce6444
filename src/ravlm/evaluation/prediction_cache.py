"""Predictions on disk, so that an interrupted comparison resumes where it stopped.

One JSON Lines file per arm and model, named by a hash of everything a prediction depends on."""

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
    """The predictions of one arm and one model in `folder`; `key` is what they depend on."""

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
        self.path = folder / f"{digest[:32]}.jsonl"

    def read(self) -> dict[str, Prediction]:
        """Return the stored predictions by example id; truncated lines are skipped."""
        predictions = {}
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        for line in lines:
            try:
                prediction = from_mapping(Prediction, json.loads(line))
            except (json.JSONDecodeError, InvalidInput):
                continue
            predictions[prediction.id] = prediction
        return predictions

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Append predictions; they start on a new line, after a truncated one too."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(asdict(item), ensure_ascii=False) for item in predictions)
        text = "".join(f"\n{line}" for line in lines)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{text}\n")


def code_fingerprint() -> str:
    """Return a hash of this package's code: predictions of other code are not reused."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
