"""How near a picture comes to another, inside and outside a region: L1, L2, PSNR, SSIM; and masks:
IoU.

Knows pixels only. All take pictures of one size: what an edit made and what it should have made, or
what it began with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np

from ravlm.data.images import load_image
from ravlm.errors import InvalidInput, MissingExtra
from ravlm.metrics.tokenization import signature
from ravlm.records import ImageSource, Score

Picture: TypeAlias = "ImageSource | np.ndarray"
"""An image, or its pixels (h, w, 3) from 0 to 255."""
Where = Literal["all", "inside", "outside"]
"""Which pixels count: all, those of the region, or the others."""
_SAME = 100.0
"""PSNR in dB of equal pixels, where the formula has no bound."""


def image_l1(
    candidates: Sequence[Picture],
    references: Sequence[Picture],
    regions: Sequence[np.ndarray] | None = None,
    where: Where = "all",
) -> Score:
    """Mean absolute difference of the pixels, 0 to 1. `regions[i]`: a boolean array (h, w)."""
    return _mean(
        candidates, references, regions, where, lambda a, b: np.abs(a - b).mean(axis=2), "l1"
    )


def image_l2(
    candidates: Sequence[Picture],
    references: Sequence[Picture],
    regions: Sequence[np.ndarray] | None = None,
    where: Where = "all",
) -> Score:
    """Mean squared difference of the pixels, 0 to 1. As `image_l1`."""
    return _mean(
        candidates, references, regions, where, lambda a, b: np.square(a - b).mean(axis=2), "l2"
    )


def psnr(
    candidates: Sequence[Picture],
    references: Sequence[Picture],
    regions: Sequence[np.ndarray] | None = None,
    where: Where = "all",
) -> Score:
    """Peak signal to noise in dB, at most 100 (equal pixels). As `image_l1`."""
    squared = image_l2(candidates, references, regions, where)
    items = [min(_SAME, -10 * float(np.log10(max(item, 1e-30)))) for item in squared.items]
    return Score(float(np.mean(items)), tuple(items), signature("psnr", where))


def ssim(
    candidates: Sequence[Picture],
    references: Sequence[Picture],
    regions: Sequence[np.ndarray] | None = None,
    where: Where = "all",
) -> Score:
    """Structural similarity, -1 to 1 (Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5),
    by scikit-image.

    As `image_l1`. Pictures need 11 pixels a side. Of a whole picture the outer 5 pixels don't
    count, as in the reference; a pixel at a region's edge looks 5 pixels across it."""
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        raise MissingExtra("scikit-image", "starter", "SSIM") from None

    def similar(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        if min(one.shape[:2]) < 11:
            raise InvalidInput(
                f"A picture is {one.shape[1]} x {one.shape[0]} pixels; SSIM needs 11 a side."
            )
        return structural_similarity(
            one,
            other,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=2,
            full=True,
        )[1].mean(axis=2)

    return _mean(candidates, references, regions, where, similar, "ssim", border=5)


def mask_iou(candidates: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> Score:
    """Intersection over union of boolean masks (h, w), 0 to 1, 1 where both are empty; the mean of
    the items."""
    _check_numbers("masks", len(candidates), len(references))
    items = []
    for place, (one, other) in enumerate(zip(candidates, references, strict=True)):
        ours, theirs = np.asarray(one, bool), np.asarray(other, bool)
        if ours.shape != theirs.shape or ours.ndim != 2:
            raise InvalidInput(
                f"Item {place} has masks of the shapes {ours.shape} and {theirs.shape}; (h, w) each."
            )
        union = np.count_nonzero(ours | theirs)
        items.append(np.count_nonzero(ours & theirs) / union if union else 1.0)
    return Score(float(np.mean(items)), tuple(items), signature("mask-iou"))


def _mean(
    candidates: Sequence[Picture],
    references: Sequence[Picture],
    regions: Sequence[np.ndarray] | None,
    where: Where,
    difference: Callable[[np.ndarray, np.ndarray], np.ndarray],
    name: str,
    border: int = 0,
) -> Score:
    """The mean over the pictures of the mean of `difference` (h, w) over the pixels that count."""
    _check_numbers("pictures", len(candidates), len(references))
    if where not in ("all", "inside", "outside"):
        raise InvalidInput(f'where is "{where}"; allowed: all, inside, outside.')
    if (regions is None) != (where == "all"):
        raise InvalidInput(
            'Give regions with where="inside" or "outside", and without them leave where at "all".'
        )
    if regions is not None:
        _check_numbers("regions", len(candidates), len(regions))
    items = []
    for place, (one, other) in enumerate(zip(candidates, references, strict=True)):
        ours, theirs = _pixels(one), _pixels(other)
        if ours.shape != theirs.shape:
            sizes = " and ".join(f"{a.shape[1]} x {a.shape[0]}" for a in (ours, theirs))
            raise InvalidInput(
                f"Item {place} compares pictures of {sizes} pixels; bring them to one size."
            )
        if regions is None:
            height, width = ours.shape[:2]
            counted = np.zeros((height, width), bool)
            counted[border : height - border, border : width - border] = True
        else:
            counted = _counted(place, regions[place], where, ours)
        items.append(float(difference(ours, theirs)[counted].mean()))
    return Score(float(np.mean(items)), tuple(items), signature(name, where))


def _counted(place: int, region: np.ndarray, where: Where, pixels: np.ndarray) -> np.ndarray:
    inside = np.asarray(region, bool)
    if inside.shape != pixels.shape[:2]:
        raise InvalidInput(
            f"Region {place} has the shape {inside.shape}, its picture {pixels.shape[:2]}."
        )
    counted = inside if where == "inside" else ~inside
    if not counted.any():
        raise InvalidInput(f"Region {place} leaves no pixel {where}; leave that item out.")
    return counted


def _pixels(picture: Picture) -> np.ndarray:
    array = picture if isinstance(picture, np.ndarray) else np.asarray(load_image(picture))
    if array.ndim != 3 or array.shape[2] != 3:
        raise InvalidInput(
            f"A picture has the shape {array.shape}; pixels (h, w, 3) from 0 to 255 are needed."
        )
    return array.astype(np.float64) / 255


def _check_numbers(what: str, one: int, other: int) -> None:
    if not one == other > 0:
        raise InvalidInput(
            f"There are {one} candidates and {other} {what} to compare with; each needs one."
        )
