"""Colours moved in OKLab, blur and sharpening: what changes, what stays, and nothing outside."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ravlm.editing.rule_based import operations
from ravlm.editing.rule_based.lexicon import COLOURS
from ravlm.editing.rule_based.mask_refinement import box, drawn, enlarged, resized
from ravlm.editing.rule_based.oklab import from_oklab, to_oklab
from tests.helpers.editors import landscape, truth


def test_oklab_is_what_its_author_states() -> None:
    """White has lightness 1 and no chroma; red is (0.628, 0.225, 0.126)."""
    assert np.allclose(to_oklab(np.array([255, 255, 255], np.uint8)), (1, 0, 0), atol=1e-4)
    assert np.allclose(
        to_oklab(np.array([255, 0, 0], np.uint8)), (0.62796, 0.22486, 0.12585), atol=1e-4
    )


def test_every_pixel_comes_back_from_oklab() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100_000, 3)).astype(np.uint8)
    assert np.array_equal(from_oklab(to_oklab(pixels)), pixels)


def test_colours_that_no_screen_shows_keep_lightness_and_hue() -> None:
    """Clipping each channel turned a strong light blue into cyan."""
    wanted = np.array([[0.8, -0.05, -0.3], [0.5, 0.4, 0.1]], np.float32)
    found = to_oklab(from_oklab(wanted.copy()))
    assert np.abs(found[:, 0] - wanted[:, 0]).max() < 0.02
    hues = [np.arctan2(c[:, 2], c[:, 1]) for c in (wanted, found)]
    assert np.abs(hues[0] - hues[1]).max() < 0.06


def changed(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A landscape before, after something was done to its sky, and the sky's mask."""
    before = np.asarray(landscape())
    mask = truth(landscape(), "sky")
    lab = to_oklab(before)[mask]
    median = np.array([np.median(lab[:, 0]), np.median(np.hypot(lab[:, 1], lab[:, 2]))])
    operation = {
        "red": operations.recolour(COLOURS["red"], "", median),
        "white": operations.recolour(COLOURS["white"], "", median),
        "black": operations.recolour(COLOURS["black"], "", median),
        "deep red": operations.recolour(COLOURS["red"], "deep", median),
        "brighter": operations.lighten(1),
        "darker": operations.lighten(-1),
        "warmer": operations.warm(1),
        "colder": operations.warm(-1),
        "black and white": operations.saturate(0),
        "more saturated": operations.saturate(1.5),
    }[name]
    return (
        before,
        np.asarray(operations.changed(landscape(), mask.astype(np.uint8) * 255, operation)),
        mask,
    )


