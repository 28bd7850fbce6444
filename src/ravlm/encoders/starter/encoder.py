"""The starter: two frozen backbones that come with packages, small trained heads, a vector in
blocks.

    image = [aligned | raw image | 0        | class words]
    text  = [aligned | 0         | raw text | words      ]

So image-text similarity rests on the aligned and the word blocks, while image-image and text-text
similarity mostly keep what the backbones give. Knows nothing of training: `recipes.starter_encoder`
makes its heads."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ravlm.checkpoint import check_names, read_checkpoint_config, read_weights, save_checkpoint
from ravlm.config import from_mapping, to_mapping
from ravlm.data.images import load_image
from ravlm.data.parallel import ahead, batched
from ravlm.encoders.base import DualEncoder
from ravlm.encoders.starter import minilm
from ravlm.encoders.starter.backbones import ImageBackbone, TextBackbone
from ravlm.encoders.starter.gloss import Glosser, read_glossary
from ravlm.files import STARTER
from ravlm.records import ImageSource

"""Where the package keeps the trained heads, the glossary and the model card."""
IMAGE_WIDTH, TEXT_WIDTH = 1280, minilm.WIDTH
IMAGE_STAGE: dict[str, tuple[int, ...]] = {
    "block.expand.weight": (1248, 208, 1, 1),
    "block.expand.bias": (1248,),
    "block.depthwise.weight": (1248, 1, 3, 3),
    "block.depthwise.bias": (1248,),
    "block.project.weight": (352, 1248, 1, 1),
    "block.project.bias": (352,),
    "head.weight": (1280, 352, 1, 1),
    "head.bias": (1280,),
}
"""Arrays of an opened image stage (`efficientnet.LastStage`)."""
TEXT_STAGE: dict[str, tuple[int, ...]] = minilm.layer_shapes(
    range(minilm.TRUNK_LAYERS, minilm.LAYERS)
)
"""Arrays of an opened text stage: the last layers."""
_TOGETHER = 32
"""Batches of pictures whose features go through the heads together."""
_MEMBER = re.compile(r"(image|text)\.\d+\.")


@dataclass(frozen=True)
class StarterConfig:
    """The layout of the vector: widths of the blocks, and each block's share of the squared
    length."""

    architecture: str = "starter"
    image_size: int = 260
    members: int = 1
    """Trained pairs of heads whose vectors, side by side, are the aligned block: an ensemble in one
    vector."""
    opened: bool = False
    """Whether each member has a trained copy of the backbones' last stages too."""
    aligned_dim: int = 512
    hidden_dim: int = 1024
    raw_image_dim: int = 256
    raw_text_dim: int = 256
    words_dim: int = 128
    aligned_share: float = 0.20
    raw_share: float = 0.77
    words_share: float = 0.03
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
        for member in range(self.members):
            for tower, width, stage in (
                ("image", IMAGE_WIDTH, IMAGE_STAGE),
                ("text", TEXT_WIDTH, TEXT_STAGE),
            ):
                arrays = self._head(width) | (
                    {f"opened.{k}": v for k, v in stage.items()} if self.opened else {}
                )
                shapes |= {f"{tower}.{member}.{name}": shape for name, shape in arrays.items()}
        return shapes

    def _head(self, width: int) -> dict[str, tuple[int, ...]]:
        dim, hidden = self.aligned_dim // self.members, self.hidden_dim
        return {
            "mean": (width,),
            "deviation": (width,),
            "linear": (width, dim),
            "inner": (width, hidden),
            "inner_bias": (hidden,),
            "outer": (hidden, dim),
            "outer_bias": (dim,),
        }


def head(x: np.ndarray, weights: Mapping[str, np.ndarray], prefix: str) -> np.ndarray:
    """Backbone features (n, width) to unit vectors (n, dim): a linear map plus two layers with
    ReLU.

    `prefix` names the member's arrays in `weights`: "image.0", say.
    """

    def w(name: str) -> np.ndarray:
        return weights[f"{prefix}.{name}"]

    x = (x - w("mean")) / w("deviation")
    inner = np.maximum(x @ w("inner") + w("inner_bias"), 0)
    return unit(x @ w("linear") + inner @ w("outer") + w("outer_bias"))


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


