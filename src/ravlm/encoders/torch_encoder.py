"""An encoder whose towers are torch modules: pictures and texts to vectors, decoding ahead of the
towers.

What the towers are is a subclass's business (`hub`, `paired`), as is where they come from.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ravlm import runtime
from ravlm.checkpoint import WEIGHTS
from ravlm.data.images import load_image
from ravlm.data.parallel import ahead, batched
from ravlm.encoders.base import DualEncoder
from ravlm.encoders.hub_files import hash_weights
from ravlm.encoders.image_processing import Arrays, Pixels
from ravlm.encoders.tokenization import Tokens
from ravlm.errors import Mismatch
from ravlm.files import atomic_write
from ravlm.records import MODALITIES, ImageSource, Modality

_SPARE = 4
"""Times the tower's edge that a JPEG decoder must leave: with less, its own shrinking moved vectors
by up to 0.003."""


class Towers(nn.Module, ABC):
    """Two networks that end in one space. Inputs are named as Transformers names them."""

    def __init__(self) -> None:
        super().__init__()
        self._still: tuple[nn.Module, ...] = ()

    @abstractmethod
    def image_features(self, pixel_values: Tensor, **more: Tensor) -> Tensor:
        """The image tower's inputs, as `Pixels` makes them, to unit vectors, float32 (n, dim)."""

    @abstractmethod
    def text_features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **more: Tensor
    ) -> Tensor:
        """Pieces and mask (n, pieces), as `Tokens` makes them, to unit vectors, float32 (n,
        dim)."""

    @abstractmethod
    def parts(self, tower: Modality) -> list[nn.Module]:
        """What of a tower can be frozen."""

    def freeze(self, image: bool = True, text: bool = True) -> None:
        """Choose which towers stay as they are, without gradients and dropout; what belongs to
        neither is trained."""
        self._still = ()
        for tower, still in zip(MODALITIES, (image, text), strict=True):
            for part in self.parts(tower):
                part.requires_grad_(not still)
                self._still += (part,) if still else ()
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for part in self._still:
            part.eval()
        return self


