"""Pixel operations: what changes in a region, what stays, and that nothing outside changes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ravlm.editing.resize import resize_map
from ravlm.editing.rule_based import operations
from ravlm.editing.rule_based.lexicon import COLORS
from ravlm.editing.rule_based.mask_refinement import (
    box_filter,
    refine_mask,
    upscale_mask,
)
from ravlm.editing.rule_based.oklab import from_oklab, to_oklab
from tests.helpers.editors import iou, landscape, true_mask


def test_oklab_matches_the_published_values() -> None:
    """White has lightness 1 and no chroma; red is (0.628, 0.225, 0.126)."""
    assert np.allclose(to_oklab(np.array([255, 255, 255], np.uint8)), (1, 0, 0), atol=1e-4)
    assert np.allclose(
        to_oklab(np.array([255, 0, 0], np.uint8)), (0.62796, 0.22486, 0.12585), atol=1e-4
    )


def test_oklab_round_trip_is_exact() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100_000, 3)).astype(np.uint8)
    assert np.array_equal(from_oklab(to_oklab(pixels)), pixels)


def test_colors_outside_srgb_keep_lightness_and_hue() -> None:
    """Clipping each channel once turned a strong light blue into cyan."""
    colors = np.array([[0.8, -0.05, -0.3], [0.5, 0.4, 0.1]], np.float32)
    shown = to_oklab(from_oklab(colors.copy()))
    assert np.abs(shown[:, 0] - colors[:, 0]).max() < 0.02
    hues = [np.arctan2(c[:, 2], c[:, 1]) for c in (colors, shown)]
    assert np.abs(hues[0] - hues[1]).max() < 0.06


def edit_sky(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a landscape before and after an operation on its sky, and the mask of the sky."""
    before = np.asarray(landscape())
    mask = true_mask(landscape(), "sky")
    lab = to_oklab(before)[mask]
    median = np.array([np.median(lab[:, 0]), np.median(np.hypot(lab[:, 1], lab[:, 2]))])
    operation = {
        "red": operations.recolor(COLORS["red"], "", median),
        "white": operations.recolor(COLORS["white"], "", median),
        "black": operations.recolor(COLORS["black"], "", median),
        "deep red": operations.recolor(COLORS["red"], "deep", median),
        "brighter": operations.lighten(1),
        "darker": operations.lighten(-1),
        "warmer": operations.warm(1),
        "colder": operations.warm(-1),
        "black and white": operations.saturate(0),
        "more saturated": operations.saturate(1.5),
    }[name]
    return (
        before,
        np.asarray(operations.apply_operation(landscape(), mask.astype(np.uint8) * 255, operation)),
        mask,
    )


MOVES = {
    "red": (1, 0.1),
    "white": (0, 0.1),
    "black": (0, -0.2),
    "deep red": (0, -0.1),
    "brighter": (0, 0.03),
    "darker": (0, -0.03),
    "warmer": (2, 0.03),
    "colder": (2, -0.03),
}
"""Operation -> the OKLab axis, and how far the mean must move at least."""


@pytest.mark.parametrize("name", MOVES)
def test_a_region_moves_towards_the_target_and_the_rest_stays(name: str) -> None:
    before, after, mask = edit_sky(name)
    axis, min_change = MOVES[name]
    moved = (to_oklab(after)[mask].mean(axis=0) - to_oklab(before)[mask].mean(axis=0))[axis]
    assert moved / min_change > 1
    assert np.array_equal(after[~mask], before[~mask])


@pytest.mark.parametrize("name", ["red", "white", "black", "brighter"])
def test_shading_stays(name: str) -> None:
    before, after, mask = edit_sky(name)
    lights = [to_oklab(pixels)[mask][:, 0] for pixels in (before, after)]
    assert np.corrcoef(*lights)[0, 1] > 0.95
    assert lights[1].std() > 0.15 * lights[0].std()


def test_black_and_white_and_more_saturated() -> None:
    _, gray, mask = edit_sky("black and white")
    assert np.ptp(gray[mask].astype(int), axis=1).max() <= 1
    before, vivid, _ = edit_sky("more saturated")
    chroma = [np.hypot(*to_oklab(p)[mask].mean(axis=0)[1:]) for p in (before, vivid)]
    assert chroma[1] > 1.2 * chroma[0]


