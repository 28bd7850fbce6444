"""Editors of diffusers: any pipeline that changes a picture by an instruction, by folder or hub
name.

InstructPix2Pix, Flux Kontext, Qwen-Image-Edit and their like. Retrieved pictures go along where the
pipeline takes more than one. Nothing of a checkpoint is run, and weights must be safetensors. Knows
no regions: what was changed is read off."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from ravlm import runtime
from ravlm.data.images import load_image
from ravlm.editing.base import Editor, EditRequest, refused
from ravlm.editing.rule_based.mask_refinement import reduced
from ravlm.encoders.hub_files import find_folder
from ravlm.errors import InvalidInput, Mismatch, MissingExtra
from ravlm.records import Edit, Hit

MANY: dict[str, str] = {
    "QwenImageEditPlusPipeline": "image",
    "Flux2Pipeline": "image",
    "Flux2KleinPipeline": "image",
    "OmniGenPipeline": "input_images",
}
"""Pipelines that take several pictures, the one to change first, and by which argument."""
_CHANGED = 0.05
"""A pixel is changed where a channel differs by more than this share of its range."""
_MULTIPLE = 32
"""Sides of what a pipeline works on are multiples of this."""


@dataclass(frozen=True)
class DiffusionOptions:
    """How a pipeline is run. None leaves a value to the pipeline."""

    steps: int = 20
    strength: float | None = None
    """How far from the picture it may go, 0 to 1; only for pipelines that take it."""
    guidance: float | None = None
    """How strictly the instruction is followed."""
    faithfulness: float | None = None
    """How strictly the picture is kept (InstructPix2Pix's `image_guidance_scale`)."""
    edge: int = 768
    """Longer side in pixels of what it works on; the result is brought back to the picture's
    size."""
    references: int = 2
    """Retrieved pictures that go along, at most, where the pipeline takes some."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 1000),
            ("edge", _MULTIPLE, 4096),
            ("references", 0, 16),
        ):
            if not low <= getattr(self, name) <= high:
                raise InvalidInput(f"{name} is {getattr(self, name)}; allowed: {low} to {high}.")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise InvalidInput(f"strength is {self.strength}; allowed: above 0, to 1.")


class DiffusionEditor(Editor):
    """A pipeline of diffusers. `progress(done, steps)` is called after each step, and
    `preview(image)`, where it is given and the pipeline's state can be looked at, with the picture
    as it is then."""

    def __init__(
        self,
        name: str | os.PathLike[str],
        options: DiffusionOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[Image.Image], None] | None = None,
    ) -> None:
        self.name, self.options = str(name), options or DiffusionOptions()
        self._progress, self._preview = progress, preview

    @cached_property
    def pipeline(self) -> Any:
        """The pipeline, loaded. Raises MissingExtra, NotFound, or Mismatch for one that does not
        edit."""
        try:
            from diffusers import DiffusionPipeline
        except ImportError:
            raise MissingExtra("diffusers", "edit", f'The editor "{self.name}"') from None
        folder, device = find_folder(self.name), runtime.device()
        if not (folder / "model_index.json").is_file():
            raise Mismatch(
                f'"{self.name}" is no pipeline of diffusers: there is no model_index.json in it.'
            )
        try:
            loaded = DiffusionPipeline.from_pretrained(
                str(folder),
                dtype=runtime.inference_dtype(device),
                local_files_only=True,
                use_safetensors=True,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise Mismatch(
                f'The pipeline "{self.name}" can\'t be loaded: {reason.rstrip(".")}.'
            ) from None
        takes = inspect.signature(type(loaded).__call__).parameters
        if (
            "prompt" not in takes
            or "mask_image" in takes
            or not {"image", "input_images"} & set(takes)
        ):
            raise Mismatch(
                f'"{self.name}" is a {type(loaded).__name__}, which does not change a picture by words; take one that '
                "does, an InstructPix2Pix say."
            )
        loaded.set_progress_bar_config(disable=True)
        return loaded.to(device)

    def wanted(self, instruction: str) -> str:
        return (
            instruction if self.options.references and type(self.pipeline).__name__ in MANY else ""
        )

    def edit(self, request: EditRequest) -> Edit:
        import torch

        image = load_image(request.image, form="alpha")
        colours = image.convert("RGB")
        small = _fitting(colours, self.options.edge)
        argument = MANY.get(type(self.pipeline).__name__)
        shown = [hit for hit in request.evidence if hit.entry.image is not None] if argument else []
        used = tuple(shown[: self.options.references])
        given = (
            [small, *(_fitting(_picture(hit), self.options.edge) for hit in used)]
            if argument
            else small
        )
        with torch.no_grad():
            made = self.pipeline(
                **{argument or "image": given},
                **self._settings(small, request.seed),
                prompt=request.instruction,
            ).images[0]
        after = made.convert("RGB").resize(image.size, Image.Resampling.LANCZOS)
        difference = np.abs(np.asarray(after, np.int16) - np.asarray(colours, np.int16)).max(axis=2)
        if not difference.any():
            sentence = f"The pipeline {type(self.pipeline).__name__} changed nothing; say it in other words."
            return refused(request, sentence)
        if image.mode == "RGBA":
            after.putalpha(image.getchannel("A"))
        sentence = f'Given as it stands to {type(self.pipeline).__name__} of "{self.name}": {request.instruction}'
        return Edit(after, difference > _CHANGED * 255, used, sentence)

    def _settings(self, small: Image.Image, seed: int) -> dict[str, Any]:
        """The arguments that this pipeline takes, of those that are set."""
        import torch

        o = self.options
        wished = {
            "num_inference_steps": o.steps,
            "strength": o.strength,
            "guidance_scale": o.guidance,
            "image_guidance_scale": o.faithfulness,
            "height": small.height,
            "width": small.width,
            "generator": torch.Generator("cpu").manual_seed(seed),
            "callback_on_step_end": self._after_step if self._progress or self._preview else None,
        }
        takes = inspect.signature(type(self.pipeline).__call__).parameters
        if o.strength is not None and "strength" not in takes:
            raise InvalidInput(
                f"{type(self.pipeline).__name__} takes no strength; leave it at None."
            )
        return {
            name: value for name, value in wished.items() if value is not None and name in takes
        }

    def _after_step(
        self, pipeline: Any, step: int, time: Any, values: dict[str, Any]
    ) -> dict[str, Any]:
        if self._progress:
            self._progress(step + 1, pipeline.num_timesteps)
        latents = values.get("latents")
        if self._preview and latents is not None and latents.ndim == 4:
            decoded = pipeline.vae.decode(
                latents / pipeline.vae.config.scaling_factor, return_dict=False
            )[0]
            self._preview(
                pipeline.image_processor.postprocess(decoded.detach(), output_type="pil")[0]
            )
        return values


def _fitting(image: Image.Image, edge: int) -> Image.Image:
    """`image` no longer than `edge`, its sides multiples of what pipelines take."""
    small = reduced(image, edge)
    width, height = (max(_MULTIPLE, side // _MULTIPLE * _MULTIPLE) for side in small.size)
    return small.resize((width, height))


def _picture(hit: Hit) -> Image.Image:
    assert hit.entry.image is not None  # those without were left out
    return load_image(hit.entry.image)
