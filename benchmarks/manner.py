"""Captions speak as the base does: python benchmarks/manner.py --data ../shared/data --kb KB
[--generator G]

The same 200 product photos of ikea_products are described with three bases: a catalogue (the other
products, with name and description), captions of Flickr8k's train photos (`--kb`, made where there
is none), and headlines (the catalogue's own pictures, each with the first words of its description
as a headline). Of each caption it is asked whose manner it has, by which of three models of single
words it is likeliest, each made of texts that no base holds (the headlines' in capitals); and of
those from the catalogue how much they share with the product's own texts."""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from math import log
from pathlib import Path

from ravlm import KnowledgeBase, RetrievalAugmentedVLM, read_entries
from ravlm.metrics import token_f1
from ravlm.records import Entry

ASKED, WORDS = 200, 6
_WORD = re.compile(r"[A-Za-z0-9']+")


def headline(entry: Entry) -> str:
    """The first words of a description in capitals: "YOUR CHILD CAN USE IT FOR"."""
    return " ".join(_WORD.findall(entry.texts[-1])[:WORDS]).upper()


class Manner:
    """How likely texts are, word by word, beside each other."""

    def __init__(self, texts: dict[str, list[str]]) -> None:
        self.counts = {
            name: Counter(w for text in some for w in _WORD.findall(text))
            for name, some in texts.items()
        }
        self.words = len(set().union(*self.counts.values())) + 1

    def of(self, text: str) -> str:
        def likelihood(name: str) -> float:
            count = self.counts[name]
            total = count.total() + self.words
            return sum(log((count[word] + 1) / total) for word in _WORD.findall(text))

        return max(self.counts, key=likelihood)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--kb",
        type=Path,
        required=True,
        help="a base of the train photos; made where there is none",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/manner"), help="where the other two bases are kept"
    )
    parser.add_argument("--generator", default="extractive")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", type=int, default=0, help="so many captions, to be read")
    given = parser.parse_args()
    products = list(read_entries(given.data / "ikea_products" / "metadata.jsonl"))
    step = len(products) // ASKED
    asked, kept = products[::step][:ASKED], [p for i, p in enumerate(products) if i % step]
    photos = list(read_entries(given.data / "flickr8k" / "metadata.jsonl"))
    train, dev = ([p for p in photos if p.metadata["split"] == split] for split in ("train", "dev"))
    bases = {
        "catalogue": (given.work / "catalogue", [Entry(p.id, p.image, p.texts) for p in kept]),
        "photo captions": (given.kb, train),
        "headlines": (
            given.work / "headlines",
            [Entry(p.id, p.image, (headline(p),)) for p in kept],
        ),
    }
    unseen = {
        "catalogue": [text for p in asked for text in p.texts],
        "photo captions": [text for p in dev for text in p.texts],
        "headlines": [headline(p) for p in asked],
    }
    manner, said = Manner(unseen), {}
    for name, (folder, entries) in bases.items():
        with KnowledgeBase.build(folder, entries, encoder="starter") as kb:
            model = RetrievalAugmentedVLM(kb, generator=given.generator)
            said[name] = [answer.text for answer in model.caption([str(p.image) for p in asked])]
    report = {
        name: {
            "manner, %": {
                m: 100 * sum(manner.of(t) == m for t in texts) / len(texts) for m in bases
            },
            "token F1 with the product's own texts": token_f1(
                texts, [list(p.texts) for p in asked]
            ).value,
        }
        for name, texts in said.items()
    }
    text = json.dumps(
        {"generator": given.generator, "asked": len(asked), "bases": report}, indent=1
    )
    print(text)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")
    for i in range(given.show):
        print(asked[i].image, *(f"  {name}: {texts[i]}" for name, texts in said.items()), sep="\n")


if __name__ == "__main__":
    main()
