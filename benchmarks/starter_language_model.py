"""Measure the starter language model beside the default generator: captions, names and stories.

    python -m benchmarks.starter_language_model --data ../shared/data --kb KB --adapter FOLDER

The base holds the train photos of Flickr8k with their captions, the requests are about photos of
its dev split; those with even numbers are reported, those with odd numbers (`--half odd`) are for
choosing.

- captions: CIDEr (times 100) with four retrieved captions, with those of another photo, and with
  none, and the default generator's; differences are paired.
- names: a noun that references and evidence share becomes an invented word in both; the share of
  captions that say it.
- stories: their sentences, and the share of stories that say one twice.

Intervals are 95 % bootstrap intervals by photo.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.captions import normalize
from benchmarks.data import photos
from benchmarks.reports import interval_values, write_json
from ravlm import Answer, KnowledgeBase, RetrievalAugmentedVLM, Score
from ravlm.data.text import split_sentences
from ravlm.generation.base import Generator, Request
from ravlm.generation.captioner.generator import hit_captions
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.generation.citation_marks import remove_citations
from ravlm.generation.language_model import starter
from ravlm.metrics import cider
from ravlm.metrics.statistics import PairedScores
from ravlm.records import CLOSED_BOOK, Entry, Evidence
from recipes.grounded_dialogs import renamed
from recipes.grounded_dialogs.example import make_evidence

K = 4
SEED = 22


def main() -> None:
    options = parse_options()
    with KnowledgeBase.open(options.kb) as kb:
        examples = DevPhotos(kb, options.data, options.half, options.photos)
        generators: dict[str, Generator] = {
            "language model": ChatGenerator(starter.load_starter(options.adapter)),
            "default": RetrievalAugmentedVLM(kb).generator,
        }
        report = {
            "photos": len(examples.photos),
            "captions": captions(examples, generators),
            "names": names(examples, generators),
            "stories": stories(examples, generators, options.stories, options.show),
        }
    print(json.dumps(report, indent=1))
    write_json(report, options.json)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kb", type=Path, required=True, help="base of the train split")
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--half", choices=("odd", "even"), default="even")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--stories", type=int, default=50)
    parser.add_argument("--show", type=int, default=0, help="number of stories to print")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


class DevPhotos:
    """Photos of one half of the dev split, with their references and evidence."""

    def __init__(self, kb: KnowledgeBase, data: Path, half: str, count: int) -> None:
        start = 0 if half == "even" else 1
        self.photos: list[Entry] = photos(data, "dev")[start::2][:count]
        model = RetrievalAugmentedVLM(kb, generator="starter")
        images = [str(entry.image) for entry in self.photos]
        self.evidence: list[Evidence] = model.retrieve(None, images, K)

    def requests(
        self, evidence: Sequence[Evidence] | None = None, task: str = "caption"
    ) -> list[Request]:
        rows = self.evidence if evidence is None else evidence
        return [
            Request(task, image=entry.image, evidence=row)  # type: ignore[arg-type]
            for entry, row in zip(self.photos, rows, strict=True)
        ]

    def cider(self, answers: Sequence[Answer]) -> Score:
        texts = [normalize(remove_citations(answer.text)) for answer in answers]
        references = [[normalize(text) for text in entry.texts] for entry in self.photos]
        return cider(texts, references, tokenize="none")


def captions(examples: DevPhotos, generators: dict[str, Generator]) -> dict[str, object]:
    model = generators["language model"]
    others = [*examples.evidence[1:], examples.evidence[0]]
    arms = {
        "with evidence": model.generate(examples.requests()),
        "evidence of another photo": model.generate(examples.requests(others)),
        "no evidence": model.generate(examples.requests([CLOSED_BOOK] * len(others))),
        "default, with evidence": generators["default"].generate(examples.requests()),
    }
    return paired_rows({name: examples.cider(answers) for name, answers in arms.items()}, 100)


def names(examples: DevPhotos, generators: dict[str, Generator]) -> dict[str, object]:
    rng = random.Random(SEED)
    evidence, words, chosen = [], [], []
    for row, entry in enumerate(examples.photos):
        captions_of_hits = [hit_captions(hit)[0] for hit in examples.evidence[row].hits]
        references, others = renamed(entry.texts, captions_of_hits, rng, share=1.0)
        new = set(normalize(" ".join(others)).split()) - set(
            normalize(" ".join(captions_of_hits)).split()
        )
        if new and references != list(entry.texts):
            chosen.append(row)
            words.append(new)
            evidence.append(make_evidence(others, rng))
    results = {}
    for name, generator in generators.items():
        requests = [
            replace(request, evidence=row)
            for request, row in zip(
                (examples.requests()[row] for row in chosen), evidence, strict=True
            )
        ]
        answers = generator.generate(requests)
        said = [
            float(bool(new & set(normalize(answer.text).split())))
            for answer, new in zip(answers, words, strict=True)
        ]
        results[name] = Score(sum(said) / len(said), tuple(said), "says the name")
    return {"photos": len(chosen), **paired_rows(results, 100)}


def stories(
    examples: DevPhotos, generators: dict[str, Generator], count: int, show: int
) -> dict[str, object]:
    requests = examples.requests(task="tell")[:count]
    report: dict[str, object] = {}
    for name, generator in generators.items():
        answers = generator.generate(requests)
        repeats, lengths = 0, []
        for answer in answers:
            sentences = [remove_citations(s).strip() for s in split_sentences(answer.text)]
            repeats += len(set(sentences)) < len(sentences)
            lengths.append(len(sentences))
        report[name] = {
            "sentences": round(sum(lengths) / count, 2),
            "repeats a sentence": repeats / count,
        }
        for answer in answers[:show]:
            print(f"{name}: {answer.text}\n")
    return report


def paired_rows(scores: dict[str, Score], scale: float) -> dict[str, object]:
    """Return score with interval, and the first arm's gain over each."""
    paired = PairedScores(list(scores.values()))
    rows: dict[str, object] = {}
    for i, name in enumerate(scores):
        rows[name] = {
            "score": interval_values(paired.interval(i), scale, digits=1),
            "the first one gains": interval_values(paired.difference(i, 0), scale, digits=1),
        }
    return rows


if __name__ == "__main__":
    main()
