"""Text-prompted segmenters of Transformers: CLIPSeg, OWL-ViT and OWLv2.

They find any word. CLIPSeg returns a map; OWL-ViT and OWLv2 return boxes, which are refined by
color. Loaded by folder or hub name: weights must be safetensors and complete, and no code of a
checkpoint is run. Words are passed on unchanged, the starter's own in plain English.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from ravlm.checkpoint import read_checkpoint_config
from ravlm.editing.resize import downscale, resize_map
from ravlm.editing.rule_based.mask_refinement import WORKING_SIDE, refine_mask
from ravlm.editing.rule_based.oklab import to_oklab
from ravlm.editing.rule_based.segmentation import Scene, Segmenter
from ravlm.editing.rule_based.starter_segmenter import sharpen_by_color
from ravlm.editing.rule_based.stuff import WORDS
from ravlm.encoders.hub_files import find_folder
from ravlm.encoders.transformers_io import read_image_processor, read_model, read_tokenizer
from ravlm.errors import Mismatch

FindWord: TypeAlias = Callable[[Any, Any, Image.Image, str], "np.ndarray | None"]
"""Model, (tokenizer, image processor), image and word to a probability map (h, w), or None."""

PROMPT_WORDS = {"sea": "water", "tree": "trees"}
"""What a model is asked for in place of a word of the starter that would mislead it."""
MIN_MAP_PEAK = 0.5
"""Probability that CLIPSeg must reach somewhere for a word to count as present."""
MIN_BOX_SCORE = 0.1
"""Score that a box of OWL-ViT must reach for a word to count as present."""
_INSIDE_BOX = 0.6
_OUTSIDE_BOX = 0.02
"""Probability of a pixel inside and outside a box, before colors decide."""


class TextSegmenter(Segmenter):
    """A model and its processor; `find` returns the map of a word in an image."""

    def __init__(self, model: Any, processor: Any, find: FindWord) -> None:
        self._model = model
        self._processor = processor
        self._find = find

    def analyze(self, image: Image.Image) -> Scene:
        def find(word: str) -> np.ndarray | None:
            prompt = PROMPT_WORDS.get(word, word)
            return self._find(self._model, self._processor, image, prompt)

        return _TextScene(image, find)


class _TextScene(Scene):
    def __init__(self, image: Image.Image, find: Callable[[str], np.ndarray | None]) -> None:
        self._small = downscale(image, WORKING_SIDE)
        self._find = find

    def find(self, word: str) -> np.ndarray | None:
        probability = self._find(word)
        if probability is None:
            return None
        lab = to_oklab(np.asarray(self._small))
        return refine_mask(resize_map(probability, self._small.size), lab)

    def visible_words(self) -> tuple[str, ...]:
        return tuple(word for word in WORDS[:-1] if self._find(word) is not None)


def load_text_segmenter(name: str | os.PathLike[str]) -> TextSegmenter:
    """Load the segmenter of a checkpoint.

    Raises NotFound, BrokenData, or Mismatch for a model that is not a segmenter.
    """
    import torch
    import transformers

    folder = find_folder(Path(name) if isinstance(name, os.PathLike) else name)
    model_type = read_checkpoint_config(folder).get("model_type", "")
    if model_type not in MODELS:
        raise Mismatch(
            f'"{name}" is a "{model_type}" model, which does not segment by words. '
            f"Supported: {', '.join(MODELS)}."
        )
    class_name, find = MODELS[model_type]
    model, report = read_model(folder, torch.float32, getattr(transformers, class_name))
    if report["missing_keys"] or report["mismatched_keys"]:
        raise Mismatch(f'The checkpoint "{name}" lacks weights of its model. Download it again.')
    processor = read_tokenizer(folder, str(name)), read_image_processor(folder, str(name))
    return TextSegmenter(model.eval(), processor, find)


def _prepare(processor: Any, image: Image.Image, word: str) -> dict[str, Any]:
    tokenizer, image_processor = processor
    limit = tokenizer.model_max_length
    tokens = tokenizer(
        [f"a photo of {word}"],
        padding="max_length",
        max_length=limit if limit < 1000 else 16,  # huge: the checkpoint sets none
        truncation=True,
        return_tensors="pt",
    )
    return {**tokens, **image_processor(images=[image], return_tensors="pt")}


def _find_by_map(model: Any, processor: Any, image: Image.Image, word: str) -> np.ndarray | None:
    """CLIPSeg: return the model's map."""
    import torch

    with torch.no_grad():
        logits = model(**_prepare(processor, image, word)).logits
    probability = torch.sigmoid(logits.float()).reshape(logits.shape[-2:]).numpy()
    return probability if probability.max() >= MIN_MAP_PEAK else None


def _find_by_boxes(model: Any, processor: Any, image: Image.Image, word: str) -> np.ndarray | None:
    """OWL-ViT: mark the best boxes, then keep what has their colors and not those around them."""
    import torch

    with torch.no_grad():
        output = model(**_prepare(processor, image, word))
    scores = torch.sigmoid(output.logits[0, :, 0]).numpy()  # (boxes,)
    if scores.max() < MIN_BOX_SCORE:
        return None
    selected = scores >= max(MIN_BOX_SCORE, scores.max() / 2)
    boxes = output.pred_boxes[0].numpy()[selected]  # (n, 4): center x, center y, width, height
    small = downscale(image, WORKING_SIDE)
    # Boxes are relative to the image; OWLv2 pads it to a square first.
    extent = (max(image.size),) * 2 if model.config.model_type == "owlv2" else image.size
    scale = np.array(extent) * small.width / image.width
    probability = np.full((small.height, small.width), _OUTSIDE_BOX, np.float32)
    for x, y, width, height in boxes:
        left, right = (np.array([x - width / 2, x + width / 2]) * scale[0]).astype(int)
        top, bottom = (np.array([y - height / 2, y + height / 2]) * scale[1]).astype(int)
        rows = slice(max(0, top), max(0, bottom + 1))
        probability[rows, max(0, left) : max(0, right + 1)] = _INSIDE_BOX
    log_probs = np.log(np.stack([probability, 1 - probability], axis=-1))
    return np.exp(sharpen_by_color(log_probs, to_oklab(np.asarray(small)))[..., 0])


MODELS: dict[str, tuple[str, FindWord]] = {
    "clipseg": ("CLIPSegForImageSegmentation", _find_by_map),
    "owlvit": ("OwlViTForObjectDetection", _find_by_boxes),
    "owlv2": ("Owlv2ForObjectDetection", _find_by_boxes),
}
"""`model_type` of a checkpoint -> the model class in Transformers, and how it finds a word."""
