"""The calibration that is kept beside a base."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from ravlm.retrieval import calibration
from ravlm.retrieval.calibration import (
    FILE,
    NUM_NEIGHBORS,
    BaseCalibration,
    fit_or_load,
)
from ravlm.retrieval.image_copies import changed_copy
from ravlm.search.score_calibration import CosineStats
from tests.helpers.birds import bird
from tests.helpers.generators import WordEncoder


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each calibration that was carried out looked at."""
    sizes: list[int] = []
    plain = calibration.calibrate
    monkeypatch.setattr(
        calibration, "calibrate", lambda g, prior: sizes.append(len(g.vectors)) or plain(g, prior)
    )  # type: ignore[func-returns-value]
    return sizes


def test_it_is_made_once_and_kept(birds: KnowledgeBase, fitted: list[int]) -> None:
    first = fit_or_load(birds)
    assert (birds.derived_folder / FILE).is_file()
    again = fit_or_load(birds)
    assert fitted == [10]
    assert again.classifier.default_threshold == first.classifier.default_threshold
    assert first.metric is not None
    assert again.metric is not None
    np.testing.assert_array_equal(again.metric.mean, first.metric.mean)


def test_it_is_refitted_when_the_base_has_grown(
    birds: KnowledgeBase, fitted: list[int], tmp_path: Path
) -> None:
    fit_or_load(birds)
    birds.add([Entry("text", None, ("No picture changes nothing.",))])
    fit_or_load(birds)
    assert fitted == [10]
    bird((200, 200, 20), 99).save(tmp_path / "yellow.png")
    birds.add([Entry("yellow", str(tmp_path / "yellow.png"), ("Name: Sun Canary",))])
    fit_or_load(birds)
    assert fitted == [10, 11]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of an encoder was given."""
    sizes: list[int] = []
    plain = WordEncoder.encode_images

    def counting(self: WordEncoder, images: list[Any], *args: Any, **options: Any) -> np.ndarray:
        sizes.append(len(images))
        return plain(self, images, *args, **options)

    monkeypatch.setattr(WordEncoder, "encode_images", counting)
    return sizes


def test_only_images_that_are_new_to_it_are_encoded(
    birds: KnowledgeBase, encoded: list[int], tmp_path: Path
) -> None:
    """A base of photos that had grown by a tenth encoded 160 copies again, seconds of silence."""
    steps: list[tuple[int, int]] = []
    first = fit_or_load(birds, lambda *step: steps.append(step))
    assert steps == [(8, 10), (10, 10)]
    assert encoded == [32, 8, calibration._MIN_IMAGES]  # four copies of each image; patches
    for n, color in enumerate([(200, 200, 20), (20, 200, 200)]):
        bird(color, 99 + n).save(tmp_path / f"new-{n}.png")
        birds.add([Entry(f"new-{n}", str(tmp_path / f"new-{n}.png"), (f"Name: New {n}",))])
    bird((90, 90, 90), 7).save(tmp_path / "0-0.png")
    (old,) = birds.get("bird-0-0")
    birds.add([Entry(old.id, str(tmp_path / "0-0.png"), old.texts)])
    encoded.clear()
    steps.clear()
    second = fit_or_load(birds, lambda *step: steps.append(step))
    assert steps == [(3, 3)]
    assert encoded == [12]
    assert first.copies is not None
    assert second.copies is not None
    assert len(second.copies.keys) == 12
    unchanged = set(first.copies.keys) & set(second.copies.keys)
    assert len(unchanged) == 9
    rows = [first.copies.by_key(4)[key] for key in sorted(unchanged)]
    again = [second.copies.by_key(4)[key] for key in sorted(unchanged)]
    np.testing.assert_array_equal(rows, again)


def test_a_calibration_without_copies_is_read(birds: KnowledgeBase, fitted: list[int]) -> None:
    """Earlier versions stored none."""
    path = birds.derived_folder / FILE
    calibration._save(path, replace(fit_or_load(birds), copies=None), _fingerprint(birds))
    assert fit_or_load(birds).copies is None
    assert fitted == [10]


def _fingerprint(kb: KnowledgeBase) -> str:
    return f"{calibration.VERSION} {kb.encoder.fingerprint}"


def test_a_damaged_file_is_refitted(birds: KnowledgeBase, fitted: list[int]) -> None:
    fit_or_load(birds)
    (birds.derived_folder / FILE).write_bytes(b"no safetensors")
    fit_or_load(birds)
    assert fitted == [10, 10]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_base_that_cannot_be_written_to_is_calibrated_all_the_same(birds: KnowledgeBase) -> None:
    birds.derived_folder.mkdir(exist_ok=True)
    birds.derived_folder.chmod(0o500)
    assert fit_or_load(birds).metric is not None


def test_images_that_are_gone_are_left_out(birds: KnowledgeBase, tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / f"{n}-0.png").unlink()
    assert fit_or_load(birds).metric is not None


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 48)])
def test_changed_copies_of_any_size(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (120, 130, 140))
    copies = [changed_copy(image, np.random.default_rng(seed)) for seed in range(4)]
    assert all(0 < copy.width <= size[0] and 0 < copy.height <= size[1] for copy in copies)
    assert len({copy.tobytes() for copy in copies}) == 4


def test_familiarity_is_uniform_for_more_of_the_same() -> None:
    """Captions were written of photos unlike anything in the base: 40 of 40 from elsewhere. Images
    like those of the base are as near to it as they are to each other; others are not."""
    rng = np.random.default_rng(0)
    center = rng.normal(size=64)

    def like_the_base(n: int) -> np.ndarray:
        vectors = center + 0.9 * rng.normal(size=(n, 64))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    vectors = like_the_base(300)
    cosines = np.sort(vectors @ vectors.T, axis=1)[:, ::-1][:, 1 : NUM_NEIGHBORS + 1].mean(1)
    fitted = BaseCalibration(
        metric=None,
        classifier=None,  # type: ignore[arg-type]
        change=0,
        num_images=300,
        unrelated_cosines=CosineStats(0.0, 1.0),
        num_texts=0,
        neighbor_cosines=np.quantile(cosines, np.linspace(0, 1, 21)).astype(np.float32),
    )

    def familiarity(query: np.ndarray) -> float:
        return fitted.familiarity(np.sort(vectors @ query)[::-1].tolist())

    own = [familiarity(query) for query in like_the_base(200)]
    assert 0.4 < np.mean(own) < 0.6
    assert np.mean(np.array(own) < 0.1) < 0.2
    others = rng.normal(size=(50, 64))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    assert max(familiarity(query) for query in others) < 0.05
    assert fitted.familiarity([]) == 1.0
