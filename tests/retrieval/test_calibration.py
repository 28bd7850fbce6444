"""The calibration that is kept beside a base."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from ravlm.retrieval import calibration
from ravlm.retrieval.calibration import FILE, changed_copy, fit_or_load
from tests.helpers.birds import bird


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


def test_it_is_made_anew_when_the_base_has_grown(
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


def test_a_damaged_file_is_made_anew(birds: KnowledgeBase, fitted: list[int]) -> None:
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
