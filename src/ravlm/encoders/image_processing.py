"""Preprocess images for an image tower: the output of a checkpoint's image processor, only faster.

Transformers' processor copies an image several times between Pillow and NumPy. A processor that
only resizes, crops and normalizes is replaced by Pillow and one pass over the batch; equality is
checked on two images when the encoder is loaded. Any other processor is called as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ImageInputs = Mapping[str, np.ndarray]
"""Inputs of the tower for one image, by name, without a batch axis."""
_TOLERANCE = 1e-4  # of values around 1: float32 operations in another order
_MAX_ASPECT = 16
"""Thinner images are cropped to the middle: resized by the shorter edge, they fill the memory."""


@dataclass(frozen=True)
class ResizePlan:
    """Resize, then center crop, then (pixel - mean) / std."""

    size: int | tuple[int, int]
    """The shorter edge, or (width, height) regardless of the aspect ratio."""
    resample: int
    crop: tuple[int, int] | None
    """(width, height)"""
    mean: tuple[float, ...]
    """One value per channel, for pixels of 0 to 255."""
    std: tuple[float, ...]

    def resize(self, image: Image.Image) -> Image.Image:
        size = self._target_size(*image.size)
        return image if image.size == size else image.resize(size, Image.Resampling(self.resample))

    def _target_size(self, width: int, height: int) -> tuple[int, int]:
        size = self.size
        if not isinstance(size, int):
            return size
        if width <= height:  # Transformers rounds the longer edge down
            return size, int(size * height / width)
        return int(size * width / height), size

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return the resized and cropped image as uint8 (height, width, 3)."""
        image = self.resize(image)
        if self.crop is not None and image.size != self.crop:
            width, height = self.crop
            left = (image.width - width) // 2
            top = (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        return np.asarray(image)


class ImageProcessor:
    """Wraps an image processor of Transformers (with its Pillow backend)."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        size = getattr(processor, "size", None) or {}
        self._crops_thin_images = bool(size.get("shortest_edge")) and not size.get("longest_edge")
        self._plan = _resize_plan(processor)
        if self._plan is not None and not self._plan_is_exact():
            self._plan = None
        inputs = self._run_processor(Image.new("RGB", (64, 64)))
        self.edge = round((inputs["pixel_values"].size / 3) ** 0.5)
        """Image edge in pixels; of a square with as many pixels where the size varies."""

    def shrink(self, image: Image.Image) -> Image.Image:
        """Return an image that gives the same inputs as `image` and is no larger."""
        image = self._crop_thin(image)
        if self._plan is None:
            return image
        resized = self._plan.resize(image)
        return resized if resized.width * resized.height < image.width * image.height else image

    def preprocess(self, image: Image.Image) -> ImageInputs:
        """Prepare one RGB image for `collate`. Runs well in threads: Pillow releases the GIL."""
        image = self._crop_thin(image)
        if self._plan is None:
            return self._run_processor(image)
        return {"pixel_values": self._plan.pixels(image)}

    def collate(
        self, images: Sequence[ImageInputs], device: torch.device, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Stack images of equal shapes into the tower's inputs, with floats in `dtype`."""
        import torch

        batch = {
            key: torch.from_numpy(np.stack([inputs[key] for inputs in images])).to(device)
            for key in images[0]
        }
        if self._plan is not None:
            mean = torch.tensor(self._plan.mean, device=device)
            std = torch.tensor(self._plan.std, device=device)
            pixels = batch["pixel_values"]  # (n, height, width, 3)
            batch["pixel_values"] = ((pixels - mean) / std).permute(0, 3, 1, 2)
        return {key: x.to(dtype) if x.is_floating_point() else x for key, x in batch.items()}

    def _crop_thin(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if not self._crops_thin_images or max(width, height) <= _MAX_ASPECT * min(width, height):
            return image
        new_width = min(width, _MAX_ASPECT * height)
        new_height = min(height, _MAX_ASPECT * width)
        left = (width - new_width) // 2
        top = (height - new_height) // 2
        return image.crop((left, top, left + new_width, top + new_height))

    def _run_processor(self, image: Image.Image) -> ImageInputs:
        inputs = self._processor(images=[image], return_tensors="pt")  # timm's give nothing else
        return {key: np.asarray(value)[0] for key, value in inputs.items()}

    def _plan_is_exact(self) -> bool:
        """Compare the plan with the processor on a wide and on a tall image."""
        import torch

        random = np.random.default_rng(0)
        for height, width in ((91, 143), (301, 201)):
            image = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
            expected = self._run_processor(image)
            batch = self.collate([self.preprocess(image)], torch.device("cpu"), torch.float32)
            pixels = batch["pixel_values"][0].numpy()
            if set(expected) != {"pixel_values"} or expected["pixel_values"].shape != pixels.shape:
                return False
            if np.abs(expected["pixel_values"] - pixels).max() > _TOLERANCE:
                return False
        return True


def _resize_plan(processor: Any) -> ResizePlan | None:
    """Read the plan from the processor's settings; None if it does more than resize, crop and
    normalize."""
    size = getattr(processor, "size", None)
    crop = getattr(processor, "crop_size", None) if _does(processor, "center_crop") else None
    if not (_does(processor, "resize") and _does(processor, "rescale") and size):
        return None
    edge, width, height = (size.get(key) for key in ("shortest_edge", "width", "height"))
    if not (edge or (width and height)) or size.get("longest_edge"):
        return None
    normalizes = _does(processor, "normalize")
    mean = processor.image_mean if normalizes else [0.0] * 3
    std = processor.image_std if normalizes else [1.0] * 3
    return ResizePlan(
        size=(width, height) if width and height else edge,
        resample=int(processor.resample),
        crop=(crop["width"], crop["height"]) if crop else None,
        mean=tuple(x / processor.rescale_factor for x in mean),
        std=tuple(x / processor.rescale_factor for x in std),
    )


def _does(processor: Any, step: str) -> bool:
    return bool(getattr(processor, f"do_{step}", None))
