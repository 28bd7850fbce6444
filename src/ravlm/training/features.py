"""Features of the starter's frozen backbones for pairs, computed once and kept on disk. Knows no
loss and no head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ravlm.checkpoint import read_checkpoint_config, read_weights, save_checkpoint
from ravlm.data.images import load_image
from ravlm.data.parallel import ahead, batched
from ravlm.encoders.starter import efficientnet, minilm
from ravlm.encoders.starter.backbones import ImageBackbone, TextBackbone
from ravlm.encoders.starter.gloss import Glosser, read_glossary
from ravlm.files import STARTER, atomic_write
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


@dataclass(frozen=True)
class TrunkFeatures:
    """What the backbones' last stages read, for n pictures in some views and for their texts."""

    grids: Sequence[np.ndarray]
    """A view each: (n, 208, g, g) float16."""
    states: np.ndarray
    """(pieces of all texts, 384) float16; those of text t at spans[t] to spans[t + 1]."""
    spans: np.ndarray
    offsets: np.ndarray
    """The texts of picture i are offsets[i] to offsets[i + 1]."""
    pooled_images: np.ndarray
    """(n, 1280) of the pictures as they are."""

    @property
    def owner(self) -> np.ndarray:
        """(texts,): the picture of each text."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def token_states(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States (n, longest, 384) float16 of these texts, 0 where there is no piece, and a float32
        mask."""
        lengths = np.diff(self.spans)[texts]
        states = np.zeros((len(texts), lengths.max(), self.states.shape[1]), np.float16)
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.float32)
        for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
            states[row, :length] = self.states[self.spans[text] : self.spans[text] + length]
        return states, mask


def trunk_features(
    pairs: Sequence[Pair], size: int, views: int, folder: str | Path
) -> TrunkFeatures:
    """The last stages' inputs of `pairs` at `size` pixels, one file a view, computed where `folder`
    lacks them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key, backbone = _key(pairs, size, 0)[:16], TextBackbone()
    texts = [text for pair in pairs for text in pair.texts]

    def kept(name: str, make: Callable[[Path], None]) -> np.ndarray:
        path = folder / f"{name}-{key}.npy"
        if not path.is_file():
            with atomic_write(path) as aside:
                make(aside)
        return np.load(path, mmap_mode="r")

    def grids(view: int, path: Path) -> None:
        edge = -(-size // 32)
        array = np.lib.format.open_memmap(
            path, "w+", np.float16, (len(pairs), efficientnet.TRUNK, edge, edge)
        )
        start = 0
        for (batch,) in _network_outputs(pairs, size, view, ["trunk"]):
            array[start : start + len(batch)] = batch
            start += len(batch)
        array.flush()

    glosser = Glosser(read_glossary(STARTER / "glossary.tsv"), backbone.ranks)
    texts = [glosser.gloss(text) for text in texts]
    spans = np.cumsum([0, *backbone.lengths(texts)])

    def states(path: Path) -> None:
        array = np.zeros((spans[-1], minilm.WIDTH), np.float16)
        for rows, (values,) in backbone.run(texts, ["trunk"]):
            for row, value in zip(rows, values, strict=True):
                array[spans[row] : spans[row + 1]] = value[: spans[row + 1] - spans[row]]
        _save(path, array)

    return TrunkFeatures(
        grids=[kept(f"view-{view}", partial(grids, view)) for view in range(views)],
        states=np.asarray(kept("states", states)),
        spans=spans,
        offsets=np.cumsum([0, *(len(pair.texts) for pair in pairs)]),
        pooled_images=np.asarray(
            kept("pooled", lambda path: _save(path, image_features(pairs, size, 0)))
        ),
    )


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # np.save would put .npy behind another name
        np.save(file, array)


def pair_features(pairs: Iterable[Pair], size: int, views: int, folder: str | Path) -> PairFeatures:
    """Features of `pairs` at `size` pixels in `views` views (1 to 8), read from `folder` when it
    has them."""
    pairs = list(pairs)
    folder = Path(folder)
    key = _key(pairs, size, views)
    if (folder / "config.json").is_file() and read_checkpoint_config(folder).get("key") == key:
        return PairFeatures(**read_weights(folder))
    texts = [text for pair in pairs for text in pair.texts]
    backbone = TextBackbone()
    glosser = Glosser(read_glossary(STARTER / "glossary.tsv"), backbone.ranks)
    features = PairFeatures(
        images=np.stack([image_features(pairs, size, view) for view in range(views)]),
        texts=backbone.pooled([glosser.gloss(text) for text in texts]),
        offsets=np.cumsum([0, *(len(pair.texts) for pair in pairs)]),
    )
    save_checkpoint(folder, {"key": key}, vars(features))
    return features


def image_features(pairs: Sequence[Pair], size: int, view: int) -> np.ndarray:
    """Pooled features (n, 1280) of one view: 0 as it is, 1 mirrored, above that a random crop of
    its own."""
    return np.concatenate([pooled for (pooled,) in _network_outputs(pairs, size, view, ["pooled"])])


def _network_outputs(
    pairs: Sequence[Pair], size: int, view: int, outputs: Sequence[str]
) -> Iterator[list[np.ndarray]]:
    """The image network's `outputs`, batch by batch."""
    session = ImageBackbone().session

    def pixels(numbered: tuple[int, Pair]) -> np.ndarray:
        number, pair = numbered
        image = _view(
            load_image(pair.image, edge=size), view, np.random.default_rng((view, number))
        )
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))

    ready = batched(ahead(pixels, enumerate(pairs), workers=2, lookahead=2 * BATCH), BATCH)
    for batch in ready:
        yield session.run(list(outputs), {"pixels": np.stack(batch)})


def _view(image: Image.Image, view: int, random: np.random.Generator) -> Image.Image:
    if view == 0:
        return image
    if view == 1:
        return ImageOps.mirror(image)
    area, aspect = random.uniform(0.55, 1), np.exp(random.uniform(-0.29, 0.29))
    width = round(image.width * min(1, np.sqrt(area * aspect)))
    height = round(image.height * min(1, np.sqrt(area / aspect)))
    left, top = (
        random.integers(0, image.width - width + 1),
        random.integers(0, image.height - height + 1),
    )
    crop = image.crop((left, top, left + max(1, width), top + max(1, height)))
    return ImageOps.mirror(crop) if random.random() < 0.5 else crop


def _key(pairs: Sequence[Pair], size: int, views: int) -> str:
    digest = hashlib.sha256(
        json.dumps([size, views, ImageBackbone.source, TextBackbone.source]).encode()
    )
    for pair in pairs:
        digest.update(json.dumps([str(pair.image), *pair.texts]).encode())
    return digest.hexdigest()
