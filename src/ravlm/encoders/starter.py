"""The starter: two frozen backbones that come with packages, small trained heads, a vector in blocks.

    image = [aligned | raw image | 0        | class words]
    text  = [aligned | 0         | raw text | words      ]

So image-text similarity rests on the aligned and the word blocks, while image-image and text-text similarity mostly
keep what the backbones give. Knows nothing of training: `ravlm.training.starter` makes its heads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ravlm.checkpoint import check_names, read_checkpoint_config, read_weights, save_checkpoint
from ravlm.config import from_mapping, to_mapping
from ravlm.data.batches import ahead, batched
from ravlm.data.images import load_image
from ravlm.encoders import minilm
from ravlm.encoders.backbones import ImageBackbone, TextBackbone
from ravlm.encoders.base import DualEncoder
from ravlm.encoders.gloss import Glosser, read_glossary
from ravlm.records import ImageSource

HOME = Path(__file__).parent.parent / "starter"
"""Where the package keeps the trained heads, the glossary and the model card."""
IMAGE_WIDTH, TEXT_WIDTH = 1280, minilm.WIDTH


@dataclass(frozen=True)
class StarterConfig:
    """The layout of the vector: widths of the blocks, and each block's share of the squared length."""

    architecture: str = "starter"
    image_size: int = 260
    aligned_dim: int = 512
    hidden_dim: int = 1024
    raw_image_dim: int = 256
    raw_text_dim: int = 256
    words_dim: int = 128
    aligned_share: float = 0.35
    raw_share: float = 0.60
    words_share: float = 0.05
    class_sharpness: float = 0.5
    """Exponent of the class probabilities before they weigh the class words."""

    @property
    def dim(self) -> int:
        return self.aligned_dim + self.raw_image_dim + self.raw_text_dim + self.words_dim

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every array of a checkpoint."""
        shapes: dict[str, tuple[int, ...]] = {
            "image.raw_mean": (IMAGE_WIDTH,),
            "image.raw": (IMAGE_WIDTH, self.raw_image_dim),
            "text.raw": (TEXT_WIDTH, self.raw_text_dim),
            "words.projection": (TEXT_WIDTH, self.words_dim),
            "words.mean": (self.words_dim,),
            "words.classes": (1000, self.words_dim),
            "classifier.weight": (IMAGE_WIDTH, 1000),
            "classifier.bias": (1000,),
        }
        for tower, width in (("image", IMAGE_WIDTH), ("text", TEXT_WIDTH)):
            shapes |= {f"{tower}.{name}": shape for name, shape in head_shapes(width, self).items()}
        return shapes


def head_shapes(width: int, config: StarterConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of the arrays of a tower's head (see `head`)."""
    return {
        "mean": (width,),
        "deviation": (width,),
        "linear": (width, config.aligned_dim),
        "inner": (width, config.hidden_dim),
        "inner_bias": (config.hidden_dim,),
        "outer": (config.hidden_dim, config.aligned_dim),
        "outer_bias": (config.aligned_dim,),
    }


def head(x: np.ndarray, weights: Mapping[str, np.ndarray], tower: str) -> np.ndarray:
    """Backbone vectors (n, width) to the aligned block (n, aligned_dim), unit rows: a line and two ReLU layers."""

    def w(name: str) -> np.ndarray:
        return weights[f"{tower}.{name}"]

    x = (x - w("mean")) / w("deviation")
    inner = np.maximum(x @ w("inner") + w("inner_bias"), 0)
    return unit(x @ w("linear") + inner @ w("outer") + w("outer_bias"))


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


