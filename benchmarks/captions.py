"""What evidence brings to a trained generator: python benchmarks/captions.py --data ../shared/data
[--json FILE]

Captions of the 1,000 dev photos of flickr8k, the train photos and their captions being the
knowledge: the generator without evidence and with 4 and 8 entries, its twin that was trained
without any (`--twin FOLDER`), the nearest caption copied, and the consensus of the nearest entries'
captions, found as the generator finds them and by pictures alone. `--agreement 0 1 2` and
`--least-sure 0` measure what agreement of the beams with the evidence brings, and what giving up
guesses for what was found does. BLEU-4 and CIDEr (times 100) over words by [a-z0-9]+(?:'[a-z]+)?,
paired 95 % intervals of what evidence gains, and the seconds a caption beside the closed book's in
the same run: at first sight of the evidence, and again, when its encoding is in the cache."""

from __future__ import annotations

import argparse
import json
import re
import time
from dataclasses import replace
from pathlib import Path

from ravlm import KnowledgeBase, RetrievalAugmentedVLM, read_entries
from ravlm.evaluation.baselines import CopyGenerator, MajorityGenerator
from ravlm.evaluation.statistics import PairedScores
from ravlm.generation.auto import GeneratorName, load_generator
from ravlm.generation.captioner.generator import CaptionerGenerator
from ravlm.metrics import bleu, cider
from ravlm.records import Entry, Evidence, Score

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
BATCH = 32


def spoken(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))


def photos(data: Path, split: str) -> list[Entry]:
    return [
        e
        for e in read_entries(data / "flickr8k" / "metadata.jsonl")
        if e.metadata["split"] == split
    ]


class Arms:
    """The texts of each arm and the seconds of writing them."""

    def __init__(self, kb: KnowledgeBase, dev: list[Entry]) -> None:
        self.kb, self.dev = kb, dev
        self.texts: dict[str, list[str]] = {}
        self.seconds: dict[str, tuple[float, float]] = {}
        self._found: dict[tuple[int, str], list[Evidence]] = {}

    def evidence(self, model: RetrievalAugmentedVLM, k: int) -> list[Evidence] | None:
        key = (k, model.generator.evidence_modality)
        if k and key not in self._found:
            pictures = [str(e.image) for e in self.dev]
            self._found[key] = [
                found
                for i in range(0, len(pictures), BATCH)
                for found in model.retrieve(None, pictures[i : i + BATCH], k)
            ]
        return self._found.get(key)

    def add(self, name: str, generator: GeneratorName, k: int) -> None:
        model = RetrievalAugmentedVLM(self.kb, generator=generator)
        found = self.evidence(model, k)
        spent = []
        for _ in range(2):
            texts, start = [], time.perf_counter()
            for i in range(0, len(self.dev), BATCH):
                pictures = [str(e.image) for e in self.dev[i : i + BATCH]]
                given = found[i : i + BATCH] if found else None
                texts += [
                    spoken(answer.text) for answer in model.caption(pictures, k=k, evidence=given)
                ]
            spent.append((time.perf_counter() - start) / len(self.dev))
        self.seconds[name], self.texts[name] = (spent[0], spent[1]), texts

    def scores(self) -> dict[str, dict[str, Score]]:
        references = [[spoken(text) for text in entry.texts] for entry in self.dev]
        return {
            name: {
                "BLEU-4": bleu(texts, references, tokenize="none"),
                "CIDEr": cider(texts, references, tokenize="none"),
            }
            for name, texts in self.texts.items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--kb", type=Path, required=True, help="a base of the train split; made where there is none"
    )
    parser.add_argument("--generator", default="starter")
    parser.add_argument("--twin", help="the generator that was trained without evidence")
    parser.add_argument(
        "--agreement", type=float, nargs="*", default=[], help="weights to be tried, beside its own"
    )
    parser.add_argument(
        "--least-sure", type=float, nargs="*", default=[], help="bounds to be tried, beside its own"
    )
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", type=int, default=0, help="so many captions, to be read")
    given = parser.parse_args()
    dev = photos(given.data, "dev")[: given.photos]
    with KnowledgeBase.build(given.kb, photos(given.data, "train")) as kb:
        arms = Arms(kb, dev)
        arms.add("closed book (k = 0)", given.generator, 0)
        for k in (4, 8):
            arms.add(f"retrieved, k = {k}", given.generator, k)
        for setting in ("agreement", "least_sure"):
            for value in getattr(given, setting):
                tried = load_generator(given.generator, kb)
                assert isinstance(tried, CaptionerGenerator)
                tried.settings = replace(tried.settings, **{setting: value})
                arms.add(f"retrieved, k = 8, {setting.replace('_', ' ')} {value:g}", tried, 8)
        if given.twin:
            arms.add("closed-book twin", given.twin, 0)
        for evidence_modality in ("image", "text"):
            for name, baseline in (
                ("nearest caption copied", CopyGenerator()),
                ("consensus", MajorityGenerator()),
            ):
                baseline.evidence_modality = evidence_modality
                arms.add(f"{name}, retrieved by {evidence_modality}", baseline, 8)
        arms.add("extractive", "extractive", 8)
    report(arms, given.json)
    for i in range(given.show):
        print(
            dev[i].image, *(f"  {name}: {texts[i]}" for name, texts in arms.texts.items()), sep="\n"
        )


def report(arms: Arms, path: Path | None) -> None:
    scores = arms.scores()
    names = list(scores)
    rows: dict[str, dict[str, object]] = {}
    for metric in ("BLEU-4", "CIDEr"):
        paired = PairedScores([scores[name][metric] for name in names])
        scale = 100 if metric == "CIDEr" or scores[names[0]][metric].value < 1 else 1
        for i, name in enumerate(names):
            first, again = (a / arms.seconds[names[0]][1] for a in arms.seconds[name])
            times = {
                "seconds beside closed book, evidence new": round(first, 2),
                "evidence cached": round(again, 2),
            }
            row = rows.setdefault(name, dict(times))
            interval, gain = (
                paired.interval(i),
                paired.difference(i, names.index("retrieved, k = 8")),
            )
            row[metric] = [
                round(scale * v, 2) for v in (interval.score, interval.low, interval.high)
            ]
            row[f"{metric}: k = 8 gains"] = [
                round(scale * v, 2) for v in (gain.difference, gain.low, gain.high)
            ]
    for name, row in rows.items():
        print(name, *(f"  {key}: {value}" for key, value in row.items()), sep="\n")
    if path:
        path.write_text(
            json.dumps({"photos": len(arms.dev), "rows": rows}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