class StarterEncoder(DualEncoder):
    """See the module's docstring. `folder` is a checkpoint; the networks are loaded when first
    used."""

    languages = ("en",)
    glosses = ("zh",)

    def __init__(
        self, config: StarterConfig, weights: Mapping[str, np.ndarray], name: str = "starter"
    ) -> None:
        check_names(weights, config.shapes(), name)
        self.config, self.name = config, name
        self._weights = {key: array.astype(np.float32) for key, array in weights.items()}
        self.dim, self.image_size = config.dim, config.image_size

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> StarterEncoder:
        """Load a checkpoint folder; `name` is what it will be found by again."""
        config = from_mapping(
            StarterConfig, read_checkpoint_config(folder), f"{folder}/config.json"
        )
        return cls(config, read_weights(folder), name)

    def with_heads(
        self, config: StarterConfig, heads: Mapping[str, np.ndarray], name: str
    ) -> StarterEncoder:
        """This encoder with other members, the arrays "image.0.linear" and so on; `config` has
        their sizes."""
        kept = {key: array for key, array in self._weights.items() if not _MEMBER.match(key)}
        return StarterEncoder(config, {**kept, **heads}, name)

    def save(self, folder: str | Path) -> None:
        save_checkpoint(folder, *self.checkpoint())

    def checkpoint(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The configuration and the arrays (half precision) of a checkpoint of this encoder."""
        return to_mapping(self.config), {
            key: array.astype(np.float16) for key, array in self._weights.items()
        }

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
        return ImageBackbone(self._opened("image"))

    @cached_property
    def _text(self) -> TextBackbone:
        return TextBackbone(self._opened("text"))

    def _opened(self, tower: str) -> list[dict[str, np.ndarray]]:
        """The trained last stages of a tower, one a member."""
        prefixes = [f"{tower}.{member}.opened." for member in range(self.config.members)]
        found = [
            {k[len(p) :]: v for k, v in self._weights.items() if k.startswith(p)} for p in prefixes
        ]
        return found if self.config.opened else []

    @cached_property
    def _glosser(self) -> Glosser:
        return Glosser(read_glossary(STARTER / "glossary.tsv"), self._text.ranks)

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
        features = (self._image.features(np.stack(batch)) for batch in ready)
        # the heads' matrices are read once for many pictures, and their threads don't stand in the
        # network's way
        many = [
            [np.concatenate(some) for some in zip(*part, strict=True)]
            for part in batched(features, _TOGETHER)
        ]
        return np.concatenate(
            [self.image_vectors(*some) for some in many] or [np.zeros((0, self.dim), np.float32)]
        )

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        return self.text_vectors(
            *self._text.features([self.gloss(text) for text in texts], batch_size)
        )

    def image_vectors(self, pooled: np.ndarray, *opened: np.ndarray) -> np.ndarray:
        """Pooled features of the backbone (n, 1280), and of each opened stage, to vectors (n,
        dim)."""
        w, c = self._weights, self.config
        logits = pooled @ w["classifier.weight"] + w["classifier.bias"]
        probabilities = np.exp(c.class_sharpness * (logits - logits.max(axis=1, keepdims=True)))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        words = unit(probabilities @ w["words.classes"])
        raw = unit(
            (unit(np.sqrt(pooled)) - w["image.raw_mean"]) @ w["image.raw"]
        )  # a root evens out the channels
        return self._blocks(self._aligned("image", pooled, opened), raw, None, words)

    def text_vectors(self, pooled: np.ndarray, *opened: np.ndarray) -> np.ndarray:
        """Pooled features of the backbone (n, 384), and of each opened stage, to vectors (n,
        dim)."""
        w, raw = self._weights, unit(pooled)
        words = unit(raw @ w["words.projection"] - w["words.mean"])
        return self._blocks(
            self._aligned("text", pooled, opened), None, unit(raw @ w["text.raw"]), words
        )

    def _aligned(self, tower: str, pooled: np.ndarray, opened: Sequence[np.ndarray]) -> np.ndarray:
        """The members' vectors side by side, (n, aligned_dim), of length 1: their product is the
        members' mean."""
        inputs = opened or [pooled] * self.config.members
        rows = [head(x, self._weights, f"{tower}.{member}") for member, x in enumerate(inputs)]
        return np.concatenate(rows, axis=1) / np.sqrt(len(rows))

    def _blocks(
        self,
        aligned: np.ndarray,
        image: np.ndarray | None,
        text: np.ndarray | None,
        words: np.ndarray,
    ) -> np.ndarray:
        c, n = self.config, len(aligned)
        raw_image = (
            np.zeros((n, c.raw_image_dim), np.float32)
            if image is None
            else np.sqrt(c.raw_share) * image
        )
        raw_text = (
            np.zeros((n, c.raw_text_dim), np.float32)
            if text is None
            else np.sqrt(c.raw_share) * text
        )
        parts = [
            np.sqrt(c.aligned_share) * aligned,
            raw_image,
            raw_text,
            np.sqrt(c.words_share) * words,
        ]
        return unit(np.concatenate(parts, axis=1)).astype(np.float32)