class StarterEncoder(DualEncoder):
    """See the module's docstring. `folder` is a checkpoint; the networks are loaded when first used."""

    languages = ("en",)
    glosses = ("zh",)

    def __init__(self, config: StarterConfig, weights: Mapping[str, np.ndarray], name: str = "starter") -> None:
        check_names(weights, config.shapes(), name)
        self.config, self.name = config, name
        self._weights = {key: array.astype(np.float32) for key, array in weights.items()}
        self.dim, self.image_size = config.dim, config.image_size

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> StarterEncoder:
        """Load a checkpoint folder; `name` is what it will be found by again."""
        config = from_mapping(StarterConfig, read_checkpoint_config(folder), f"{folder}/config.json")
        return cls(config, read_weights(folder), name)

    def with_heads(self, config: StarterConfig, heads: Mapping[str, np.ndarray], name: str) -> StarterEncoder:
        """This encoder with other heads (`head_shapes` of "image" and of "text"); `config` has their sizes."""
        return StarterEncoder(config, {**self._weights, **heads}, name)

    def save(self, folder: str | Path) -> None:
        save_checkpoint(folder, *self.checkpoint())

    def checkpoint(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The configuration and the arrays (half precision) of a checkpoint of this encoder."""
        return to_mapping(self.config), {key: array.astype(np.float16) for key, array in self._weights.items()}

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Backbones, heads, layout and glossary, hashed."""
        digest = hashlib.sha256(json.dumps(to_mapping(self.config), sort_keys=True).encode())
        for key in sorted(self._weights):
            digest.update(key.encode() + self._weights[key].astype(np.float16).tobytes())
        for part in (self._image.source, self._text.source, self._glosser.fingerprint):
            digest.update(part.encode())
        return digest.hexdigest()

    @cached_property
    def _image(self) -> ImageBackbone:
        return ImageBackbone()

    @cached_property
    def _text(self) -> TextBackbone:
        return TextBackbone()

    @cached_property
    def _glosser(self) -> Glosser:
        return Glosser(read_glossary(HOME / "glossary.tsv"), self._text.ranks)

    def gloss(self, text: str) -> str:
        return self._glosser.gloss(text)

    def passages(self, text: str) -> list[str]:
        return self._text.passages(text, self.gloss)

    def prepare(self, image: Image.Image) -> Image.Image:
        size = (self.image_size, self.image_size)  # squashed, as the heads' training photos were
        return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)

    def encode_images(self, images: Sequence[ImageSource], batch_size: int = 8) -> np.ndarray:
        def pixels(image: ImageSource) -> np.ndarray:
            return np.asarray(self.prepare(load_image(image, edge=self.image_size)))

        ready = batched(ahead(pixels, images, workers=2, lookahead=2 * batch_size), batch_size)
        rows = [self.image_vectors(self._image.pooled(np.stack(batch))) for batch in ready]
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        return self.text_vectors(self._text.pooled([self.gloss(text) for text in texts], batch_size))

    def image_vectors(self, pooled: np.ndarray) -> np.ndarray:
        """Pooled backbone outputs (n, 1280) to vectors (n, dim)."""
        w, c = self._weights, self.config
        logits = pooled @ w["classifier.weight"] + w["classifier.bias"]
        probabilities = np.exp(c.class_sharpness * (logits - logits.max(axis=1, keepdims=True)))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        words = unit(probabilities @ w["words.classes"])
        raw = unit((unit(np.sqrt(pooled)) - w["image.raw_mean"]) @ w["image.raw"])  # a root evens out the channels
        return self._blocks(head(pooled, w, "image"), raw, None, words)

    def text_vectors(self, pooled: np.ndarray) -> np.ndarray:
        """Pooled backbone outputs (n, 384) to vectors (n, dim)."""
        w, raw = self._weights, unit(pooled)
        words = unit(raw @ w["words.projection"] - w["words.mean"])
        return self._blocks(head(pooled, w, "text"), None, unit(raw @ w["text.raw"]), words)

    def _blocks(
        self, aligned: np.ndarray, image: np.ndarray | None, text: np.ndarray | None, words: np.ndarray
    ) -> np.ndarray:
        c, n = self.config, len(aligned)
        raw_image = np.zeros((n, c.raw_image_dim), np.float32) if image is None else np.sqrt(c.raw_share) * image
        raw_text = np.zeros((n, c.raw_text_dim), np.float32) if text is None else np.sqrt(c.raw_share) * text
        parts = [np.sqrt(c.aligned_share) * aligned, raw_image, raw_text, np.sqrt(c.words_share) * words]
        return unit(np.concatenate(parts, axis=1)).astype(np.float32)
