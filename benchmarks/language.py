"""Measure whether a pre-trained language model helps the captioner that starts from it:
python -m benchmarks.language --data ../shared/data --kb KB

A decoder is trained on the 30,000 captions of flickr8k's train photos (as `ravlm train language`
does), and its perplexity on held-out captions is reported. Then two captioners of the starter
generator's size are trained for `--epochs` epochs of next-token loss, one starting from that
decoder and one from random weights. They are compared on the 1,000 dev photos: BLEU-4 and CIDEr
(times 100) with 95 % intervals, closed book and with eight entries, and the paired difference.
Everything is cached in `--work`; a run that was stopped resumes. On two cores with bf16: about 20
minutes."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.captions import Arms, normalize
from benchmarks.data import DATA, photos
from benchmarks.reports import interval_values, write_json
from ravlm import KnowledgeBase
from ravlm.generation.captioner.settings import SETTINGS_FILE
from ravlm.metrics import bleu, cider
from ravlm.metrics.statistics import PairedScores
from ravlm.records import Pair
from ravlm.training.generator import FIRST_STAGE, train_generator
from ravlm.training.language_model import (
    MODEL_FILE,
    LanguageModelTrainingConfig,
    train_language_model,
)
from ravlm.training.starter_generator import STARTER_GENERATOR_TRAINING, new_generator
from ravlm.training.trainer import last_figures
from recipes.starter_encoder import read_flickr8k

SHARED_FEATURES = ("train", "held-out", "crossfit")
NUM_EVIDENCE = (0, 8)


def main() -> None:
    """Parse the options, train what is missing, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument(
        "--kb", type=Path, required=True, help="base of the train split; built if missing"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/language"))
    parser.add_argument("--epochs", type=int, default=4, help="epochs of the captioners")
    parser.add_argument("--limit", type=int, help="photos of each split, for a short run")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    train, dev = (pairs[: options.limit] for pairs in read_flickr8k(options.data))
    texts = [text for pair in train for text in pair.texts]
    language = options.work / "language"
    if not (language / MODEL_FILE).exists():
        config = LanguageModelTrainingConfig(max_length=64)
        train_language_model(texts, language, config, report=print)
    folders = {
        "from random weights": options.work / "random",
        "from the language model": options.work / "pretrained",
    }
    with KnowledgeBase.build(options.kb, photos(options.data, "train")[: options.limit]) as kb:
        arms = Arms(kb, photos(options.data, "dev")[: options.limit])
        for (name, folder), start in zip(folders.items(), (None, language), strict=True):
            link_features(folders["from random weights"], folder)
            if not (folder / SETTINGS_FILE).exists():
                train_captioner(kb, train, dev, folder, start, options.epochs)
            for k in NUM_EVIDENCE:
                arms.add(f"{name}, k = {k}", str(folder), k)
    report = {
        "language model": last_figures(language),
        "captioners' losses": {
            name: last_figures(folder / FIRST_STAGE) for name, folder in folders.items()
        },
        "epochs": options.epochs,
        "photos": len(arms.dev),
        "rows": score_rows(arms),
    }
    print(json.dumps(report, indent=1))
    write_json(report, options.json)


def train_captioner(
    kb: KnowledgeBase,
    train: Sequence[Pair],
    dev: Sequence[Pair],
    folder: Path,
    language: Path | None,
    epochs: int,
) -> None:
    """Train a captioner whose decoder starts from the folder `language`, or from random weights."""
    generator = new_generator((text for pair in train for text in pair.texts), language=language)
    config = replace(STARTER_GENERATOR_TRAINING, epochs=epochs)
    train_generator(generator, train, kb, folder, config, dev, print)


def score_rows(arms: Arms) -> dict[str, dict[str, list[float]]]:
    """Return score, low and high of each arm, and the gain over the arm from random weights."""
    references = [[normalize(text) for text in entry.texts] for entry in arms.dev]
    rows: dict[str, dict[str, list[float]]] = {name: {} for name in arms.texts}
    for metric, measure in (("BLEU-4", bleu), ("CIDEr", cider)):
        scores = [measure(texts, references, tokenize="none") for texts in arms.texts.values()]
        is_percent = metric == "BLEU-4" and scores[0].value > 1
        scale = 1 if is_percent else 100
        paired = PairedScores(scores)
        for i, row in enumerate(rows.values()):
            row[metric] = interval_values(paired.interval(i), scale)
            if i >= len(NUM_EVIDENCE):
                gain = paired.difference(i - len(NUM_EVIDENCE), i)
                row[f"{metric}: gain"] = interval_values(gain, scale)
    return rows


def link_features(source: Path, folder: Path) -> None:
    """Reuse the features that another training computed: they are the same."""
    for name in SHARED_FEATURES:
        if (source / name).is_dir() and not (folder / name).exists():
            shutil.copytree(source / name, folder / name, copy_function=os.link)


if __name__ == "__main__":
    main()
