"""Contrastive training from pictures on disk to an encoder that loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ravlm.encoders.base import DualEncoder
from ravlm.errors import InvalidInput
from ravlm.records import Pair
from ravlm.training.contrastive import ContrastiveConfig, ContrastiveStep
from ravlm.training.encoder import split, train_encoder
from ravlm.training.features import PairFeatures
from ravlm.training.hard_negatives import mine, with_neighbours
from ravlm.training.trainer import fit

SMALL = ContrastiveConfig(
    epochs=30, batch=8, rate=3e-3, aligned_dim=16, hidden_dim=32, views=2, held_out=0.0, dropout=0.0
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Twelve pictures of a disc or a box in a colour, two captions each."""
    folder = tmp_path_factory.mktemp("shapes")
    found = []
    for colour in ("red", "green", "blue", "yellow", "white", "purple"):
        for shape in ("disc", "box"):
            image = Image.new("RGB", (96, 96), "black")
            draw = ImageDraw.Draw(image)
            (draw.ellipse if shape == "disc" else draw.rectangle)((20, 20, 76, 76), fill=colour)
            path = folder / f"{colour}-{shape}.png"
            image.save(path)
            found.append(
                Pair(path, (f"a {colour} {shape}", f"there is a {shape} in {colour}"), id=path.stem)
            )
    return found


def test_training_finds_each_pictures_text(pairs: list[Pair], tmp_path: Path) -> None:
    lines: list[str] = []
    trained = train_encoder(
        DualEncoder.load("starter"), pairs, SMALL, tmp_path / "mine", lines.append
    )
    scores = (
        trained.encode_texts([p.text for p in pairs])
        @ trained.encode_images([p.image for p in pairs]).T
    )
    assert np.mean(scores.argmax(1) == np.arange(12)) >= 0.8
    log = [json.loads(line) for line in (tmp_path / "mine" / "log.jsonl").read_text().splitlines()]
    assert log[-2]["loss"] < log[0]["loss"] / 2
    again = DualEncoder.load(tmp_path / "mine")
    assert again.fingerprint == trained.fingerprint
    with pytest.raises(InvalidInput, match="trained encoder already"):
        train_encoder(again, pairs, SMALL, tmp_path / "mine")


def features(n: int = 40, seed: int = 0) -> PairFeatures:
    random = np.random.default_rng(seed)
    return PairFeatures(
        images=random.random((2, n, 1280), np.float32),
        texts=random.standard_normal((3 * n, 384)).astype(np.float32),
        offsets=np.arange(0, 3 * n + 1, 3),
    )


@pytest.mark.parametrize("change", [{}, {"loss": "sigmoid"}, {"hard_negatives": 4}])
def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path, change: dict) -> None:
    config = replace(SMALL, epochs=8, dropout=0.2, **change)
    loop = replace(config.loop(40), save_every=7)

    class Killed(ContrastiveStep):
        def losses(self, index: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
            if index == 17:
                raise KeyboardInterrupt
            return super().losses(index, generator)

    whole, resumed = ContrastiveStep(features(), config), ContrastiveStep(features(), config)
    fit(whole, loop, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(Killed(features(), config), loop, tmp_path / "cut")
    fit(resumed, loop, tmp_path / "cut")
    for name, value in whole.heads.image.arrays("image").items():
        assert np.array_equal(value, resumed.heads.image.arrays("image")[name]), name


def test_a_batch_larger_than_the_data_is_refused(pairs: list[Pair], tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"A batch of 500 is larger than the data \(12 pictures\)"
    ):
        train_encoder(
            DualEncoder.load("starter"), pairs, replace(SMALL, batch=500), tmp_path / "mine"
        )


def test_no_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="needs a picture and a text"):
        train_encoder(DualEncoder.load("starter"), [], SMALL, tmp_path / "mine")


def test_what_is_held_out_depends_on_names_alone() -> None:
    pairs = [Pair(f"{i}.png", ("t",), id=str(i)) for i in range(1000)]
    train, held_out = split(pairs, 0.1)
    assert 70 < len(held_out) < 130
    assert {p.id for p in split(reversed(pairs), 0.1)[1]} == {p.id for p in held_out}
    assert len(train) + len(held_out) == 1000


def test_neighbours_are_the_nearest_others() -> None:
    angles = np.array([0.0, 0.1, 0.3, 2.0, 2.2, 0.0])  # the last is the first's twin
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    found = mine(vectors, 1)[:, 0].tolist()
    assert found[:5] == [5, 0, 1, 4, 3] or found[:5] == [5, 5, 1, 4, 3]
    assert found[5] == 0


def test_a_batch_with_neighbours_has_no_picture_twice() -> None:
    neighbours = torch.tensor([[(i + 1) % 20, (i + 2) % 20] for i in range(20)])
    chosen = torch.randperm(20, generator=torch.Generator().manual_seed(0))[:10]
    batch = with_neighbours(chosen, neighbours, torch.Generator().manual_seed(1))
    assert len(set(batch.tolist())) == 10
    followed = sum(int(batch[i]) in neighbours[chosen[i - 1]].tolist() for i in range(1, 10, 2))
    assert followed >= 4
