"""Measure whether captions have the style of their base.

    python -m benchmarks.manner --data ../shared/data --kb KB [--generator G]

The same 200 product photos of ikea_products are captioned with three bases: a catalogue (the other
products, with name and description), captions of Flickr8k's train photos (`--kb`, built if it does
not exist), and headlines (the catalogue's images, each with the first words of its description as a
headline). The style of a caption is that of the likeliest of three unigram models, fitted on texts
that no base holds (the headlines' in capitals). Captions from the catalogue are also compared with
the product's own texts."""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from math import log
from pathlib import Path

from benchmarks.data import DATA, photos
from benchmarks.reports import write_json
from ravlm import KnowledgeBase, RetrievalAugmentedVLM, read_entries
from ravlm.metrics import token_f1
from ravlm.records import Entry

NUM_PRODUCTS, HEADLINE_WORDS = 200, 6
_WORD = re.compile(r"[A-Za-z0-9']+")


def headline(entry: Entry) -> str:
    """Return the first words of a description in capitals: "YOUR CHILD CAN USE IT FOR"."""
    return " ".join(_WORD.findall(entry.texts[-1])[:HEADLINE_WORDS]).upper()


class UnigramStyles:
    """One unigram model for each style; `texts` are its examples."""

    def __init__(self, texts: dict[str, list[str]]) -> None:
        self.counts = {
            name: Counter(word for text in examples for word in _WORD.findall(text))
            for name, examples in texts.items()
        }
        self.vocabulary_size = len(set().union(*self.counts.values())) + 1

    def likeliest(self, text: str) -> str:
        """Return the style under which a text is likeliest."""
        return max(self.counts, key=lambda name: self._log_likelihood(name, text))

    def _log_likelihood(self, name: str, text: str) -> float:
        counts = self.counts[name]
        total = counts.total() + self.vocabulary_size
        return sum(log((counts[word] + 1) / total) for word in _WORD.findall(text))


def main() -> None:
    """Parse the options, write captions with each base, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument(
        "--kb",
        type=Path,
        required=True,
        help="a base of the train photos; built if it does not exist",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/manner"), help="folder of the other two bases"
    )
    parser.add_argument("--generator", default="extractive")
    parser.add_argument("--limit", type=int, help="products in all, for a short run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", type=int, default=0, help="number of captions to print")
    options = parser.parse_args()
    products = list(read_entries(options.data / "ikea_products" / "metadata.jsonl"))
    step = len(products) // NUM_PRODUCTS
    products = products[: options.limit]
    queries = products[::step][:NUM_PRODUCTS]
    catalogue = [p for i, p in enumerate(products) if i % step]
    bases = {
        "catalogue": (
            options.work / "catalogue",
            [Entry(p.id, p.image, p.texts) for p in catalogue],
        ),
        "photo captions": (options.kb, photos(options.data, "train")),
        "headlines": (
            options.work / "headlines",
            [Entry(p.id, p.image, (headline(p),)) for p in catalogue],
        ),
    }
    style_texts = {
        "catalogue": [text for p in queries for text in p.texts],
        "photo captions": [text for p in photos(options.data, "dev") for text in p.texts],
        "headlines": [headline(p) for p in queries],
    }
    styles = UnigramStyles(style_texts)
    captions = {}
    for name, (folder, entries) in bases.items():
        with KnowledgeBase.build(folder, entries, encoder="starter") as kb:
            model = RetrievalAugmentedVLM(kb, generator=options.generator)
            captions[name] = [
                answer.text for answer in model.caption([str(p.image) for p in queries])
            ]
    bases_report = {
        name: {
            "manner, %": {
                m: 100 * sum(styles.likeliest(t) == m for t in texts) / len(texts) for m in bases
            },
            "token F1 with the product's own texts": token_f1(
                texts, [list(p.texts) for p in queries]
            ).value,
        }
        for name, texts in captions.items()
    }
    report = {"generator": options.generator, "asked": len(queries), "bases": bases_report}
    print(json.dumps(report, indent=1))
    write_json(report, options.json)
    for i in range(options.show):
        print(
            queries[i].image,
            *(f"  {name}: {texts[i]}" for name, texts in captions.items()),
            sep="\n",
        )


if __name__ == "__main__":
    main()
