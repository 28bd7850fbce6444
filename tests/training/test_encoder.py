"""Contrastive training from images on disk to an encoder that can be loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ravlm.encoders.auto import DualEncoder
from ravlm.errors import InvalidInput
from ravlm.records import Pair
from ravlm.training.contrastive import ContrastiveStep, EncoderTrainingConfig
from ravlm.training.encoder import split_pairs, train_encoder
from ravlm.training.hard_negatives import mine_neighbors, with_hard_negatives
from ravlm.training.trainer import fit
from tests.helpers.training_data import SMALL_HEADS, random_features


def test_training_retrieves_the_text_of_each_image(shape_pairs: list[Pair], tmp_path: Path) -> None:
    lines: list[str] = []
    trained = train_encoder(
        DualEncoder.load("starter"), shape_pairs, tmp_path / "mine", SMALL_HEADS, lines.append
    )
    scores = (
        trained.encode_texts([p.text for p in shape_pairs])
        @ trained.encode_images([p.image for p in shape_pairs]).T
    )
    assert np.mean(scores.argmax(1) == np.arange(12)) >= 0.8
    log = [json.loads(line) for line in (tmp_path / "mine" / "log.jsonl").read_text().splitlines()]
    assert log[-2]["loss"] < log[0]["loss"] / 2
    again = DualEncoder.load(tmp_path / "mine")
    assert again.fingerprint == trained.fingerprint
    with pytest.raises(InvalidInput, match="already contains a trained encoder"):
        train_encoder(again, shape_pairs, tmp_path / "mine", SMALL_HEADS)


@pytest.mark.parametrize("change", [{}, {"loss": "sigmoid"}, {"hard_negatives": 4}])
def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path, change: dict) -> None:
    config = replace(SMALL_HEADS, epochs=8, dropout=0.2, **change)
    loop = replace(config.loop(40), save_every=7)

    class Killed(ContrastiveStep):
        def losses(self, index: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
            if index == 17:
                raise KeyboardInterrupt
            return super().losses(index, generator)

    uninterrupted, resumed = (
        ContrastiveStep(random_features(), config),
        ContrastiveStep(random_features(), config),
    )
    fit(uninterrupted, loop, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(Killed(random_features(), config), loop, tmp_path / "cut")
    fit(resumed, loop, tmp_path / "cut")
    for name, value in uninterrupted.heads.image.arrays("image").items():
        assert np.array_equal(value, resumed.heads.image.arrays("image")[name]), name


def test_a_batch_is_at_most_as_large_as_the_data(shape_pairs: list[Pair], tmp_path: Path) -> None:
    """The default batch of 2,000 failed for everyone with fewer pictures."""
    lines: list[str] = []
    config = EncoderTrainingConfig(epochs=1, held_out=0.0, views=1)
    train_encoder(DualEncoder.load("starter"), shape_pairs, tmp_path / "mine", config, lines.append)
    assert "The batch size is 12 instead of 2000: there are 12 images." in lines


def test_no_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="needs an image and a text"):
        train_encoder(DualEncoder.load("starter"), [], tmp_path / "mine", SMALL_HEADS)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([Pair("a.png", ("a cat",))], "images apart.* at least 4 .* have 1"),
        ([Pair("a.png", (f"cat {i}",), id=str(i)) for i in range(9)], "images apart"),
        ([Pair(f"{i}.png", ("A  cat", "a cat")) for i in range(9)], "texts apart"),
        ([Pair(f"{i}.png", ("", " ")) for i in range(9)], "needs an image and a text"),
    ],
)
def test_pairs_that_teach_nothing_are_refused(
    pairs: list[Pair], message: str, tmp_path: Path
) -> None:
    """One pair, the same image throughout, one text throughout, empty texts: each was trained on
    without a word, or ended in a traceback."""
    with pytest.raises(InvalidInput, match=message):
        train_encoder(DualEncoder.load("starter"), pairs, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_an_image_is_on_one_side_of_the_split() -> None:
    """The same image under two ids was trained on and held out."""
    pairs = [Pair(f"{i // 2}.png", ("t",), id=str(i)) for i in range(400)]
    train, held_out = split_pairs(pairs, 0.3)
    assert 60 < len(held_out) < 180
    assert not {p.image for p in train} & {p.image for p in held_out}


def test_the_held_out_split_depends_only_on_names() -> None:
    pairs = [Pair(f"{i}.png", ("t",), id=str(i)) for i in range(1000)]
    train, held_out = split_pairs(pairs, 0.1)
    assert 70 < len(held_out) < 130
    assert {p.id for p in split_pairs(reversed(pairs), 0.1)[1]} == {p.id for p in held_out}
    assert len(train) + len(held_out) == 1000


def test_neighbors_are_the_nearest_others() -> None:
    angles = np.array([0.0, 0.1, 0.3, 2.0, 2.2, 0.0])  # the last is the first's twin
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    neighbors_of = mine_neighbors(vectors, 1)[:, 0].tolist()
    assert neighbors_of[:5] == [5, 0, 1, 4, 3] or neighbors_of[:5] == [5, 5, 1, 4, 3]
    assert neighbors_of[5] == 0


def test_a_batch_with_hard_negatives_has_no_duplicates() -> None:
    neighbors = torch.tensor([[(i + 1) % 20, (i + 2) % 20] for i in range(20)])
    rows = torch.randperm(20, generator=torch.Generator().manual_seed(0))[:10]
    batch = with_hard_negatives(rows, neighbors, torch.Generator().manual_seed(1))
    assert len(set(batch.tolist())) == 10
    followed = sum(int(batch[i]) in neighbors[rows[i - 1]].tolist() for i in range(1, 10, 2))
    assert followed >= 4
