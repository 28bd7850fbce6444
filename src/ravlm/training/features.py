"""Features of image-text pairs from the starter's frozen backbones, computed once and cached on
disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ravlm.checkpoint import read_checkpoint_config, read_weights, save_checkpoint
from ravlm.data.images import load_image
from ravlm.data.parallel import batched, parallel_map
from ravlm.encoders.starter import efficientnet, minilm
from ravlm.encoders.starter.backbones import ImageBackbone, TextBackbone
from ravlm.encoders.starter.encoder import StarterEncoder
from ravlm.encoders.starter.gloss import starter_glosser
from ravlm.encoders.starter.preprocessing import squash
from ravlm.files import atomic_write
from ravlm.records import ImageSource, Pair
from ravlm.training.positives import (
    PositivePairs,
    image_keys,
    image_numbers,
    text_numbers,
    text_offsets,
)

_BATCH = 8


@dataclass(frozen=True)
class PairFeatures:
    """Pooled features of n images in several views, and of their texts, float32."""

    images: np.ndarray
    """(views, n, 1280): unchanged, mirrored, then random crops."""
    texts: np.ndarray
    """(num_texts, 384); image i has the texts offsets[i] to offsets[i + 1]."""
    offsets: np.ndarray
    image_numbers: np.ndarray | None = None
    """(n,): equal images have the same number; None if all differ."""
    text_numbers: np.ndarray | None = None
    """(num_texts,): equal texts have the same number; None if all differ."""

    @property
    def positives(self) -> PositivePairs:
        """Which texts describe which images."""
        images, texts = self.image_numbers, self.text_numbers
        return PositivePairs(
            np.arange(len(self.offsets) - 1) if images is None else images,
            np.arange(self.offsets[-1]) if texts is None else texts,
            self.offsets,
        )

    @property
    def owner(self) -> np.ndarray:
        """The image number of each text, (num_texts,)."""
        return _owner(self.offsets)

    def select(self, rows: np.ndarray) -> PairFeatures:
        """Return the features of some of the pairs."""
        counts = np.diff(self.offsets)[rows]
        texts = np.concatenate(
            [np.arange(self.offsets[row], self.offsets[row + 1]) for row in rows]
        )
        return PairFeatures(
            self.images[:, rows],
            self.texts[texts],
            np.cumsum([0, *counts]),
            None if self.image_numbers is None else self.image_numbers[rows],
            None if self.text_numbers is None else self.text_numbers[texts],
        )


@dataclass(frozen=True)
class TrunkFeatures:
    """Inputs of the backbones' last stages, for n images in several views and for their texts."""

    grids: Sequence[np.ndarray]
    """One array for each view: (n, 208, g, g) float16."""
    states: np.ndarray
    """(tokens of all texts, 384) float16; text t has the tokens spans[t] to spans[t + 1]."""
    spans: np.ndarray
    offsets: np.ndarray
    """Image i has the texts offsets[i] to offsets[i + 1]."""
    pooled_images: np.ndarray
    """Pooled features of the unchanged images, (n, 1280)."""

    @property
    def owner(self) -> np.ndarray:
        """The image number of each text, (num_texts,)."""
        return _owner(self.offsets)

    def token_states(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the token states of the texts, padded with 0 to (n, max_length, 384) float16, and
        a float32 mask (n, max_length)."""
        lengths = np.diff(self.spans)[texts]
        states = np.zeros((len(texts), lengths.max(), self.states.shape[1]), np.float16)
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.float32)
        for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
            states[row, :length] = self.states[self.spans[text] : self.spans[text] + length]
        return states, mask


def pair_features(pairs: Iterable[Pair], size: int, views: int, folder: str | Path) -> PairFeatures:
    """Return the features of `pairs` at `size` pixels in `views` views (1 to 8), cached in
    `folder`."""
    pairs = list(pairs)
    folder = Path(folder)
    key = _cache_key(pairs, size, views)
    if (folder / "config.json").is_file() and read_checkpoint_config(folder).get("key") == key:
        return _with_numbers(PairFeatures(**read_weights(folder)), pairs)
    backbone = TextBackbone()
    features = PairFeatures(
        images=np.stack([image_features(pairs, size, view) for view in range(views)]),
        texts=backbone.pooled(_glossed_texts(pairs, backbone)),
        offsets=text_offsets(pairs),
    )
    _save_features(folder, key, features)
    return _with_numbers(features, pairs)


def stage_features(
    encoder: StarterEncoder, pairs: Sequence[Pair], views: int, folder: Path
) -> PairFeatures:
    """Return all features that the heads of `encoder` read, cached in `folder`: the pooled ones and
    those of each trained stage, float16 (views, n, 1 + stages, 1280) and (num_texts, 1 + stages,
    384)."""
    key = f"{_cache_key(pairs, encoder.image_size, views)} {encoder.fingerprint}"
    if (folder / "config.json").is_file() and read_checkpoint_config(folder).get("key") == key:
        return _with_numbers(PairFeatures(**read_weights(folder)), pairs)
    image_backbone, text_backbone = encoder.image_backbone, encoder.text_backbone
    images = []
    for view in range(views):
        batches = _image_outputs(
            pairs, encoder.image_size, view, image_backbone.outputs, image_backbone
        )
        images.append(np.concatenate([np.stack(arrays, 1) for arrays in batches]))
    texts = text_backbone.features([encoder.gloss(text) for pair in pairs for text in pair.texts])
    features = PairFeatures(
        images=np.stack(images).astype(np.float16),
        texts=np.stack(texts, 1).astype(np.float16),
        offsets=text_offsets(pairs),
    )
    _save_features(folder, key, features)
    return _with_numbers(features, pairs)


def trunk_features(
    pairs: Sequence[Pair], size: int, views: int, folder: str | Path
) -> TrunkFeatures:
    """Return the inputs of the last stages for `pairs` at `size` pixels, cached in `folder` as one
    file for each view."""
    cache = _ArrayCache(Path(folder), _cache_key(pairs, size, 0)[:16])
    backbone = TextBackbone()
    texts = _glossed_texts(pairs, backbone)
    spans = np.cumsum([0, *backbone.lengths(texts)])

    grids = [
        cache.load(f"view-{view}", partial(_write_grids, pairs=pairs, size=size, view=view))
        for view in range(views)
    ]
    states = cache.load("states", lambda path: _write_states(path, texts, spans, backbone))
    pooled = cache.load("pooled", lambda path: _save(path, image_features(pairs, size, 0)))
    return TrunkFeatures(
        grids=grids,
        states=np.asarray(states),
        spans=spans,
        offsets=text_offsets(pairs),
        pooled_images=np.asarray(pooled),
    )


def _save_features(folder: Path, key: str, features: PairFeatures) -> None:
    arrays = {name: array for name, array in vars(features).items() if array is not None}
    save_checkpoint(folder, {"key": key}, arrays)


def _with_numbers(features: PairFeatures, pairs: Sequence[Pair]) -> PairFeatures:
    return replace(features, image_numbers=image_numbers(pairs), text_numbers=text_numbers(pairs))


def image_features(pairs: Sequence[Pair], size: int, view: int) -> np.ndarray:
    """Return the pooled features (n, 1280) of one view: 0 unchanged, 1 mirrored, else a random
    crop."""
    outputs = _image_outputs(pairs, size, view, ["pooled"])
    return np.concatenate([pooled for (pooled,) in outputs])


class _ArrayCache:
    """Arrays in a folder, one file each, opened as memory maps."""

    def __init__(self, folder: Path, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.key = key

    def load(self, name: str, write: Callable[[Path], None]) -> np.ndarray:
        """Return the array; call `write` first if its file is missing."""
        path = self.folder / f"{name}-{self.key}.npy"
        if not path.is_file():
            with atomic_write(path) as target:
                write(target)
        return np.load(path, mmap_mode="r")


def _write_grids(path: Path, pairs: Sequence[Pair], size: int, view: int) -> None:
    edge = -(-size // 32)
    shape = (len(pairs), efficientnet.TRUNK, edge, edge)
    array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    start = 0
    for (batch,) in _image_outputs(pairs, size, view, ["trunk"]):
        array[start : start + len(batch)] = batch
        start += len(batch)
    array.flush()


def _write_states(
    path: Path, texts: Sequence[str], spans: np.ndarray, backbone: TextBackbone
) -> None:
    array = np.zeros((spans[-1], minilm.WIDTH), np.float16)
    for rows, (states,) in backbone.run(texts, ["trunk"]):
        for row, text_states in zip(rows, states, strict=True):
            array[spans[row] : spans[row + 1]] = text_states[: spans[row + 1] - spans[row]]
    _save(path, array)


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # given a path, np.save would append .npy to the name
        np.save(file, array)


def _glossed_texts(pairs: Sequence[Pair], backbone: TextBackbone) -> list[str]:
    glosser = starter_glosser(backbone.ranks)
    return [glosser.gloss(text) for pair in pairs for text in pair.texts]


def _image_outputs(
    pairs: Sequence[Pair],
    size: int,
    view: int,
    outputs: Sequence[str],
    backbone: ImageBackbone | None = None,
) -> Iterator[list[np.ndarray]]:
    """Yield the image network's `outputs`, batch by batch."""
    session = (backbone or ImageBackbone()).session

    def pixels(numbered: tuple[int, Pair]) -> np.ndarray:
        number, pair = numbered
        random = np.random.default_rng((view, number))
        image = _augment(load_image(pair.image, edge=size), view, random)
        return np.asarray(squash(image, size))

    images = parallel_map(pixels, enumerate(pairs), workers=2, lookahead=2 * _BATCH)
    for batch in batched(images, _BATCH):
        yield session.run(list(outputs), {"pixels": np.stack(batch)})


def _augment(image: Image.Image, view: int, random: np.random.Generator) -> Image.Image:
    if view == 0:
        return image
    if view == 1:
        return ImageOps.mirror(image)
    area = random.uniform(0.55, 1)
    aspect = np.exp(random.uniform(-0.29, 0.29))
    width = round(image.width * min(1, np.sqrt(area * aspect)))
    height = round(image.height * min(1, np.sqrt(area / aspect)))
    left = random.integers(0, image.width - width + 1)
    top = random.integers(0, image.height - height + 1)
    crop = image.crop((left, top, left + max(1, width), top + max(1, height)))
    return ImageOps.mirror(crop) if random.random() < 0.5 else crop


def _owner(offsets: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _cache_key(pairs: Sequence[Pair], size: int, views: int) -> str:
    sources = [size, views, ImageBackbone.source, TextBackbone.source]
    digest = hashlib.sha256(json.dumps(sources).encode())
    for pair, key in zip(pairs, image_keys([pair.image for pair in pairs]), strict=True):
        digest.update(json.dumps([key, *_file_state(pair.image), *pair.texts]).encode())
    return digest.hexdigest()


def _file_state(image: ImageSource) -> tuple[int, ...]:
    """Return the size and the modification time of an image file; () for other images."""
    if not isinstance(image, str | os.PathLike):
        return ()
    try:
        state = os.stat(image)
    except (OSError, ValueError):  # an address
        return ()
    return state.st_size, state.st_mtime_ns
