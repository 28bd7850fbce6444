"""Scores of pictures and of vectors: on paper, and equal to scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import InvalidInput
from ravlm.metrics import (
    clip_score,
    directional_similarity,
    image_l1,
    image_l2,
    mask_iou,
    psnr,
    ref_clip_score,
    ssim,
)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy image, a copy with the left half changed, and that half as a region."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (40, 30, 3)).astype(np.uint8)
    region = np.zeros((40, 30), bool)
    region[:, :15] = True
    changed = image.copy()
    changed[region] += 51  # a fifth of the range
    return image, changed, region


def test_differences_inside_and_outside_on_paper(pair) -> None:
    image, changed, region = pair
    for metric, mean, inside in ((image_l1, 0.1, 0.2), (image_l2, 0.02, 0.04)):
        assert metric([image], [changed]).value == pytest.approx(mean)
        assert metric([image], [changed], [region], "inside").value == pytest.approx(inside)
        assert metric([image], [changed], [region], "outside").value == 0.0
    assert psnr([image], [changed], [region], "inside").value == pytest.approx(-10 * np.log10(0.04))
    assert psnr([image, image], [image, changed]).items == pytest.approx(
        (100.0, -10 * np.log10(0.02))
    )
    assert (
        ssim([image], [changed], [region], "outside").value
        > ssim([image], [changed], [region], "inside").value
    )


def test_equal_to_scikit_image(pair) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    image, changed, _ = pair
    settings = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "channel_axis": 2,
    }
    expected = metrics.structural_similarity(image, changed, data_range=255, **settings)
    assert ssim([image, image], [changed, image]).items == pytest.approx((expected, 1.0))
    assert psnr([image], [changed]).value == pytest.approx(
        metrics.peak_signal_noise_ratio(image, changed, data_range=255)
    )


def test_pictures_are_read_from_files(pictures: Path) -> None:
    score = image_l1(
        [pictures / "red.png", str(pictures / "red.png")],
        [pictures / "blue.png", pictures / "red.png"],
    )
    assert score.items == pytest.approx(((190 + 10 + 190) / 3 / 255, 0.0))


def test_iou_on_paper() -> None:
    left, all_, none = (np.zeros((4, 4), bool) for _ in range(3))
    left[:, :2] = all_[:] = True
    assert mask_iou([left, left, none], [all_, ~left, none]).items == (0.5, 0.0, 1.0)


def test_bad_images_are_refused(pair, pictures: Path) -> None:
    image, changed, region = pair
    with pytest.raises(InvalidInput, match="30 x 40 and 15 x 40 pixels"):
        image_l1([image], [changed[:, :15]])
    with pytest.raises(InvalidInput, match="leaves no pixel inside"):
        image_l2([image], [changed], [np.zeros((40, 30), bool)], "inside")
    with pytest.raises(InvalidInput, match=r"Region 0 has the shape \(30, 40\)"):
        psnr([image], [changed], [region.T], "inside")
    with pytest.raises(InvalidInput, match="Pass regions with where"):
        ssim([image], [changed], [region])
    with pytest.raises(InvalidInput, match="SSIM needs 11 per side"):
        ssim([image[:8]], [changed[:8]])
    with pytest.raises(InvalidInput, match="1 candidates and 2 images"):
        image_l1([image], [changed, changed])
    with pytest.raises(InvalidInput, match="2 candidates and 1 regions"):
        image_l1([image, image], [changed, changed], [region], "inside")
    with pytest.raises(InvalidInput, match='where is "in"'):
        image_l1([image], [changed], [region], "in")  # type: ignore[arg-type]
    with pytest.raises(
        InvalidInput, match=r"masks of item 0 have the shapes \(40, 30\) and \(30, 40\)"
    ):
        mask_iou([region], [region.T])


def test_clip_scores_on_paper() -> None:
    """Cosines 0.6 and -1 with the images, at best 0.8 and 0.5 with the references."""
    images = np.array([[2.0, 0], [0, 1]])
    texts = np.array([[0.6, 0.8], [0, -3]])
    assert clip_score(images, texts).items == pytest.approx((1.5, 0.0))
    references = [np.array([[0.0, 5], [-1, 0]]), np.array([[np.sqrt(0.75), -0.5]])]
    assert ref_clip_score(images, texts, references).items == pytest.approx(
        (2 * 1.5 * 0.8 / 2.3, 0.0)
    )
    assert "encoder:abc" in clip_score(images, texts, encoder="abc").signature
    with pytest.raises(InvalidInput, match=r"same shape \(\(2, 2\) and \(1, 2\)\)"):
        clip_score(images, texts[:1])
    with pytest.raises(InvalidInput, match=r"references must have the same length \(2 and 1\)"):
        ref_clip_score(images, texts, references[:1])
    with pytest.raises(InvalidInput, match=r"images has the shape \(2,\)"):
        clip_score(images[0], texts[0])


def test_directional_similarity_on_paper() -> None:
    before, after = np.array([[1.0, 0], [1, 0], [1, 0]]), np.array([[0.0, 1], [1, 0], [0, 1]])
    words, others = np.array([[1.0, 0], [1, 0], [0, 1]]), np.array([[0.0, 1], [0, 1], [1, 0]])
    assert directional_similarity(before, after, words, others).items == pytest.approx(
        (1.0, 0.0, -1.0)
    )
