"""Processors: images and texts of evidence as inputs of a `CaptionerModel`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ravlm import runtime
from ravlm.data.images import load_image
from ravlm.data.parallel import parallel_map
from ravlm.encoders.starter.backbones import ImageBackbone, TextBackbone
from ravlm.encoders.starter.classes import ImageClasses
from ravlm.encoders.starter.config import StarterConfig
from ravlm.encoders.starter.gloss import Glosser, starter_glosser
from ravlm.encoders.starter.preprocessing import load_pixels
from ravlm.encoders.transformers_io import read_image_processor, read_tokenizer
from ravlm.generation.token_budget import fair_share
from ravlm.records import ImageSource

T = TypeVar("T")
_CACHE_SIZE = 20_000
"""Texts whose states are cached; a caption's take some 10 kB in half precision."""
_IMAGE_BATCH = 8
_EVIDENCE_TOKENIZER = "text"
"""Folder of the text tower's tokenizer, within the captioner's."""


class CaptionerProcessor(ABC):
    """Turns images and texts into model inputs."""

    @abstractmethod
    def image_inputs(self, images: Sequence[ImageSource]) -> dict[str, Tensor]:
        """Return the inputs for n images."""

    @abstractmethod
    def evidence_inputs(self, texts: Sequence[Sequence[str]], max_tokens: int) -> dict[str, Tensor]:
        """Return the inputs for the texts of each request's entries.

        A request gets at most `max_tokens` tokens, shared among its entries. Without any text the
        result is {}."""


