"""Features of the starter's frozen backbones for pairs, computed once and kept on disk. Knows no loss and no head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ravlm.checkpoint import read_checkpoint_config, read_weights, save_checkpoint
from ravlm.data.batches import ahead, batched
from ravlm.data.images import load_image
from ravlm.encoders.backbones import ImageBackbone, TextBackbone
from ravlm.encoders.gloss import Glosser, read_glossary
from ravlm.encoders.starter import HOME
from ravlm.errors import InvalidInput
from ravlm.records import Pair

BATCH = 8


@dataclass(frozen=True)
class PairFeatures:
    """Pooled features of n pictures in some views and of their texts, float32."""

    images: np.ndarray
    """(views, n, 1280): as it is, mirrored, then random crops."""
    texts: np.ndarray
    """(texts, 384), those of picture i at offsets[i] to offsets[i + 1]."""
    offsets: np.ndarray

    @property
    def owner(self) -> np.ndarray:
        """(texts,): the picture of each text."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def pair_features(pairs: Iterable[Pair], size: int, views: int, folder: str | Path) -> PairFeatures:
    """Features of `pairs` at `size` pixels in `views` views (1 to 8), read from `folder` when it has them."""
    pairs = list(pairs)
    if not pairs:
        raise InvalidInput("There is no pair to train on: each needs a picture and a text.")
    folder = Path(folder)
    key = _key(pairs, size, views)
    if (folder / "config.json").is_file() and read_checkpoint_config(folder).get("key") == key:
        return PairFeatures(**read_weights(folder))
    texts = [text for pair in pairs for text in pair.texts]
    backbone = TextBackbone()
    glosser = Glosser(read_glossary(HOME / "glossary.tsv"), backbone.ranks)
    features = PairFeatures(
        images=np.stack([image_features(pairs, size, view) for view in range(views)]),
        texts=backbone.pooled([glosser.gloss(text) for text in texts]),
        offsets=np.cumsum([0, *(len(pair.texts) for pair in pairs)]),
    )
    save_checkpoint(folder, {"key": key}, vars(features))
    return features


def image_features(pairs: list[Pair], size: int, view: int) -> np.ndarray:
    """Pooled features (n, 1280) of one view: 0 as it is, 1 mirrored, above that a random crop of its own."""
    backbone = ImageBackbone()

    def pixels(numbered: tuple[int, Pair]) -> np.ndarray:
        number, pair = numbered
        image = _view(load_image(pair.image, edge=size), view, np.random.default_rng((view, number)))
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))

    ready = batched(ahead(pixels, enumerate(pairs), workers=2, lookahead=2 * BATCH), BATCH)
    return np.concatenate([backbone.pooled(np.stack(batch)) for batch in ready])


def _view(image: Image.Image, view: int, random: np.random.Generator) -> Image.Image:
    if view == 0:
        return image
    if view == 1:
        return ImageOps.mirror(image)
    area, aspect = random.uniform(0.55, 1), np.exp(random.uniform(-0.29, 0.29))
    width = round(image.width * min(1, np.sqrt(area * aspect)))
    height = round(image.height * min(1, np.sqrt(area / aspect)))
    left, top = random.integers(0, image.width - width + 1), random.integers(0, image.height - height + 1)
    crop = image.crop((left, top, left + max(1, width), top + max(1, height)))
    return ImageOps.mirror(crop) if random.random() < 0.5 else crop


def _key(pairs: list[Pair], size: int, views: int) -> str:
    digest = hashlib.sha256(json.dumps([size, views, ImageBackbone.source, TextBackbone.source]).encode())
    for pair in pairs:
        digest.update(json.dumps([str(pair.image), *pair.texts]).encode())
    return digest.hexdigest()
