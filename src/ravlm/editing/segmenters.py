"""Segmenters of Transformers: models that find any words in a photo. CLIPSeg draws them, OWL-ViT
and OWLv2 frame them.

By folder or hub name; weights must be safetensors and complete, and code that comes with a
checkpoint is not run. Words are given to the model as they stand, the starter's own in plain
English. Knows no edits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ravlm.checkpoint import read_checkpoint_config
from ravlm.editing.rule_based.mask_refinement import drawn, reduced, resized
from ravlm.editing.rule_based.oklab import to_oklab
from ravlm.editing.rule_based.stuff import WORDS
from ravlm.editing.segmentation import Scene, Segmenter, by_colour
from ravlm.encoders.clip import read_model, read_part
from ravlm.encoders.hub_files import find_folder
from ravlm.errors import Mismatch

SPOKEN = {"sea": "water", "tree": "trees"}
"""What the starter's words are called where the word alone is misleading."""
LEAST = 0.5
"""Share that CLIPSeg must reach at some place."""
LEAST_FRAMED = 0.1
"""Share that a frame of OWL-ViT must reach."""
_INSIDE, _OUTSIDE = 0.6, 0.02
"""What a pixel in and out of a frame begins with, before the colours decide."""


class HubSegmenter(Segmenter):
    """`find` is given the model, its processor, a picture and a word, and gives a map of shares or
    None."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        find: Callable[[Any, Any, Image.Image, str], np.ndarray | None],
    ) -> None:
        self._model, self._processor, self._find = model, processor, find

    def look(self, image: Image.Image) -> Scene:
        return _HubScene(image, lambda word: self._find(self._model, self._processor, image, word))


class _HubScene(Scene):
    def __init__(self, image: Image.Image, find: Callable[[str], np.ndarray | None]) -> None:
        self._small, self._find = reduced(image), find

    def find(self, word: str) -> np.ndarray | None:
        share = self._find(SPOKEN.get(word, word))
        if share is None:
            return None
        return drawn(resized(share, self._small.size), to_oklab(np.asarray(self._small)))

    def seen(self) -> tuple[str, ...]:
        return tuple(word for word in WORDS[:-1] if self._find(SPOKEN.get(word, word)) is not None)


def load_hub_segmenter(name: str | os.PathLike[str]) -> HubSegmenter:
    """The segmenter of a checkpoint. Raises NotFound, BrokenData, or Mismatch for a model of
    another kind."""
    import torch
    import transformers

    folder = find_folder(Path(name) if isinstance(name, os.PathLike) else name)
    kind = read_checkpoint_config(folder).get("model_type", "")
    if kind not in _KINDS:
        raise Mismatch(
            f'"{name}" is a model of the kind "{kind}"; one that finds regions is: {", ".join(_KINDS)}.'
        )
    head, find = _KINDS[kind]
    model, told = read_model(folder, torch.float32, getattr(transformers, head))
    if told["missing_keys"] or told["mismatched_keys"]:
        raise Mismatch(f'The checkpoint "{name}" lacks weights of its model; download it again.')
    words = read_part(transformers.AutoTokenizer.from_pretrained, folder, str(name), "tokenizer")
    pixels = read_part(
        transformers.AutoImageProcessor.from_pretrained,
        folder,
        str(name),
        "image processor",
        backend="pil",
    )
    return HubSegmenter(model.eval(), (words, pixels), find)


def _inputs(processor: Any, image: Image.Image, word: str) -> dict[str, Any]:
    words, pixels = processor
    longest = words.model_max_length if words.model_max_length < 1000 else 16
    told = words(
        [f"a photo of {word}"],
        padding="max_length",
        max_length=longest,
        truncation=True,
        return_tensors="pt",
    )
    return {**told, **pixels(images=[image], return_tensors="pt")}


def _clipseg(model: Any, processor: Any, image: Image.Image, word: str) -> np.ndarray | None:
    import torch

    with torch.no_grad():
        logits = model(**_inputs(processor, image, word)).logits
    share = torch.sigmoid(logits.float()).reshape(logits.shape[-2:]).numpy()
    return share if share.max() >= LEAST else None


def _framed(model: Any, processor: Any, image: Image.Image, word: str) -> np.ndarray | None:
    """The best frames of the model, and in them what has the colours that they hold more than what
    is around."""
    import torch

    with torch.no_grad():
        found = model(**_inputs(processor, image, word))
    scores = torch.sigmoid(found.logits[0, :, 0]).numpy()
    if scores.max() < LEAST_FRAMED:
        return None
    small = reduced(image)
    side = (
        max(image.size) if model.config.model_type == "owlv2" else None
    )  # OWLv2 pads to a square first
    scale = np.array([side, side] if side else image.size) * small.width / image.width
    share = np.full((small.height, small.width), _OUTSIDE, np.float32)
    for x, y, width, height in found.pred_boxes[0].numpy()[
        scores >= max(LEAST_FRAMED, scores.max() / 2)
    ]:
        left, right = (np.array([x - width / 2, x + width / 2]) * scale[0]).astype(int)
        top, bottom = (np.array([y - height / 2, y + height / 2]) * scale[1]).astype(int)
        share[max(0, top) : max(0, bottom + 1), max(0, left) : max(0, right + 1)] = _INSIDE
    both = by_colour(np.log(np.stack([share, 1 - share], axis=-1)), to_oklab(np.asarray(small)))
    return np.exp(both[..., 0])


_KINDS = {
    "clipseg": ("CLIPSegForImageSegmentation", _clipseg),
    "owlvit": ("OwlViTForObjectDetection", _framed),
    "owlv2": ("Owlv2ForObjectDetection", _framed),
}
"""`model_type` of a checkpoint -> the model's class in Transformers, and how it finds a word."""
