"""Stuff: what each place of a photo shows, of fourteen words such as sky, grass and sea.

A linear model over the starter's image network (its grids of stride 16 and 32), color, roughness
and position. Its weights ship with the package and are trained by `python -m benchmarks.regions
--write`. A photo is resized to a square, like the training photos. For other words see `things`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from ravlm.checkpoint import check_shapes, read_weights
from ravlm.editing.resize import resize_map
from ravlm.editing.rule_based.mask_refinement import box_filter
from ravlm.editing.rule_based.oklab import to_oklab
from ravlm.encoders.starter.backbones import ImageBackbone
from ravlm.files import STARTER

REGIONS = STARTER / "regions"
"""Folder of the shipped weights."""
WORDS = (
    "sky", "grass", "sea", "sand", "snow", "road", "wall", "floor", "tree", "skin", "shirt",
    "person", "dog", "other",
)  # fmt: skip
"""What a place may show. "sea" is any water, "road" any paved or trodden ground outdoors, "shirt"
any upper clothing, "person" the rest of a person."""
PARTS: dict[str, tuple[str, ...]] = {"person": ("person", "shirt", "skin")}
"""Words that include others."""
SIZE = 384
CELL = 16
GRID = SIZE // CELL
"""Places per side."""
WIDTH = 120 + 208 + 13
"""Features of a place: the channels of both grids, then color, roughness and position."""
SHAPES: dict[str, tuple[int, ...]] = {
    "mean": (WIDTH,),
    "deviation": (WIDTH,),
    "weight": (WIDTH, len(WORDS)),
    "bias": (len(WORDS),),
}


class StuffModel:
    """Log-probabilities of `WORDS` for each place of an image. `weights`: arrays of `SHAPES`."""

    def __init__(self, weights: Mapping[str, np.ndarray], backbone: ImageBackbone) -> None:
        check_shapes(weights, SHAPES, "the region model")
        self._weights = {name: array.astype(np.float32) for name, array in weights.items()}
        self.backbone = backbone

    @classmethod
    def load(cls) -> StuffModel:
        """Load the shipped model."""
        return cls(read_weights(REGIONS), ImageBackbone())

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return log-probabilities (..., len(WORDS)) for features of places (..., WIDTH)."""
        w = self._weights
        normalized = (features - w["mean"]) / w["deviation"]
        return log_softmax(normalized @ w["weight"] + w["bias"])

    def extract(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """Run the network on an RGB image.

        Return features (GRID, GRID, WIDTH) for `self`, and the last grid (1280, GRID/2, GRID/2).
        """
        pixels = resize_to_square(image)
        middle, trunk, grid = self.backbone.session.run(
            ["middle", "trunk", "grid"], {"pixels": pixels[None]}
        )
        return compute_features(pixels, middle[0], trunk[0]), grid[0]


def resize_to_square(image: Image.Image) -> np.ndarray:
    """Return the input of the network: uint8 (SIZE, SIZE, 3)."""
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, reducing_gap=2.0))


def compute_features(pixels: np.ndarray, middle: np.ndarray, trunk: np.ndarray) -> np.ndarray:
    """Return features (GRID, GRID, WIDTH) of a square image and its two grids.

    `pixels` is uint8 (SIZE, SIZE, 3); `middle` and `trunk` are (channels, side, side).
    """
    lab = to_oklab(pixels).reshape(GRID, CELL, GRID, CELL, 3)
    color = (lab.mean((1, 3)) - (0.5, 0, 0)) * (2, 8, 8)
    roughness = np.log1p(lab.std((1, 3)) * 50)
    y, x = np.mgrid[0:GRID, 0:GRID] / (GRID - 1)
    parts = [
        box_filter(middle.transpose(1, 2, 0), 1),
        resize_map(trunk.transpose(1, 2, 0), (GRID, GRID)),
        color,
        color**2,
        color[..., :1] * color[..., 1:],
        roughness[..., :2],
        np.stack([y, y**2, np.abs(2 * x - 1)], axis=-1),
    ]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Return the logarithm of the softmax over the last axis."""
    scores = scores - scores.max(axis=-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
