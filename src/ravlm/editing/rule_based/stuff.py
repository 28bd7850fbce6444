"""What each place of a photo shows, of some fourteen words: sky, grass, sea ... A linear model over
the starter's image network (its grids of stride 16 and 32), colour, roughness and position.

Its weights come with the package; `benchmarks/regions.py --write` makes them. A photo is squashed
to a square, as those that it was trained on. It knows no other words; for those see `things`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from ravlm.checkpoint import check_names, read_weights
from ravlm.editing.rule_based.mask_refinement import box, resized
from ravlm.editing.rule_based.oklab import to_oklab
from ravlm.encoders.starter.backbones import ImageBackbone
from ravlm.files import STARTER

REGIONS = STARTER / "regions"
"""Where the package keeps the trained weights."""
WORDS = (
    "sky", "grass", "sea", "sand", "snow", "road", "wall", "floor", "tree", "skin", "shirt", "person", "dog", "other",
)  # fmt: skip
"""What a place may show. "sea" is any water, "road" any paved or trodden ground outdoors, "shirt"
what is worn above, "person" what else belongs to one."""
PARTS: dict[str, tuple[str, ...]] = {"person": ("person", "shirt", "skin")}
"""Words that hold others."""
SIZE, CELL = 384, 16
GRID = SIZE // CELL
"""Places a side."""
WIDTH = 120 + 208 + 13
"""Features of a place: the channels of both grids, colour, roughness and position."""
SHAPES: dict[str, tuple[int, ...]] = {
    "mean": (WIDTH,),
    "deviation": (WIDTH,),
    "weight": (WIDTH, len(WORDS)),
    "bias": (len(WORDS),),
}


class StuffModel:
    """Shares of `WORDS` for each place of a picture. `weights`: the arrays of `SHAPES`."""

    def __init__(self, weights: Mapping[str, np.ndarray], backbone: ImageBackbone) -> None:
        check_names(weights, SHAPES, "the model of regions")
        self._weights = {name: array.astype(np.float32) for name, array in weights.items()}
        self.backbone = backbone

    @classmethod
    def load(cls) -> StuffModel:
        """The model that comes with the package."""
        return cls(read_weights(REGIONS), ImageBackbone())

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features of places (..., WIDTH) to logarithms of shares (..., len(WORDS)) that sum to
        1."""
        w = self._weights
        return log_shares(((features - w["mean"]) / w["deviation"]) @ w["weight"] + w["bias"])

    def look(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """What the network makes of an RGB picture: features (GRID, GRID, WIDTH) for `self`, and
        its last grid (1280, GRID / 2, GRID / 2)."""
        pixels = squashed(image)
        middle, trunk, grid = self.backbone.session.run(
            ["middle", "trunk", "grid"], {"pixels": pixels[None]}
        )
        return features(pixels, middle[0], trunk[0]), grid[0]


def squashed(image: Image.Image) -> np.ndarray:
    """The picture as the network sees it: uint8 (SIZE, SIZE, 3)."""
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, reducing_gap=2.0))


def features(pixels: np.ndarray, middle: np.ndarray, trunk: np.ndarray) -> np.ndarray:
    """Features (GRID, GRID, WIDTH) of a squashed picture and the network's two grids (channels,
    side, side) of it."""
    lab = to_oklab(pixels).reshape(GRID, CELL, GRID, CELL, 3)
    colour = (lab.mean((1, 3)) - (0.5, 0, 0)) * (2, 8, 8)
    rough = np.log1p(lab.std((1, 3)) * 50)
    y, x = np.mgrid[0:GRID, 0:GRID] / (GRID - 1)
    parts = [
        box(middle.transpose(1, 2, 0), 1),
        resized(trunk.transpose(1, 2, 0), (GRID, GRID)),
        colour,
        colour**2,
        colour[..., :1] * colour[..., 1:],
        rough[..., :2],
        np.stack([y, y**2, np.abs(2 * x - 1)], axis=-1),
    ]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def log_shares(scores: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax over the last axis."""
    scores = scores - scores.max(axis=-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
