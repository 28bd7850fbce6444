"""Pictures as an image tower takes them: what a checkpoint's image processor of Transformers gives,
only sooner.

Transformers' processor copies a picture several times between Pillow and NumPy. Where it does no
more than resize, crop and normalise, that is done here in Pillow and in one pass over the batch,
and proved equal on two pictures when the encoder is loaded; any other processor is called itself.
Knows no tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Arrays = Mapping[str, np.ndarray]
"""A picture's inputs to the tower by name, without a batch axis."""
_SLACK = 1e-4  # of values around 1: float32 in another order of steps
# times as long as wide: of a thinner picture the middle is taken, or its enlarged form fills the
# memory
_LONGEST = 16


@dataclass(frozen=True)
class _Plan:
    """Resize, then crop the middle, then (pixel - mean) / deviation."""

    size: int | tuple[int, int]
    """The shorter edge, or (width, height) to squash to."""
    resample: int
    crop: tuple[int, int] | None
    """(width, height)"""
    mean: tuple[float, ...]
    """Of each channel, pixels being 0 to 255."""
    deviation: tuple[float, ...]

    def resized(self, image: Image.Image) -> Image.Image:
        size = self.size
        if isinstance(size, int):  # the arithmetic of Transformers, which rounds down
            width, height = image.size
            size = (
                (size, int(size * height / width))
                if width <= height
                else (int(size * width / height), size)
            )
        return image if image.size == size else image.resize(size, Image.Resampling(self.resample))

    def cropped(self, image: Image.Image) -> np.ndarray:
        """uint8 (height, width, 3)"""
        image = self.resized(image)
        if self.crop is not None and image.size != self.crop:
            left, top = (image.width - self.crop[0]) // 2, (image.height - self.crop[1]) // 2
            image = image.crop((left, top, left + self.crop[0], top + self.crop[1]))
        return np.asarray(image)


class Pixels:
    """`processor`: an image processor of Transformers, on its Pillow backend."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        size = getattr(processor, "size", None) or {}
        self._middle_only = bool(size.get("shortest_edge")) and not size.get("longest_edge")
        self._plan = _plan(processor)
        if self._plan is not None and not self._proved():
            self._plan = None
        inputs = self._processed(Image.new("RGB", (64, 64)))
        self.edge = round((inputs["pixel_values"].size / 3) ** 0.5)
        """Edge in pixels of what the tower looks at, of a square of so many pixels where there is
        no fixed one."""

    def shrunk(self, image: Image.Image) -> Image.Image:
        """A picture that gives the same arrays as `image` and is no larger."""
        image = self._middle(image)
        if self._plan is None:
            return image
        resized = self._plan.resized(image)
        return resized if resized.width * resized.height < image.width * image.height else image

    def arrays(self, image: Image.Image) -> Arrays:
        """One RGB picture, ready for `batches`. Work for a thread: Pillow lets others run
        meanwhile."""
        image = self._middle(image)
        if self._plan is None:
            return self._processed(image)
        return {"pixel_values": self._plan.cropped(image)}

    def batch(
        self, pictures: Sequence[Arrays], device: torch.device, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """The tower's inputs for pictures of like shapes, floating point values in `dtype`."""
        import torch

        batch = {
            key: torch.from_numpy(np.stack([p[key] for p in pictures])).to(device)
            for key in pictures[0]
        }
        if self._plan is not None:
            mean, deviation = (
                torch.tensor(x, device=device) for x in (self._plan.mean, self._plan.deviation)
            )
            batch["pixel_values"] = ((batch["pixel_values"] - mean) / deviation).permute(0, 3, 1, 2)
        return {key: x.to(dtype) if x.is_floating_point() else x for key, x in batch.items()}

    def _middle(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if not self._middle_only or max(width, height) <= _LONGEST * min(width, height):
            return image
        left, top = max(0, width - _LONGEST * height) // 2, max(0, height - _LONGEST * width) // 2
        return image.crop(
            (left, top, left + min(width, _LONGEST * height), top + min(height, _LONGEST * width))
        )

    def _processed(self, image: Image.Image) -> Arrays:
        found = self._processor(images=[image], return_tensors="np")
        return {key: np.asarray(value)[0] for key, value in found.items()}

    def _proved(self) -> bool:
        """Whether plan and processor agree on a wide and a high picture."""
        import torch

        random = np.random.default_rng(0)
        for height, width in ((91, 143), (301, 201)):
            image = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
            slow = self._processed(image)
            fast = self.batch([self.arrays(image)], torch.device("cpu"), torch.float32)[
                "pixel_values"
            ][0].numpy()
            if set(slow) != {"pixel_values"} or slow["pixel_values"].shape != fast.shape:
                return False
            if np.abs(slow["pixel_values"] - fast).max() > _SLACK:
                return False
        return True


def _plan(processor: Any) -> _Plan | None:
    """What the processor says it does, where that is resize, crop and normalise."""
    does = {
        key: getattr(processor, f"do_{key}", None)
        for key in ("resize", "rescale", "normalize", "center_crop")
    }
    size, crop = (getattr(processor, key, None) for key in ("size", "crop_size"))
    if not (does["resize"] and does["rescale"] and size):
        return None
    edge, width, height = (size.get(key) for key in ("shortest_edge", "width", "height"))
    if not (edge or (width and height)) or size.get("longest_edge"):
        return None
    mean, deviation = (
        (processor.image_mean, processor.image_std) if does["normalize"] else ([0.0] * 3, [1.0] * 3)
    )
    return _Plan(
        size=(width, height) if width and height else edge,
        resample=int(processor.resample),
        crop=(crop["width"], crop["height"]) if does["center_crop"] and crop else None,
        mean=tuple(x / processor.rescale_factor for x in mean),
        deviation=tuple(x / processor.rescale_factor for x in deviation),
    )