class StarterProcessor(CaptionerProcessor):
    """The starter's backbones in ONNX Runtime.

    An image becomes the input of the image network's last stage, a text its token states, which
    are cached."""

    def __init__(
        self, image_size: int = StarterConfig().image_size, cache_size: int = _CACHE_SIZE
    ) -> None:
        self.image_size = image_size
        self._cache_size = cache_size
        self._cache: OrderedDict[str, np.ndarray] = OrderedDict()

    @cached_property
    def _image_backbone(self) -> ImageBackbone:
        return ImageBackbone()

    @cached_property
    def _text_backbone(self) -> TextBackbone:
        return TextBackbone()

    @cached_property
    def _glosser(self) -> Glosser:
        return starter_glosser(self._text_backbone.ranks)

    def image_inputs(self, images: Sequence[ImageSource]) -> dict[str, Tensor]:
        pixels = np.stack(_load_all(lambda image: load_pixels(image, self.image_size), images))
        run = self._image_backbone.session.run
        grids = [
            run(["trunk"], {"pixels": pixels[i : i + _IMAGE_BATCH]})[0]
            for i in range(0, len(pixels), _IMAGE_BATCH)
        ]
        states = torch.from_numpy(np.concatenate(grids)).flatten(2).transpose(1, 2)
        return {"image_states": states}  # (n, positions, 208)

    def everyday_word(self, image: ImageSource) -> tuple[str, float]:
        """Return what the image network takes the image for, and its probability."""
        pixels = load_pixels(image, self.image_size)[None]
        return self._classes.everyday_word(self._image_backbone.pooled(pixels)[0])

    @cached_property
    def _classes(self) -> ImageClasses:
        return ImageClasses()

    def evidence_inputs(self, texts: Sequence[Sequence[str]], max_tokens: int) -> dict[str, Tensor]:
        if not any(texts):
            return {}
        states = iter(self.text_states([text for row in texts for text in row]))
        rows = [[next(states) for _ in row] for row in texts]
        return pad_evidence([_truncate(row, max_tokens) for row in rows])

    def text_states(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the last token states of each text, (tokens, 384) in half precision."""
        missing = list(dict.fromkeys(text for text in texts if text not in self._cache))
        if missing:
            self._encode(missing)
        states = [self._cache[text] for text in texts]
        for text in texts:
            self._cache.move_to_end(text)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return states

    def _encode(self, texts: Sequence[str]) -> None:
        glossed = [self._glosser.gloss(text) for text in texts]
        lengths = self._text_backbone.lengths(glossed)
        for rows, (states,) in self._text_backbone.run(glossed, ["states"]):
            for row, text_states in zip(rows, states, strict=True):
                self._cache[texts[row]] = text_states[: lengths[row]].astype(np.float16)


class TransformersProcessor(CaptionerProcessor):
    """A checkpoint's image processor, and the tokenizer of the text tower or else the decoder."""

    def __init__(
        self, image_processor: Any, tokenizer: Any, evidence_tokenizer: Any = None
    ) -> None:
        self.image_processor = image_processor
        self.evidence_tokenizer = evidence_tokenizer
        self._tokenizer = tokenizer if evidence_tokenizer is None else evidence_tokenizer

    @classmethod
    def load(cls, folder: Path, tokenizer: Any) -> TransformersProcessor:
        """Load the processor of a captioner's folder; `tokenizer` is the decoder's."""
        image_processor = read_image_processor(folder, str(folder))
        evidence_tokenizer = None
        if (folder / _EVIDENCE_TOKENIZER).is_dir():
            evidence_tokenizer = read_tokenizer(folder / _EVIDENCE_TOKENIZER, str(folder))
        return cls(image_processor, tokenizer, evidence_tokenizer)

    def save(self, folder: Path) -> None:
        """Write the processor into a captioner's folder."""
        self.image_processor.save_pretrained(folder)
        if self.evidence_tokenizer is not None:
            self.evidence_tokenizer.save_pretrained(folder / _EVIDENCE_TOKENIZER)

    def image_inputs(self, images: Sequence[ImageSource]) -> dict[str, Tensor]:
        loaded = _load_all(load_image, images)
        return {
            "pixel_values": self.image_processor(images=loaded, return_tensors="pt")["pixel_values"]
        }

    def evidence_inputs(self, texts: Sequence[Sequence[str]], max_tokens: int) -> dict[str, Tensor]:
        if not any(texts):
            return {}
        rows = [[self._token_ids(text) for text in row] for row in texts]
        inputs = pad_evidence([_truncate(row, max_tokens) for row in rows])
        return {
            "evidence_ids": inputs["evidence_states"][..., 0].long(),
            "evidence_mask": inputs["evidence_mask"],
        }

    def _token_ids(self, text: str) -> np.ndarray:
        """Return the tokens of a text as an array (tokens, 1)."""
        return np.array(self._tokenizer(text, truncation=True)["input_ids"])[:, None]


def pad_evidence(rows: Sequence[Sequence[np.ndarray]]) -> dict[str, Tensor]:
    """Pad the states (tokens, width) of each entry of each request to one tensor.

    Returns `evidence_states` (n, k, max_length, width), 0 for padding, and `evidence_mask`
    (n, k, max_length)."""
    num_entries = max(len(row) for row in rows)
    max_length = max((len(entry) for row in rows for entry in row), default=1)
    width = next(entry.shape[1] for row in rows for entry in row)
    states = np.zeros((len(rows), num_entries, max(max_length, 1), width), np.float32)
    mask = np.zeros(states.shape[:3], bool)
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            states[i, j, : len(entry)] = entry
            mask[i, j, : len(entry)] = True
    return {"evidence_states": torch.from_numpy(states), "evidence_mask": torch.from_numpy(mask)}


def _truncate(entries: Sequence[np.ndarray], max_tokens: int) -> list[np.ndarray]:
    """Cut the entries of a request so that they have at most `max_tokens` tokens in all."""
    lengths = fair_share([len(entry) for entry in entries], max_tokens)
    return [entry[:length] for entry, length in zip(entries, lengths, strict=True)]


def _load_all(load: Callable[[ImageSource], T], images: Sequence[ImageSource]) -> list[T]:
    """Load images in parallel, in order."""
    workers = runtime.cpu_count()
    return list(parallel_map(load, images, workers=workers, lookahead=2 * workers))
