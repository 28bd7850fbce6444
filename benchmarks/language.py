"""Whether a language model helps the captioner that begins from it: python benchmarks/language.py
--data ../shared/data

A decoder is trained on the 30,000 captions of flickr8k's train photos (as `ravlm train language`
does), its perplexity told on those held out. Then two captioners of the starter generator's shape
are trained alike for `--epochs` epochs of next-token loss, one whose decoder begins from it and one
from random weights, and compared on the 1,000 dev photos: BLEU-4 and CIDEr (times 100) with 95 %
intervals, without evidence and with eight entries, and the paired difference. Everything is kept in
`--work`; a run that was stopped goes on. On two cores with bf16: some 20 minutes."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from recipes.starter_generator import Recipe, new_generator

from captions import Arms, photos, spoken
from ravlm import KnowledgeBase, read_pairs
from ravlm.evaluation.statistics import Paired
from ravlm.generation.captioner.generator import SETTINGS
from ravlm.metrics import bleu, cider
from ravlm.training.generator import train_generator
from ravlm.training.language_model import DONE, LanguageConfig, train_language
from ravlm.training.trainer import last_figures

FEATURES = ("train", "held-out", "crossfit")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--kb", type=Path, required=True, help="a base of the train split; made where there is none"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/language"))
    parser.add_argument("--epochs", type=int, default=4, help="of the captioners")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pairs = list(read_pairs(given.data / "flickr8k" / "metadata.jsonl"))
    train, dev = ([p for p in pairs if p.metadata["split"] == split] for split in ("train", "dev"))
    texts = [text for pair in train for text in pair.texts]
    language = given.work / "language"
    if not (language / DONE).exists():
        train_language(texts, language, LanguageConfig(longest=64), report=print)
    folders = {
        "from random weights": given.work / "random",
        "from the language model": given.work / "pretrained",
    }
    recipe = replace(Recipe(), first=replace(Recipe().first, epochs=given.epochs), second=None)
    with KnowledgeBase.build(given.kb, photos(given.data, "train")) as kb:
        arms = Arms(kb, photos(given.data, "dev"))
        for (name, folder), start in zip(folders.items(), (None, language), strict=True):
            link_features(folders["from random weights"], folder)
            if not (folder / SETTINGS).exists():
                train_generator(
                    new_generator(texts, recipe, start),
                    train,
                    kb,
                    folder,
                    recipe.first,
                    None,
                    dev,
                    print,
                )
            for k in (0, 8):
                arms.add(f"{name}, k = {k}", str(folder), k)
    references = [[spoken(text) for text in entry.texts] for entry in arms.dev]
    rows: dict[str, dict[str, list[float]]] = {}
    for metric, measure in (("BLEU-4", bleu), ("CIDEr", cider)):
        scores = [measure(said, references, tokenize="none") for said in arms.texts.values()]
        paired, scale = Paired(scores), 1 if metric == "BLEU-4" and scores[0].value > 1 else 100
        for i, name in enumerate(arms.texts):
            one = paired.interval(i)
            row = rows.setdefault(name, {})
            row[metric] = [round(scale * v, 2) for v in (one.score, one.low, one.high)]
            if i >= 2:
                gain = paired.difference(i - 2, i)
                row[f"{metric}: gain"] = [
                    round(scale * v, 2) for v in (gain.difference, gain.low, gain.high)
                ]
    report = {
        "language model": last_figures(language),
        "captioners' losses": {
            name: last_figures(folder / "first") for name, folder in folders.items()
        },
        "epochs": given.epochs,
        "photos": len(arms.dev),
        "rows": rows,
    }
    print(json.dumps(report, indent=1))
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def link_features(source: Path, folder: Path) -> None:
    """Let a training use the features that another one computed: they are the same."""
    for name in FEATURES:
        if (source / name).is_dir() and not (folder / name).exists():
            shutil.copytree(source / name, folder / name, copy_function=os.link)


if __name__ == "__main__":
    main()
