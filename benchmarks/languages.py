"""Find dev photos by captions in many languages, and passages by questions:
python -m benchmarks.languages --data ../shared/data [--json FILE]

Recall at 1, 5 and 10 of 1,000 photos of flickr8k for captions by native speakers (English, Chinese,
German), for translations (Chinese by machine; German, French and Czech by people; a hundred by hand
into Spanish, Japanese and Arabic), and for the same captions in English. Recall at 1, 4 and 10 of
English and Chinese passages. Both for the encoder and for the one without its multilingual network.
Dev splits only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.data import DATA, images_of, photos, read_lines
from benchmarks.encoder import ranks_of
from benchmarks.reading import read_passages, read_questions
from benchmarks.reports import write_json
from ravlm.data.text import split_sentences
from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Encoder
from ravlm.encoders.starter.encoder import StarterEncoder

TRANSLATED = Path(__file__).parent / "translated_captions.jsonl"
TRANSLATED_LANGUAGES = ("es", "ja", "ar")


@dataclass(frozen=True)
class CaptionSet:
    """Captions of one source, the photo of each, and the same captions in English, if any."""

    name: str
    captions: list[str]
    photos: np.ndarray
    english: list[str] | None = None

    def sample(self, limit: int | None) -> CaptionSet:
        """Return `limit` of the captions, drawn at random; all for None."""
        rows = np.random.default_rng(0).permutation(len(self.captions))[:limit].tolist()
        captions = [self.captions[row] for row in rows]
        english = None if self.english is None else [self.english[row] for row in rows]
        return CaptionSet(self.name, captions, self.photos[rows], english)


def caption_sets(data: Path) -> Iterator[CaptionSet]:
    """Yield the captions of the dev photos by source."""
    dev = photos(data, "dev")
    number = {entry.id: i for i, entry in enumerate(dev)}
    numbers = np.arange(len(dev))
    texts = [list(entry.texts) for entry in dev]
    yield CaptionSet(
        "English, five people", [text for row in texts for text in row], np.repeat(numbers, 5)
    )
    rows = {Path(row["image"]).stem: row for row in read_lines(data / "flickr8k_cn/captions.jsonl")}
    chinese = [(number[key], row) for key, row in rows.items() if key in number]
    owners = np.repeat([i for i, _ in chinese], 5)
    native = [text for _, row in chinese for text in row["texts"]]
    yield CaptionSet("Chinese, native speakers", native, owners)
    translated = [text for _, row in chinese for text in row["machine_translated"]]
    originals = [text for i, _ in chinese for text in texts[i]]
    yield CaptionSet("Chinese, translated by machine", translated, owners, originals)
    several = read_lines(data / "multi30k" / "captions.jsonl")
    several = [row for row in several if Path(row["image"]).stem in number]
    owners = np.array([number[Path(row["image"]).stem] for row in several])
    native = [text for row in several for text in row["german"]]
    counts = [len(row["german"]) for row in several]
    yield CaptionSet("German, native speakers", native, np.repeat(owners, counts))
    originals = [row["translated"]["en"] for row in several]
    for name, key in (("German", "de"), ("French", "fr"), ("Czech", "cs")):
        translated = [row["translated"][key] for row in several]
        yield CaptionSet(f"{name}, translated", translated, owners, originals)
    by_hand = [row for row in read_lines(TRANSLATED) if row["id"] in number]
    owners = np.array([number[row["id"]] for row in by_hand])
    originals = [dev[i].texts[row["caption"]] for i, row in zip(owners, by_hand, strict=True)]
    for key in TRANSLATED_LANGUAGES:
        translated = [row[key] for row in by_hand]
        yield CaptionSet(f"{key}, translated by hand", translated, owners, originals)


def recall(scores: np.ndarray, targets: np.ndarray, ks: tuple[int, ...]) -> list[float]:
    """Return the percentage of rows whose target is among the best k, for each k."""
    ranks = ranks_of(scores, targets)
    return [round(100 * float(np.mean(ranks < k)), 1) for k in ks]


def passage_recall(encoder: Encoder, folder: Path) -> list[float]:
    """Return the recall at 1, 4 and 10 of the passages of dev questions.

    A passage's score is its own cosine and that of its best sentence, added.
    """
    texts = read_passages(folder)
    questions = [q for q in read_questions(folder) if q.answers]
    sentences = [sentence for text in texts.values() for sentence in split_sentences(text)]
    counts = [len(split_sentences(text)) for text in texts.values()]
    first = np.cumsum([0, *counts[:-1]])
    queries = encoder.encode_texts([q.text for q in questions], role="query")
    passages = queries @ encoder.encode_texts(list(texts.values())).T
    best = np.maximum.reduceat(queries @ encoder.encode_texts(sentences).T, first, axis=1)
    number = {key: i for i, key in enumerate(texts)}
    targets = np.array([number[question.passage] for question in questions])
    return recall(passages + best, targets, (1, 4, 10))


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--encoder", default="starter")
    parser.add_argument("--passages", action="store_true", help="measure passages, too")
    parser.add_argument("--limit", type=int, help="captions of each source, for a short run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    encoder = DualEncoder.load(options.encoder)
    encoders: dict[str, Encoder] = {encoder.name: encoder}
    if isinstance(encoder, StarterEncoder) and encoder.config.reads_sentences:
        encoders["English network alone"] = encoder.without_sentences()
    images = images_of(photos(options.data, "dev"))
    figures: dict[str, dict[str, list[float]]] = {}
    for name, one in encoders.items():
        vectors = one.encode_images(images)
        for source in caption_sets(options.data):
            captions = source.sample(options.limit)
            row = figures.setdefault(captions.name, {})
            texts = one.encode_texts(captions.captions, role="query")
            row[name] = recall(texts @ vectors.T, captions.photos, (1, 5, 10))
            if captions.english is not None:
                texts = one.encode_texts(captions.english, role="query")
                row[f"{name}, in English"] = recall(texts @ vectors.T, captions.photos, (1, 5, 10))
        for folder in ("squad", "cmrc2018") if options.passages else ():
            row = figures.setdefault(f"passages of {folder}", {})
            row[name] = passage_recall(one, options.data / folder)
    for title, row in figures.items():
        print(title, row, flush=True)
    report = {"fingerprint": encoder.fingerprint, "captions": options.limit, "figures": figures}
    write_json(report, options.json)


if __name__ == "__main__":
    main()