def test_a_half_transparent_mask_halves_the_change() -> None:
    image = Image.new("RGB", (4, 4), (100, 100, 100))
    full, half = (
        np.asarray(
            operations.apply_operation(
                image, np.full((4, 4), degree, np.uint8), operations.lighten(1)
            ),
            int,
        ).mean()
        - 100
        for degree in (255, 128)
    )
    assert full > 10
    assert half == pytest.approx(full / 2, abs=1)


def test_the_lookup_table_matches_the_formula() -> None:
    """Colors between the grid points are interpolated; the difference must not be visible."""
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for operation in (operations.lighten(1), operations.warm(-1), operations.saturate(0.5)):
        exact = from_oklab(operation(to_oklab(pixels.reshape(-1, 3)), np.zeros(64 * 64))).reshape(
            64, 64, 3
        )
        result = np.asarray(
            operations.apply_operation(
                Image.fromarray(pixels), np.full((64, 64), 255, np.uint8), operation
            )
        )
        difference = np.abs(result.astype(int) - exact)
        assert difference.mean() < 0.25
        assert np.quantile(difference, 0.99) <= 3


def test_a_palette_is_transferred_height_by_height() -> None:
    """A sunset is dark above and orange below; as a single mean it became mud."""
    rows = np.linspace(0, 1, 60)[:, None, None]
    evening = (np.array([40, 40, 90]) * (1 - rows) + np.array([250, 150, 60]) * rows) * np.ones(
        (60, 40, 1)
    )
    evening_lab = to_oklab(evening.astype(np.uint8))
    example = operations.measure_palette(evening_lab, np.ones((60, 40), bool))
    before = np.asarray(landscape())
    mask = true_mask(landscape(), "sky")
    region = operations.measure_palette(to_oklab(before), mask)
    transfer = operations.match_palette(region, example)
    after = np.asarray(
        operations.apply_operation(
            landscape(), mask.astype(np.uint8) * 255, transfer, operations.PALETTE_LEVELS
        )
    )
    top, bottom = after[2][mask[2]].mean(axis=0), after[33][mask[33]].mean(axis=0)
    assert np.abs(top - (52, 46, 88)).max() < 25
    assert np.abs(bottom - (235, 143, 62)).max() < 30
    assert np.array_equal(after[~mask], before[~mask])


def test_nothing_bleeds_into_a_blurred_background() -> None:
    """Blurring the whole image first put a red halo around the red person."""
    image = landscape()
    background = ~true_mask(image, "person")
    after = np.asarray(operations.blur(image, background.astype(np.uint8) * 255, 3.0))
    assert np.array_equal(after[~background], np.asarray(image)[~background])
    assert after[background].reshape(-1, 3)[:, 0].max() < 140
    assert after[2:30, :20, 0].std() < 0.3 * np.asarray(image)[2:30, :20, 0].std()


def test_sharpening_adds_contrast_inside_only() -> None:
    image = landscape()
    mask = true_mask(image, "grass")
    after = np.asarray(operations.sharpen(image, mask.astype(np.uint8) * 255, 1.0))
    assert after[50:, :20].std() > np.asarray(image)[50:, :20].std()
    assert np.array_equal(after[~mask], np.asarray(image)[~mask])


def test_the_box_filter_is_the_mean_within_the_border() -> None:
    values = np.random.default_rng(0).random((7, 9, 2))
    for y, x in ((0, 0), (3, 4), (6, 8), (0, 5)):
        expected = values[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].mean(axis=(0, 1))
        assert np.allclose(box_filter(values, 2)[y, x], expected)


def test_a_coarse_map_is_refined_to_the_edges_of_the_image() -> None:
    """The border of a map of 12 x 9 places is up to 8 pixels off; the colors tell where it is."""
    image = landscape(384, 288)
    sky = true_mask(image, "sky")
    coarse = resize_map(sky.astype(np.float32), (12, 9))
    plain = resize_map(coarse, image.size) > 0.5
    refined = refine_mask(resize_map(coarse, image.size), to_oklab(np.asarray(image))) > 0.5

    assert iou(refined, sky) > iou(plain, sky)
    assert iou(refined, sky) > 0.95


def test_a_mask_has_the_size_of_the_image() -> None:
    for size in ((1200, 900), (901, 33), (1, 1)):
        image = Image.new("RGB", size, (10, 60, 200))
        mask = upscale_mask(np.ones((3, 4), np.float32), image)
        assert mask.shape == (size[1], size[0])
        assert mask.min() == 255
