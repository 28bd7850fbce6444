"""Editing: change an image by instruction. The reference is the edited image, a mask, or both."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from ravlm.data.images import load_image
from ravlm.data.rows import Row, to_entry
from ravlm.errors import BrokenData
from ravlm.metrics import image_l1, image_l2, mask_iou, psnr, ssim
from ravlm.records import Evidence, Example, ImageSource, Score
from ravlm.tasks.base import Prediction, Task

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM

_CHANGE_THRESHOLD = 0.05
"""A pixel is changed if a channel differs by more than this fraction of its range."""


class Editing(Task):
    """Rows of `image`, `instruction`, and `edited_image`, `mask` (white where the image should
    change) or both."""

    name: ClassVar[str] = "editing"
    required_keys: ClassVar[tuple[str, ...]] = ("image", "instruction")
    primary_metric: ClassVar[str] = "mask-iou"
    outputs_text: ClassVar[bool] = False

    def parse_row(self, values: Mapping[str, Any], example: Example) -> Iterator[Example]:
        edited_image = self._image(values.get("edited_image"))
        mask = self._image(values.get("mask"))
        if edited_image is None and mask is None:
            raise BrokenData(
                'The row has neither "edited_image" nor "mask"; editing needs one of them.'
            )
        instruction = str(values["instruction"])
        yield replace(example, text=instruction, edited_image=edited_image, mask=mask)

    def predict(
        self,
        model: RetrievalAugmentedVLM,
        examples: Sequence[Example],
        evidence: Sequence[Evidence] | None = None,
    ) -> list[Prediction]:
        predictions = []
        for i, example in enumerate(examples):
            assert example.image is not None  # a required key
            example_evidence = None if evidence is None else evidence[i]
            edit = model.edit(example.image, example.text, evidence=example_evidence)
            region = edit.region
            if region is None:
                region = np.zeros((edit.image.height, edit.image.width), bool)
            predictions.append(
                Prediction(
                    example.id,
                    evidence=tuple(hit.entry.id for hit in edit.evidence),
                    image=_to_base64(edit.image),
                    region=_to_base64(Image.fromarray(region)),
                )
            )
        return predictions

    def compute_scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        pairs = list(zip(examples, predictions, strict=True))
        scores: dict[str, Score] = {}
        with_mask = [(e.mask, p) for e, p in pairs if e.mask is not None]
        if with_mask:
            targets = [_binary(load_image(mask)) for mask, _ in with_mask]
            masks = [
                _decode_mask(prediction.region, target.shape)
                for (_, prediction), target in zip(with_mask, targets, strict=True)
            ]
            scores["mask-iou"] = mask_iou(masks, targets)
        with_image = [(e, p) for e, p in pairs if e.edited_image is not None]
        if with_image:
            scores |= _image_scores(with_image)
        return scores

    def _image(self, name: str | None) -> ImageSource | None:
        """Return the path of an image that a row names, relative to the task file."""
        if not name:
            return None
        return to_entry(Row(str(self.source), {"image": name}, self.source.parent)).image


def _image_scores(pairs: Sequence[tuple[Example, Prediction]]) -> dict[str, Score]:
    """Compare edited images with their references: as a whole, and inside and outside the region
    where reference and input differ (how well the rest was preserved)."""
    targets, edits, changes = [], [], []
    for example, prediction in pairs:
        assert example.image is not None  # a required key
        assert example.edited_image is not None
        target = load_image(example.edited_image)
        original = load_image(example.image).resize(target.size)
        targets.append(target)
        edits.append(_from_base64(prediction.image).resize(target.size))
        changes.append(_changed_pixels(original, target))
    scores = {
        "l1": image_l1(edits, targets),
        "l2": image_l2(edits, targets),
        "psnr": psnr(edits, targets),
        "ssim": ssim(edits, targets),
    }
    partial = [i for i, change in enumerate(changes) if change.any() and not change.all()]
    if partial:
        edits = [edits[i] for i in partial]
        targets = [targets[i] for i in partial]
        changes = [changes[i] for i in partial]
        scores["l1 inside"] = image_l1(edits, targets, changes, "inside")
        scores["l1 outside"] = image_l1(edits, targets, changes, "outside")
    return scores


def _changed_pixels(original: Image.Image, target: Image.Image) -> np.ndarray:
    difference = np.abs(np.asarray(original, np.int16) - np.asarray(target, np.int16))
    return difference.max(axis=2) > _CHANGE_THRESHOLD * 255  # (h, w)


def _to_base64(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _from_base64(text: str) -> Image.Image:
    return load_image(base64.b64decode(text))


def _decode_mask(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Decode a mask and scale it to `shape` (h, w)."""
    height, width = shape
    mask = _from_base64(text).convert("L")
    return _binary(mask.resize((width, height), Image.Resampling.NEAREST))


def _binary(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L")) > 127
