"""Measure what evidence brings to a trained generator: python -m benchmarks.captions --data
../shared/data --kb KB [--json FILE]

It captions the 1,000 dev photos of Flickr8k; the train photos and their captions are the knowledge
base. Arms: the generator without evidence and with 4 and 8 entries, the same model trained without
any (`--twin FOLDER`), the nearest caption copied, and the consensus of the nearest entries'
captions, retrieved as the generator does and by image alone. `--agreement-weight 0 1 2` measures
what choosing among beams by agreement with the evidence brings, `--confidence-threshold 0` what
replacing uncertain captions by retrieved ones does.

Scores are BLEU-4 and CIDEr (times 100) over words by [a-z0-9]+(?:'[a-z]+)?, with paired 95 %
intervals of the gain from evidence. Times are relative to the closed book's in the same run: with
new evidence, and again with the evidence's encoding in the cache."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.data import DATA, photos
from benchmarks.reports import interval_values, write_json
from ravlm import KnowledgeBase, RetrievalAugmentedVLM
from ravlm.evaluation.baselines import CopyGenerator, MajorityGenerator
from ravlm.generation.auto import GeneratorName, load_generator
from ravlm.generation.captioner.generator import CaptionerGenerator
from ravlm.metrics import bleu, cider
from ravlm.metrics.statistics import PairedScores
from ravlm.records import Entry, Evidence, Score

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
BATCH_SIZE = 32
FULL_ARM = "retrieved, k = 8"


def normalize(text: str) -> str:
    """Return the words of a text in lower case, without punctuation."""
    return " ".join(_WORD.findall(text.lower()))


class Arms:
    """The captions of each arm, and the seconds per caption."""

    def __init__(self, kb: KnowledgeBase, dev: list[Entry]) -> None:
        self.kb = kb
        self.dev = dev
        self.texts: dict[str, list[str]] = {}
        self.seconds: dict[str, tuple[float, float]] = {}
        """With new evidence, and with cached evidence."""
        self._evidence: dict[tuple[int, str], list[Evidence]] = {}

    def evidence(self, model: RetrievalAugmentedVLM, k: int) -> list[Evidence] | None:
        """Return the evidence for each photo; None for the closed book."""
        key = (k, model.generator.evidence_modality)
        if k and key not in self._evidence:
            images = [str(entry.image) for entry in self.dev]
            self._evidence[key] = [
                evidence
                for start in range(0, len(images), BATCH_SIZE)
                for evidence in model.retrieve(None, images[start : start + BATCH_SIZE], k)
            ]
        return self._evidence.get(key)

    def add(self, name: str, generator: GeneratorName, k: int) -> None:
        """Caption all photos twice."""
        model = RetrievalAugmentedVLM(self.kb, generator=generator)
        evidence = self.evidence(model, k)
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            self.texts[name] = self._captions(model, evidence, k)
            seconds.append((time.perf_counter() - start) / len(self.dev))
        self.seconds[name] = (seconds[0], seconds[1])

    def _captions(
        self, model: RetrievalAugmentedVLM, evidence: list[Evidence] | None, k: int
    ) -> list[str]:
        texts = []
        for start in range(0, len(self.dev), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            images = [str(entry.image) for entry in self.dev[batch]]
            batch_evidence = evidence[batch] if evidence else None
            answers = model.caption(images, k=k, evidence=batch_evidence)
            texts += [normalize(answer.text) for answer in answers]
        return texts

    def scores(self) -> dict[str, dict[str, Score]]:
        references = [[normalize(text) for text in entry.texts] for entry in self.dev]
        return {
            name: {
                "BLEU-4": bleu(texts, references, tokenize="none"),
                "CIDEr": cider(texts, references, tokenize="none"),
            }
            for name, texts in self.texts.items()
        }


def main() -> None:
    options = parse_options()
    dev = photos(options.data, "dev")[: options.photos]
    with KnowledgeBase.build(options.kb, photos(options.data, "train")) as kb:
        arms = Arms(kb, dev)
        arms.add("closed book (k = 0)", options.generator, 0)
        for k in (4, 8):
            arms.add(f"retrieved, k = {k}", options.generator, k)
        for setting in ("agreement_weight", "confidence_threshold"):
            add_setting(arms, options.generator, setting, getattr(options, setting))
        if options.twin:
            arms.add("closed-book twin", options.twin, 0)
        add_baselines(arms)
    report(arms, options.json)
    for row in range(options.show):
        captions = (f"  {name}: {texts[row]}" for name, texts in arms.texts.items())
        print(dev[row].image, *captions, sep="\n")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument(
        "--kb", type=Path, required=True, help="base of the train split; built if it does not exist"
    )
    parser.add_argument("--generator", default="starter")
    parser.add_argument("--twin", help="the generator that was trained without evidence")
    for name in ("agreement-weight", "confidence-threshold"):
        parser.add_argument(
            f"--{name}", type=float, nargs="*", default=[], help="further values to measure"
        )
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", type=int, default=0, help="number of captions to print")
    return parser.parse_args()


def add_setting(arms: Arms, name: str, setting: str, values: Sequence[float]) -> None:
    for value in values:
        generator = load_generator(name, arms.kb)
        assert isinstance(generator, CaptionerGenerator)
        changes: dict[str, Any] = {setting: value}
        generator.settings = replace(generator.settings, **changes)
        arms.add(f"{FULL_ARM}, {setting.replace('_', ' ')} {value:g}", generator, 8)


def add_baselines(arms: Arms) -> None:
    for modality in ("image", "text"):
        baselines = {"nearest caption copied": CopyGenerator(), "consensus": MajorityGenerator()}
        for name, baseline in baselines.items():
            baseline.evidence_modality = modality
            arms.add(f"{name}, retrieved by {modality}", baseline, 8)
    arms.add("extractive", "extractive", 8)


def report(arms: Arms, path: Path | None) -> None:
    scores = arms.scores()
    names = list(scores)
    rows: dict[str, dict[str, object]] = {name: relative_times(arms, name) for name in names}
    for metric in ("BLEU-4", "CIDEr"):
        paired = PairedScores([scores[name][metric] for name in names])
        scale = 100 if metric == "CIDEr" or scores[names[0]][metric].value < 1 else 1
        for i, name in enumerate(names):
            gain = paired.difference(i, names.index(FULL_ARM))
            rows[name][metric] = interval_values(paired.interval(i), scale)
            rows[name][f"{metric}: k = 8 gains"] = interval_values(gain, scale)
    for name, row in rows.items():
        print(name, *(f"  {key}: {value}" for key, value in row.items()), sep="\n")
    write_json({"photos": len(arms.dev), "rows": rows}, path)


def relative_times(arms: Arms, name: str) -> dict[str, object]:
    """Return the seconds per caption, relative to the closed book."""
    closed_book = arms.seconds[next(iter(arms.seconds))][1]
    first, again = (seconds / closed_book for seconds in arms.seconds[name])
    return {
        "time relative to closed book, new evidence": round(first, 2),
        "with cached evidence": round(again, 2),
    }


if __name__ == "__main__":
    main()
