"""`train_encoder`: contrastive training of an encoder on image-text pairs."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ravlm import runtime
from ravlm.checkpoint import CONFIG, move_checkpoint_into, save_checkpoint_into
from ravlm.data.rows import first_refused
from ravlm.encoders.auto import load_encoder
from ravlm.encoders.base import Encoder
from ravlm.encoders.starter.encoder import StarterEncoder
from ravlm.encoders.torch_encoder import TorchEncoder
from ravlm.errors import InvalidInput
from ravlm.files import disk_errors
from ravlm.records import Pair
from ravlm.training.contrastive import EncoderTrainingConfig
from ravlm.training.features import stage_features
from ravlm.training.held_out import MIN_HELD_OUT, HeldOutComparison
from ravlm.training.model_card import ModelCard, describe_data, write_model_card
from ravlm.training.positives import image_numbers, text_numbers
from ravlm.training.starter_tuning import tune_heads
from ravlm.training.torch_towers import TowerStep, held_out_ranks
from ravlm.training.tracking import Tracker, silent, untracked
from ravlm.training.trainer import LOG, fit

_MIN_IMAGES = 4
"""Fewer different images cannot be divided into two parts with a wrong image for every text."""
_MAX_HELD_OUT = 0.2
"""The largest fraction of small data that is held out from towers."""


def train_encoder(
    encoder: Encoder,
    pairs: Iterable[Pair],
    folder: str | Path,
    config: EncoderTrainingConfig = EncoderTrainingConfig(),  # noqa: B008 frozen
    report: Callable[[str], None] = silent,
    tracker: Tracker = untracked,
) -> Encoder:
    """Train `encoder` on `pairs`; return the trained one if it retrieves held-out pairs clearly
    better, else one with the weights of `encoder`. `encoder` itself is not changed.

        encoder = ravlm.DualEncoder.load("starter")
        trained = ravlm.train_encoder(encoder, ravlm.read_pairs("captions.jsonl"), "runs/mine")

    The starter's heads are measured on all pairs by cross-validation if `config.held_out` would
    leave fewer than 200; of full towers, up to a fifth of the pairs is held out then. `report` gets
    lines for people, the recall before and after among them, `tracker` the figures of each line of
    the log. `folder` becomes the checkpoint of the returned encoder and keeps log.jsonl and cached
    features; a run that was killed resumes there. Raises InvalidInput for data that cannot be
    trained on, or if `folder` contains a trained encoder."""
    folder = Path(folder)
    if (folder / CONFIG).exists():
        raise InvalidInput(
            f'"{folder}" already contains a trained encoder. Choose another folder, or delete it.'
        )
    data = _TrainingData(_usable_pairs(pairs, config, report), pairs)
    if isinstance(encoder, StarterEncoder):
        return _train_heads(encoder, data, folder, config, report, tracker)
    if isinstance(encoder, TorchEncoder):
        return _train_towers(encoder, data, folder, config, report, tracker)
    raise InvalidInput(
        f'The encoder "{encoder.name}" cannot be trained. Start from "starter", from a CLIP-like '
        "model or from two backbones."
    )


@dataclass(frozen=True)
class _TrainingData:
    pairs: list[Pair]
    source: Iterable[Pair]
    """What they were read from."""

    @property
    def texts(self) -> list[str]:
        return [text for pair in self.pairs for text in pair.texts]


def _train_heads(
    encoder: StarterEncoder,
    data: _TrainingData,
    folder: Path,
    config: EncoderTrainingConfig,
    report: Callable[[str], None],
    tracker: Tracker,
) -> Encoder:
    texts = [encoder.gloss(text) for text in data.texts]
    _report_truncated(encoder.text_backbone.num_truncated(texts), len(texts), report)
    with runtime.main_process_first():
        features = stage_features(encoder, data.pairs, config.views, folder / "features")
    config = config.for_data(len(data.pairs), report)
    trained, comparison = tune_heads(encoder, features, config, folder, report, tracker)
    trained = trained.with_name(str(folder.resolve()))
    if runtime.process_index() == 0:
        _report_comparison(comparison, folder, report)
        write_model_card(folder, _model_card(encoder, data, folder, config, comparison))
        save_checkpoint_into(folder, *trained.checkpoint())
        for path in (folder / "trained", *folder.glob("fold-*")):
            shutil.rmtree(path, ignore_errors=True)
    return trained


def _train_towers(
    start: TorchEncoder,
    data: _TrainingData,
    folder: Path,
    config: EncoderTrainingConfig,
    report: Callable[[str], None],
    tracker: Tracker,
) -> Encoder:
    encoder = copy.deepcopy(start)
    if config.held_out:
        fraction = min(_MAX_HELD_OUT, MIN_HELD_OUT / len(data.pairs))
        config = replace(config, held_out=max(config.held_out, fraction))
    train, held_out = split_pairs(data.pairs, config.held_out)
    _report_truncated(encoder.tokenizer.num_truncated(data.texts), len(data.texts), report)
    before = held_out_ranks(start, held_out)
    step = TowerStep(encoder, train, config.for_data(len(train), report), held_out)

    def save() -> None:
        after = held_out_ranks(encoder, held_out)
        comparison = None
        if before is not None and after is not None:
            comparison = HeldOutComparison(before, after, "never trained on")
        if runtime.process_index() > 0:
            return
        _report_comparison(comparison, folder, report)
        best = encoder if comparison is None or comparison.is_better else start
        checkpoint = folder / "whole"
        best.save(checkpoint)
        write_model_card(checkpoint, _model_card(start, data, folder, step.config, comparison))
        move_checkpoint_into(checkpoint, folder)

    fit(step, step.config.loop(len(train)), folder, report, tracker, save)
    with runtime.main_process_first():  # it has saved the encoder
        return load_encoder(folder)


def _usable_pairs(
    pairs: Iterable[Pair], config: EncoderTrainingConfig, report: Callable[[str], None]
) -> list[Pair]:
    """Return the pairs without empty texts. Raises InvalidInput if there are too few different
    images or texts to tell apart."""
    all_pairs = list(pairs)
    usable = [
        replace(pair, texts=tuple(text for text in pair.texts if text.strip()))
        for pair in all_pairs
        if any(text.strip() for text in pair.texts)
    ]
    if not usable:
        reason = first_refused(getattr(pairs, "quarantine", ()))
        raise InvalidInput(
            f"There are no pairs to train on. Each needs an image and a text.{reason}"
        )
    num_empty = sum(not text.strip() for pair in all_pairs for text in pair.texts)
    if num_empty or len(usable) < len(all_pairs):
        report(
            f"{num_empty:,} empty texts and {len(all_pairs) - len(usable):,} pairs without a text "
            "are left out."
        )
    counts = {
        "images": (image_numbers(usable), _MIN_IMAGES if config.held_out else 2),
        "texts": (text_numbers(usable), 2),
    }
    for name, (numbers, minimum) in counts.items():
        count = len(np.unique(numbers))
        if count < minimum:
            raise InvalidInput(
                f"An encoder learns to tell {name} apart, and needs at least {minimum} different "
                f"ones; the pairs have {count}. Add more pairs."
            )
    return usable


def _report_truncated(num_truncated: int, num_texts: int, report: Callable[[str], None]) -> None:
    if num_truncated:
        report(
            f"{num_truncated:,} of {num_texts:,} texts are longer than the text tower reads; only "
            "their beginnings count."
        )


def _report_comparison(
    comparison: HeldOutComparison | None, folder: Path, report: Callable[[str], None]
) -> None:
    """Report the comparison, and add its figures to the log."""
    if comparison is None:
        report("No pairs are held out, so it is unknown whether the encoder became better.")
        return
    comparison.report(report)
    log = folder / LOG
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    step = json.loads(lines[-1])["step"] if lines else 0
    with disk_errors(folder), open(log, "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, **comparison.figures()}) + "\n")


def _model_card(
    start: Encoder,
    data: _TrainingData,
    folder: Path,
    config: EncoderTrainingConfig,
    comparison: HeldOutComparison | None,
) -> ModelCard:
    parts = {"pairs": describe_data(len(data.pairs), "pairs", data.source)}
    if comparison is None:
        before, after = {}, {}
    else:
        parts["held out"] = f"{comparison.num_pairs:,} of them ({comparison.method})"
        before, after = comparison.before.recall(), comparison.kept_ranks.recall()
    return ModelCard(
        title="Encoder",
        usage=f"ravlm build KB SOURCE --encoder {folder.name}",
        data=parts,
        settings=config,
        before=before,
        after=after,
        base=start.name,
    )


def split_pairs(pairs: Iterable[Pair], held_out: float) -> tuple[list[Pair], list[Pair]]:
    """Split off about the fraction `held_out` of the pairs. The split depends only on the id of a
    pair, or else on its image; pairs with equal images are on one side."""
    all_pairs = list(pairs)
    parts: tuple[list[Pair], list[Pair]] = [], []
    is_image_held_out: dict[int, bool] = {}
    for pair, image in zip(all_pairs, image_numbers(all_pairs).tolist(), strict=True):
        digest = hashlib.sha256((pair.id or str(pair.image)).encode()).digest()
        is_held_out = int.from_bytes(digest[:4]) < held_out * 2**32
        parts[is_image_held_out.setdefault(image, is_held_out)].append(pair)
    return parts
