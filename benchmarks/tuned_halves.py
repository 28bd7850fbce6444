"""Choose the captioner's settings on one half of the dev photos, and measure on the other half.

    python -m benchmarks.tuned_halves --data ../shared/data --kb KB [--photos 1000] [--json FILE]

The weight of the beams' agreement with the evidence and the confidence threshold have the
highest CIDEr on the odd photos of Flickr8k's dev split; BLEU-4 and CIDEr (times 100) are of the
even ones, with paired 95 % intervals of the gain over the closed book. The train photos and their
captions are the knowledge base."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from benchmarks.captions import BATCH_SIZE, normalize
from benchmarks.data import DATA, photos
from benchmarks.reports import interval_values, write_json
from ravlm import KnowledgeBase, RetrievalAugmentedVLM
from ravlm.generation.base import Request
from ravlm.generation.captioner.generator import Beam, CaptionerGenerator, hit_captions
from ravlm.metrics import bleu, cider
from ravlm.metrics.statistics import PairedScores
from ravlm.records import CLOSED_BOOK, Entry, Score

AGREEMENT_WEIGHTS = (0.0, 1.0, 2.0, 4.0, 8.0)
CONFIDENCE_THRESHOLDS = (0.0, 0.45, 0.55, 0.65)
K = 8


class BeamSets:
    """The beams of each photo with its request."""

    def __init__(self, model: RetrievalAugmentedVLM, dev: Sequence[Entry], k: int) -> None:
        self.generator: CaptionerGenerator = model.generator
        self.dev = dev
        self.requests: list[Request] = []
        self.beams: list[list[Beam]] = []
        for start in range(0, len(dev), BATCH_SIZE):
            images = [str(entry.image) for entry in dev[start : start + BATCH_SIZE]]
            evidence = model.retrieve(None, images, k) if k else [CLOSED_BOOK] * len(images)
            batch = [
                Request("caption", image=image, evidence=row)
                for image, row in zip(images, evidence, strict=True)
            ]
            self.requests += batch
            self.beams += self.generator.beam_search(self.generator.model_inputs(batch))

    def captions(self, agreement_weight: float, threshold: float) -> list[str]:
        """Return the captions that the generator chooses with these settings."""
        settings = self.generator.settings
        self.generator.settings = replace(settings, agreement_weight=agreement_weight)
        texts = []
        for request, beams in zip(self.requests, self.beams, strict=True):
            best = self.generator.best_beam(request, beams)
            hits = request.evidence.hits
            is_unsure = bool(hits) and math.exp(best.score) < threshold
            texts.append(normalize(hit_captions(hits[0])[0] if is_unsure else best.text))
        self.generator.settings = settings
        return texts


def scores(texts: Sequence[str], dev: Sequence[Entry]) -> dict[str, Score]:
    """Return the scores of captions."""
    references = [[normalize(text) for text in entry.texts] for entry in dev]
    return {
        "BLEU-4": bleu(texts, references, tokenize="none"),
        "CIDEr": cider(texts, references, tokenize="none"),
    }


def main() -> None:
    """Parse the options, choose, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--kb", type=Path, required=True, help="base of the train split")
    parser.add_argument("--generator", default="starter")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    dev = photos(options.data, "dev")[: options.photos]
    with KnowledgeBase.build(options.kb, photos(options.data, "train")) as kb:
        model = RetrievalAugmentedVLM(kb, generator=options.generator)
        closed_book, retrieved = BeamSets(model, dev, 0), BeamSets(model, dev, K)
    odd, even = slice(1, None, 2), slice(0, None, 2)
    grid = list(product(AGREEMENT_WEIGHTS, CONFIDENCE_THRESHOLDS))
    captions = {setting: retrieved.captions(*setting) for setting in grid}
    chosen = max(grid, key=lambda s: scores(captions[s][odd], dev[odd])["CIDEr"].value)
    arms = {
        "closed book": closed_book.captions(0.0, 0.0)[even],
        "retrieved, likeliest beam": captions[0.0, 0.0][even],
        "retrieved, chosen settings": captions[chosen][even],
    }
    results = {name: scores(texts, dev[even]) for name, texts in arms.items()}
    rows: dict[str, dict[str, list[float]]] = {name: {} for name in arms}
    for metric in ("BLEU-4", "CIDEr"):
        paired = PairedScores([results[name][metric] for name in arms])
        for i, name in enumerate(arms):
            rows[name][metric] = interval_values(paired.interval(i), 100, digits=1)
            gain = paired.difference(0, i)
            rows[name][f"{metric}: gain"] = interval_values(gain, 100, digits=1)
    settings = {"agreement weight": chosen[0], "confidence threshold": chosen[1]}
    report = {"photos": len(dev[even]), "chosen on the other half": settings, "rows": rows}
    print(json.dumps(report, indent=1))
    write_json(report, options.json)


if __name__ == "__main__":
    main()
