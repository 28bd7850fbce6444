"""Image metrics, inside and outside a region: L1, L2, PSNR, SSIM; and IoU of masks.

All compare images of one size: the result of an edit with the expected result, or with the input.
No text is tokenized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np

from ravlm.data.images import load_image
from ravlm.errors import InvalidInput, MissingExtra
from ravlm.metrics.tokenization import signature
from ravlm.records import ImageSource, Score

ImageOrPixels: TypeAlias = "ImageSource | np.ndarray"
"""An image, or its pixels (h, w, 3) from 0 to 255."""
PixelScope = Literal["all", "inside", "outside"]
"""Which pixels count: all, those of the region, or those outside it."""
_MAX_PSNR = 100.0
"""PSNR in dB of equal images, for which the formula is infinite."""
_SSIM_WINDOW = 11  # pixels


def image_l1(
    candidates: Sequence[ImageOrPixels],
    references: Sequence[ImageOrPixels],
    regions: Sequence[np.ndarray] | None = None,
    where: PixelScope = "all",
) -> Score:
    """Compute the mean absolute difference of the pixels, 0 (equal) to 1; the mean of the items.

    `regions[i]`: a boolean array (h, w), needed for `where="inside"` and "outside". Tested against
    arithmetic on paper.
    """
    return _mean(
        candidates, references, regions, where, lambda a, b: np.abs(a - b).mean(axis=2), "l1"
    )


def image_l2(
    candidates: Sequence[ImageOrPixels],
    references: Sequence[ImageOrPixels],
    regions: Sequence[np.ndarray] | None = None,
    where: PixelScope = "all",
) -> Score:
    """Compute the mean squared difference of the pixels, 0 (equal) to 1. As `image_l1`."""
    return _mean(
        candidates, references, regions, where, lambda a, b: np.square(a - b).mean(axis=2), "l2"
    )


def psnr(
    candidates: Sequence[ImageOrPixels],
    references: Sequence[ImageOrPixels],
    regions: Sequence[np.ndarray] | None = None,
    where: PixelScope = "all",
) -> Score:
    """Compute the peak signal-to-noise ratio in dB, at most 100 (equal); the mean of the items.

    Arguments as in `image_l1`. Reference implementation: scikit-image.
    """
    squared = image_l2(candidates, references, regions, where)
    items = [min(_MAX_PSNR, -10 * float(np.log10(max(item, 1e-30)))) for item in squared.items]
    return Score(float(np.mean(items)), tuple(items), signature("psnr", where))


def ssim(
    candidates: Sequence[ImageOrPixels],
    references: Sequence[ImageOrPixels],
    regions: Sequence[np.ndarray] | None = None,
    where: PixelScope = "all",
) -> Score:
    """Compute structural similarity, -1 to 1 (equal); the mean of the items.

    Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5, computed by scikit-image. Arguments
    as in `image_l1`; images need at least 11 pixels per side. In a whole image the outer 5 pixels
    don't count, as in the reference implementation; a pixel at the edge of a region takes in 5
    pixels beyond it.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        raise MissingExtra("scikit-image", "starter", "SSIM") from None

    def similarity_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        height, width = a.shape[:2]
        if min(height, width) < _SSIM_WINDOW:
            raise InvalidInput(
                f"An image has {width} x {height} pixels; SSIM needs {_SSIM_WINDOW} per side."
            )
        _, full_map = structural_similarity(
            a,
            b,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=2,
            full=True,
        )
        return full_map.mean(axis=2)  # (h, w, 3) -> (h, w)

    border = _SSIM_WINDOW // 2
    return _mean(candidates, references, regions, where, similarity_map, "ssim", border)


def mask_iou(candidates: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> Score:
    """Compute the intersection over union of boolean masks (h, w), 0 to 1; the mean of the items.

    Two empty masks count 1. Tested against arithmetic on paper.
    """
    _require_same_number("masks", len(candidates), len(references))
    items = []
    for index, (candidate, reference) in enumerate(zip(candidates, references, strict=True)):
        a, b = np.asarray(candidate, bool), np.asarray(reference, bool)
        if a.shape != b.shape or a.ndim != 2:
            raise InvalidInput(
                f"The masks of item {index} have the shapes {a.shape} and {b.shape}; "
                "they must have one shape (h, w)."
            )
        union = np.count_nonzero(a | b)
        items.append(np.count_nonzero(a & b) / union if union else 1.0)
    return Score(float(np.mean(items)), tuple(items), signature("mask-iou"))


def _mean(
    candidates: Sequence[ImageOrPixels],
    references: Sequence[ImageOrPixels],
    regions: Sequence[np.ndarray] | None,
    where: PixelScope,
    difference: Callable[[np.ndarray, np.ndarray], np.ndarray],
    name: str,
    border: int = 0,
) -> Score:
    """Average `difference` (h, w) over the pixels that count, then over the images.

    Without regions, `border` pixels at each side don't count.
    """
    _require_same_number("images", len(candidates), len(references))
    if where not in ("all", "inside", "outside"):
        raise InvalidInput(f'where is "{where}"; allowed: all, inside, outside.')
    if (regions is None) != (where == "all"):
        raise InvalidInput(
            'Pass regions with where="inside" or "outside"; without regions, where must be "all".'
        )
    if regions is not None:
        _require_same_number("regions", len(candidates), len(regions))
    items = []
    for index, (candidate, reference) in enumerate(zip(candidates, references, strict=True)):
        a, b = _pixels(candidate), _pixels(reference)
        _require_same_size(index, a, b)
        height, width = a.shape[:2]
        if regions is None:
            mask = np.zeros((height, width), bool)
            mask[border : height - border, border : width - border] = True
        else:
            mask = _region_mask(index, regions[index], where, (height, width))
        items.append(float(difference(a, b)[mask].mean()))
    return Score(float(np.mean(items)), tuple(items), signature(name, where))


def _region_mask(
    index: int, region: np.ndarray, where: PixelScope, size: tuple[int, int]
) -> np.ndarray:
    """Return the pixels that count, (h, w)."""
    inside = np.asarray(region, bool)
    if inside.shape != size:
        raise InvalidInput(f"Region {index} has the shape {inside.shape}, its image {size}.")
    mask = inside if where == "inside" else ~inside
    if not mask.any():
        raise InvalidInput(f"Region {index} leaves no pixel {where}; leave that item out.")
    return mask


def _pixels(image: ImageOrPixels) -> np.ndarray:
    """Return the pixels of an image as float64 (h, w, 3), 0 to 1."""
    array = image if isinstance(image, np.ndarray) else np.asarray(load_image(image))
    if array.ndim != 3 or array.shape[2] != 3:
        raise InvalidInput(
            f"An image has the shape {array.shape}; it must be pixels (h, w, 3) from 0 to 255."
        )
    return array.astype(np.float64) / 255


def _require_same_size(index: int, a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        sizes = " and ".join(f"{pixels.shape[1]} x {pixels.shape[0]}" for pixels in (a, b))
        raise InvalidInput(
            f"The images of item {index} have {sizes} pixels; resize them to one size."
        )


def _require_same_number(kind: str, num_candidates: int, num_others: int) -> None:
    if not num_candidates == num_others > 0:
        raise InvalidInput(
            f"There are {num_candidates} candidates and {num_others} {kind} to compare with; "
            "pass the same number of both, at least 1."
        )
