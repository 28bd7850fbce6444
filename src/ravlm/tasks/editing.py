"""Editing: a picture is changed by an instruction; the reference is the edited picture or a mask of
the change."""

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

_CHANGED = 0.05
"""A pixel is changed where a channel differs by more than this share of its range."""


class Editing(Task):
    """Rows of `image`, `instruction`, and `edited_image`, `mask` (white where the picture should
    change) or both."""

    name: ClassVar[str] = "editing"
    needs: ClassVar[tuple[str, ...]] = ("image", "instruction")
    chief: ClassVar[str] = "mask-iou"

    def predict(
        self,
        model: RetrievalAugmentedVLM,
        examples: Sequence[Example],
        evidence: Sequence[Evidence] | None = None,
    ) -> list[Prediction]:
        found = []
        for place, example in enumerate(examples):
            assert example.image is not None  # the row has one: `needs`
            read = None if evidence is None else evidence[place]
            edit = model.edit(example.image, example.text, evidence=read)
            used = tuple(hit.entry.id for hit in edit.evidence)
            nowhere = np.zeros((edit.image.height, edit.image.width), bool)
            picture = _written(edit.image)
            region = _written(Image.fromarray(nowhere if edit.region is None else edit.region))
            found.append(Prediction(example.id, evidence=used, picture=picture, region=region))
        return found

    def _scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        scores: dict[str, Score] = {}
        masked = [
            (p, e.mask) for e, p in zip(examples, predictions, strict=True) if e.mask is not None
        ]
        if masked:
            right = [np.asarray(load_image(mask).convert("L")) > 127 for _, mask in masked]
            found = [_mask(p.region, m.shape) for (p, _), m in zip(masked, right, strict=True)]
            scores["mask-iou"] = mask_iou(found, right)
        edited = [
            (p, e) for e, p in zip(examples, predictions, strict=True) if e.edited_image is not None
        ]
        if edited:
            scores |= _compared(edited)
        return scores

    def _examples(self, values: Mapping[str, Any], example: Example) -> Iterator[Example]:
        edited, mask = self._picture(values.get("edited_image")), self._picture(values.get("mask"))
        if edited is None and mask is None:
            raise BrokenData(
                'The row has neither "edited_image" nor "mask"; editing needs one of them.'
            )
        yield replace(example, text=str(values["instruction"]), edited_image=edited, mask=mask)

    def _picture(self, name: str | None) -> ImageSource | None:
        if not name:
            return None
        return to_entry(Row(str(self.source), {"image": name}, self.source.parent)).image


def _compared(edited: Sequence[tuple[Prediction, Example]]) -> dict[str, Score]:
    """How near edits come to the pictures they should have given, and how far they left alone what
    should stay."""
    wanted = [load_image(e.edited_image) for _, e in edited if e.edited_image is not None]
    found = [_picture(p.picture).resize(w.size) for (p, _), w in zip(edited, wanted, strict=True)]
    begun = [load_image(e.image) for _, e in edited if e.image is not None]
    began = [picture.resize(w.size) for picture, w in zip(begun, wanted, strict=True)]
    changed = [_differs(one, other) for one, other in zip(began, wanted, strict=True)]
    some = [i for i, region in enumerate(changed) if region.any() and not region.all()]
    scores = {
        "l1": image_l1(found, wanted),
        "l2": image_l2(found, wanted),
        "psnr": psnr(found, wanted),
        "ssim": ssim(found, wanted),
    }
    if some:
        found, wanted, changed = ([each[i] for i in some] for each in (found, wanted, changed))  # type: ignore[assignment]
        scores["l1 inside"] = image_l1(found, wanted, changed, "inside")
        scores["l1 outside"] = image_l1(found, wanted, changed, "outside")
    return scores


def _differs(one: Image.Image, other: Image.Image) -> np.ndarray:
    difference = np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16))
    return difference.max(axis=2) > _CHANGED * 255


def _written(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _picture(text: str) -> Image.Image:
    return load_image(base64.b64decode(text))


def _mask(text: str, shape: tuple[int, ...]) -> np.ndarray:
    return (
        np.asarray(
            _picture(text).convert("L").resize((shape[1], shape[0]), Image.Resampling.NEAREST)
        )
        > 127
    )