class TowerEncoder(DualEncoder):
    """Two torch towers over Transformers' tokenizer and image processor.

    `files`: the small files of the checkpoint, by their path in its folder; `weights`: its
    safetensors files, empty where the towers are new; `towers`: those in fp32, else they are read
    in the dtype of inference."""

    def __init__(
        self,
        name: str,
        files: Mapping[str, bytes],
        weights: Sequence[Path],
        pixels: Pixels,
        tokenizer: Any,
        towers: Towers | None = None,
    ) -> None:
        self.name, self.files, self.weights = name, dict(files), tuple(weights)
        self.device = runtime.device()
        self.dtype = runtime.inference_dtype(self.device)
        self._pixels = pixels
        self._trained = towers.to(self.device) if towers is not None else None
        self._quick = None if towers is not None else self._read(self.dtype).to(self.device)
        self._at_start = _changes(towers) if towers is not None else 0
        self._copied = -1
        self._hashed = -1, ""
        self._tokens = self._tokens_of(tokenizer)
        self.image_size = _SPARE * pixels.edge
        self.languages = self._tokens.languages
        self.dim = self._width()

    @abstractmethod
    def _read(self, dtype: torch.dtype) -> Towers:
        """The towers from `files` and `weights`. Raises Mismatch unless every weight has its
        place."""

    @abstractmethod
    def _tokens_of(self, tokenizer: Any) -> Tokens:
        """The tokenizer with what the text tower needs of it."""

    @abstractmethod
    def _stored(self, towers: Any) -> dict[str, Tensor]:
        """The towers' weights under the names that `_read` finds them by."""

    @property
    def model(self) -> Towers:
        """The towers in fp32, to train: `image_features(pixel_values)` and
        `text_features(input_ids, attention_mask)`.

        What is done to them here is what this encoder encodes with and saves from then on.
        """
        if self._trained is None:
            fp32 = self.dtype == torch.float32
            self._trained = (
                self._quick if fp32 and self._quick else self._read(torch.float32).to(self.device)
            )
            self._at_start = _changes(self._trained)
        return self._trained

    @property
    def pixels(self) -> Pixels:
        """Pictures to the image tower's inputs."""
        return self._pixels

    @property
    def tokens(self) -> Tokens:
        """Texts to the text tower's inputs."""
        return self._tokens

    def encode_images(self, images: Sequence[ImageSource], batch_size: int = 32) -> np.ndarray:
        def decoded(image: ImageSource) -> Arrays:
            return self._pixels.arrays(load_image(image, edge=self.image_size))

        result = np.zeros((len(images), self.dim), np.float32)
        numbered = enumerate(
            ahead(decoded, images, workers=runtime.cpu_count(), lookahead=2 * batch_size)
        )
        with self._ready() as towers:
            for batch in batched(numbered, batch_size):
                for rows, alike in _by_shape(batch):
                    inputs = self._pixels.batch(alike, self.device, self.dtype)
                    result[rows] = towers.image_features(**inputs).cpu().numpy()
        return result

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        result = np.zeros((len(texts), self.dim), np.float32)
        if len(texts):
            with self._ready() as towers:
                for rows, inputs in self._tokens.batches(texts, batch_size, self.device):
                    result[rows] = towers.text_features(**inputs).cpu().numpy()
        return result

    def passages(self, text: str) -> list[str]:
        return self._tokens.passages(text)

    def prepare(self, image: Image.Image) -> Image.Image:
        return self._pixels.shrunk(image)

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Weights, preprocessing files and this class, hashed: of the files while the towers are as
        they were read."""
        if not self._altered or self._trained is None:
            return self._fingerprint_of_files
        if (changes := _changes(self._trained)) != self._hashed[0]:
            self._hashed = changes, self._hash(hash_weights(self._stored(self._trained)))
        return self._hashed[1]

    def save(self, folder: str | Path) -> None:
        from safetensors.torch import save_file

        with atomic_write(folder) as aside:
            for name, content in self.files.items():
                if not (self._altered and name.endswith(".index.json")):
                    path = aside / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
            if self._altered and self._trained is not None:
                tensors = {
                    name: x.detach().cpu().contiguous()
                    for name, x in self._stored(self._trained).items()
                }
                save_file(tensors, aside / WEIGHTS, metadata={"format": "pt"})
            else:
                for path in self.weights:
                    shutil.copyfile(path, aside / path.name)

    @cached_property
    def _fingerprint_of_files(self) -> str:
        return self._hash(hash_weights(self.weights))

    @property
    def _altered(self) -> bool:
        """Whether the weights are others than those in the files."""
        return self._trained is not None and (
            not self.weights or _changes(self._trained) != self._at_start
        )

    def _hash(self, weights: str) -> str:
        digest = hashlib.sha256(f"{type(self).__name__} {weights}".encode())
        for name in sorted(self.files):
            if not name.endswith(".index.json"):
                digest.update(f" {name} ".encode() + hashlib.sha256(self.files[name]).digest())
        return digest.hexdigest()

    @contextmanager
    def _ready(self) -> Iterator[Towers]:
        """The towers in evaluation mode, without gradients, in the dtype of inference."""
        towers = self._trained if self._trained is not None else self._quick
        assert towers is not None
        if self._trained is not None and self.dtype != torch.float32:
            if (changes := _changes(self._trained)) != self._copied:
                self._quick, self._copied = copy.deepcopy(self._trained).to(self.dtype), changes
            towers = self._quick
            assert towers is not None
        training = towers.training
        towers.eval()
        try:
            with torch.inference_mode():
                yield towers
        finally:
            towers.train(training)

    def _width(self) -> int:
        """Length of the vectors, found by encoding one picture and one text."""
        picture = self._pixels.arrays(Image.new("RGB", (64, 64), "grey"))
        _, words = next(self._tokens.batches(["a"], 1, self.device))
        try:
            with self._ready() as towers:
                image = towers.image_features(
                    **self._pixels.batch([picture], self.device, self.dtype)
                )
                text = towers.text_features(**words)
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            reason = f"do not fit its image processor or tokenizer: {error}"
            raise Mismatch(
                f'The towers of "{self.name}" {reason}; choose another checkpoint.'
            ) from None
        if image.ndim != 2 or image.shape != text.shape:
            raise Mismatch(
                f'The towers of "{self.name}" give a picture the shape {tuple(image.shape[1:])} and a text '
                f"{tuple(text.shape[1:])}; both must be one vector of one length. Choose another checkpoint."
            )
        return image.shape[1]


def _changes(module: nn.Module) -> int:
    """A number that grows with every change made in place to the module's weights, as all training
    makes them."""
    return sum(x._version for x in [*module.parameters(), *module.buffers()])


def _by_shape(batch: Sequence[tuple[int, Arrays]]) -> Iterator[tuple[list[int], list[Arrays]]]:
    """Numbered pictures in groups that can be stacked."""
    groups: dict[tuple[Any, ...], list[tuple[int, Arrays]]] = {}
    for number, arrays in batch:
        groups.setdefault(tuple(x.shape for x in arrays.values()), []).append((number, arrays))
    for group in groups.values():
        yield [number for number, _ in group], [arrays for _, arrays in group]