MOVES = {
    "red": (1, 0.1), "white": (0, 0.1), "black": (0, -0.2), "deep red": (0, -0.1), "brighter": (0, 0.03),
    "darker": (0, -0.03), "warmer": (2, 0.03), "colder": (2, -0.03),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_a_region_moves_toward_the_wish_and_the_rest_stays(name: str) -> None:
    before, after, mask = changed(name)
    axis, least = MOVES[name]
    moved = (to_oklab(after)[mask].mean(axis=0) - to_oklab(before)[mask].mean(axis=0))[axis]
    assert moved / least > 1
    assert np.array_equal(after[~mask], before[~mask])


@pytest.mark.parametrize("name", ["red", "white", "black", "brighter"])
def test_shading_stays(name: str) -> None:
    before, after, mask = changed(name)
    lights = [to_oklab(pixels)[mask][:, 0] for pixels in (before, after)]
    assert np.corrcoef(*lights)[0, 1] > 0.95
    assert lights[1].std() > 0.15 * lights[0].std()


def test_black_and_white_and_more_saturated() -> None:
    _, grey, mask = changed("black and white")
    assert np.ptp(grey[mask].astype(int), axis=1).max() <= 1
    before, more, _ = changed("more saturated")
    chroma = [np.hypot(*to_oklab(p)[mask].mean(axis=0)[1:]) for p in (before, more)]
    assert chroma[1] > 1.2 * chroma[0]


def test_half_a_mask_is_half_the_change() -> None:
    image = Image.new("RGB", (4, 4), (100, 100, 100))
    whole, half = (
        np.asarray(
            operations.changed(image, np.full((4, 4), degree, np.uint8), operations.lighten(1)), int
        ).mean()
        - 100
        for degree in (255, 128)
    )
    assert whole > 10
    assert half == pytest.approx(whole / 2, abs=1)


def test_the_table_gives_what_the_formula_gives() -> None:
    """Every colour is between eight that were computed; what is interpolated may not be seen."""
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for operation in (operations.lighten(1), operations.warm(-1), operations.saturate(0.5)):
        exact = from_oklab(operation(to_oklab(pixels.reshape(-1, 3)), np.zeros(64 * 64))).reshape(
            64, 64, 3
        )
        found = np.asarray(
            operations.changed(Image.fromarray(pixels), np.full((64, 64), 255, np.uint8), operation)
        )
        difference = np.abs(found.astype(int) - exact)
        assert difference.mean() < 0.25
        assert np.quantile(difference, 0.99) <= 3


def test_a_palette_is_taken_over_height_by_height() -> None:
    """A sunset is dark above and orange below; taken as one mean it became mud."""
    rows = np.linspace(0, 1, 60)[:, None, None]
    evening = (np.array([40, 40, 90]) * (1 - rows) + np.array([250, 150, 60]) * rows) * np.ones(
        (60, 40, 1)
    )
    example = operations.palette(to_oklab(evening.astype(np.uint8)), np.ones((60, 40), bool))
    before = np.asarray(landscape())
    mask = truth(landscape(), "sky")
    own = operations.palette(to_oklab(before), mask)
    like = operations.like(own, example)
    after = np.asarray(
        operations.changed(landscape(), mask.astype(np.uint8) * 255, like, operations.LEVELS)
    )
    top, bottom = after[2][mask[2]].mean(axis=0), after[33][mask[33]].mean(axis=0)
    assert np.abs(top - (52, 46, 88)).max() < 25
    assert np.abs(bottom - (235, 143, 62)).max() < 30
    assert np.array_equal(after[~mask], before[~mask])


def test_nothing_bleeds_into_a_blurred_background() -> None:
    """Blurring the whole picture first put a red halo around the red person."""
    image = landscape()
    background = ~truth(image, "person")
    after = np.asarray(operations.blurred(image, background.astype(np.uint8) * 255, 3.0))
    assert np.array_equal(after[~background], np.asarray(image)[~background])
    assert after[background].reshape(-1, 3)[:, 0].max() < 140
    assert after[2:30, :20, 0].std() < 0.3 * np.asarray(image)[2:30, :20, 0].std()


def test_sharpening_adds_contrast_inside_only() -> None:
    image = landscape()
    mask = truth(image, "grass")
    after = np.asarray(operations.sharpened(image, mask.astype(np.uint8) * 255, 1.0))
    assert after[50:, :20].std() > np.asarray(image)[50:, :20].std()
    assert np.array_equal(after[~mask], np.asarray(image)[~mask])


def test_the_box_is_the_mean_of_what_is_there() -> None:
    values = np.random.default_rng(0).random((7, 9, 2))
    for y, x in ((0, 0), (3, 4), (6, 8), (0, 5)):
        expected = values[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].mean(axis=(0, 1))
        assert np.allclose(box(values, 2)[y, x], expected)


def test_a_coarse_map_is_drawn_to_the_edges_of_the_picture() -> None:
    """A map of 12 x 9 places has its border up to 8 pixels off; the colours say where it is."""
    image = landscape(384, 288)
    right = truth(image, "sky")
    coarse = resized(right.astype(np.float32), (12, 9))
    plain = resized(coarse, image.size) > 0.5
    found = drawn(resized(coarse, image.size), to_oklab(np.asarray(image))) > 0.5

    def overlap(mask: np.ndarray) -> float:
        return (mask & right).sum() / (mask | right).sum()

    assert overlap(found) > overlap(plain)
    assert overlap(found) > 0.95


def test_a_mask_is_as_large_as_the_picture() -> None:
    for size in ((1200, 900), (901, 33), (1, 1)):
        image = Image.new("RGB", size, (10, 60, 200))
        mask = enlarged(np.ones((3, 4), np.float32), image)
        assert mask.shape == (size[1], size[0])
        assert mask.min() == 255
