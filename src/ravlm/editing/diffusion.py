"""Editor that runs a diffusers pipeline: InstructPix2Pix, Flux Kontext, Qwen-Image-Edit and others.

Any pipeline that edits an image by a prompt, by folder or hub name. Retrieved images are passed on
to pipelines that take several. No code of a checkpoint is run, and weights must be safetensors. The
region of an edit is read off the pixels that changed.
"""

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
from ravlm.editing.base import Editor, EditRequest, unchanged
from ravlm.editing.resize import downscale
from ravlm.encoders.hub_files import find_folder
from ravlm.errors import InvalidInput, Mismatch, MissingExtra, RavlmError
from ravlm.records import Edit, Hit

MULTI_IMAGE_ARGUMENTS: dict[str, str] = {
    "QwenImageEditPlusPipeline": "image",
    "Flux2Pipeline": "image",
    "Flux2KleinPipeline": "image",
    "OmniGenPipeline": "input_images",
}
"""Pipelines that take several images -> the argument for them; the image to edit comes first."""
MIN_CHANGE = 0.05 * 255
"""A pixel belongs to the region if one of its channels changes by more than this."""
SIDE_MULTIPLE = 32
"""The sides of an image that a pipeline works on are multiples of this."""


@dataclass(frozen=True)
class DiffusionOptions:
    """Options of a pipeline run. None keeps the pipeline's default.

    Raises InvalidInput for values out of range.
    """

    steps: int = 20
    strength: float | None = None
    """How far the result may move from the input, 0 to 1. Not every pipeline takes it."""
    guidance_scale: float | None = None
    """How closely the instruction is followed."""
    image_guidance_scale: float | None = None
    """How closely the input image is followed (InstructPix2Pix)."""
    max_side: int = 768
    """Longer side in pixels of the image the pipeline works on. The result is scaled back."""
    max_references: int = 2
    """Maximum number of retrieved images passed to a pipeline that takes several."""

    def __post_init__(self) -> None:
        limits = {
            "steps": (1, 1000),
            "max_side": (SIDE_MULTIPLE, 4096),
            "max_references": (0, 16),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidInput(f"{name} is {getattr(self, name)}; allowed: {low} to {high}.")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise InvalidInput(f"strength is {self.strength}; allowed: above 0, up to 1.")


class DiffusionEditor(Editor):
    """A diffusers pipeline.

    `progress(step, steps)` is called after each step, and so is `preview(image)` with the decoded
    intermediate image, if the pipeline exposes its latents.
    """

    def __init__(
        self,
        name: str | os.PathLike[str],
        options: DiffusionOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
        preview: Callable[[Image.Image], None] | None = None,
    ) -> None:
        self.name = str(name)
        self.options = options or DiffusionOptions()
        self._progress = progress
        self._preview = preview

    @cached_property
    def pipeline(self) -> Any:
        """The loaded pipeline.

        Raises MissingExtra, NotFound, or Mismatch for one that does not edit images.
        """
        try:
            from diffusers import DiffusionPipeline
        except ImportError:
            raise MissingExtra("diffusers", "edit", f'The editor "{self.name}"') from None
        folder = find_folder(self.name)
        if not (folder / "model_index.json").is_file():
            raise Mismatch(
                f'"{self.name}" is not a diffusers pipeline: it has no model_index.json.'
            )
        device = runtime.device()
        try:
            pipeline = DiffusionPipeline.from_pretrained(
                str(folder),
                dtype=runtime.inference_dtype(device),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise Mismatch(
                f'The pipeline "{self.name}" can\'t be loaded: {reason.rstrip(".")}.'
            ) from None
        if not _edits_by_prompt(pipeline):
            raise Mismatch(
                f'"{self.name}" is a {type(pipeline).__name__}, which does not edit an image by a '
                "prompt. Use one that does, such as an InstructPix2Pix."
            )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(device)

    @property
    def _multi_image_argument(self) -> str | None:
        """The argument for several images; None if the pipeline takes one."""
        return MULTI_IMAGE_ARGUMENTS.get(type(self.pipeline).__name__)

    def retrieval_query(self, instruction: str) -> str:
        if self.options.max_references and self._multi_image_argument:
            return instruction
        return ""

    def edit(self, request: EditRequest) -> Edit:
        image = load_image(request.image, mode="keep_alpha")
        before = image.convert("RGB")
        references = self._references(request.evidence)
        after = self._run(before, references, request).resize(image.size, Image.Resampling.LANCZOS)
        change = np.abs(np.asarray(after, np.int16) - np.asarray(before, np.int16)).max(axis=2)
        pipeline = type(self.pipeline).__name__
        if not change.any():
            return unchanged(
                request, f"The pipeline {pipeline} changed nothing. Rephrase the instruction."
            )
        if image.mode == "RGBA":
            after.putalpha(image.getchannel("A"))
        message = f'Passed unchanged to {pipeline} ("{self.name}"): {request.instruction}'
        return Edit(after, change > MIN_CHANGE, references, message)

    def _references(self, evidence: tuple[Hit, ...]) -> tuple[Hit, ...]:
        """Return the retrieved entries whose images the pipeline gets."""
        if self._multi_image_argument is None:
            return ()
        hits = [hit for hit in evidence if hit.entry.image is not None]
        return tuple(hits[: self.options.max_references])

    def _run(
        self, image: Image.Image, references: tuple[Hit, ...], request: EditRequest
    ) -> Image.Image:
        import torch

        small = _fit(image, self.options.max_side)
        images: Any = small
        if self._multi_image_argument:
            examples = filter(None, map(_example_image, references))
            images = [small, *(_fit(example, self.options.max_side) for example in examples)]
        arguments = self._arguments(small, request.seed)
        arguments[self._multi_image_argument or "image"] = images
        with torch.no_grad():
            output = self.pipeline(prompt=request.instruction, **arguments)
        return output.images[0].convert("RGB")

    def _arguments(self, small: Image.Image, seed: int) -> dict[str, Any]:
        """Return the options that are set and that this pipeline takes."""
        import torch

        options = self.options
        arguments = {
            "num_inference_steps": options.steps,
            "strength": options.strength,
            "guidance_scale": options.guidance_scale,
            "image_guidance_scale": options.image_guidance_scale,
            "height": small.height,
            "width": small.width,
            "generator": torch.Generator("cpu").manual_seed(seed),
            "callback_on_step_end": self._after_step if self._progress or self._preview else None,
        }
        parameters = _parameters(self.pipeline)
        if options.strength is not None and "strength" not in parameters:
            raise InvalidInput(
                f"{type(self.pipeline).__name__} takes no strength. Leave it at None."
            )
        return {
            name: value
            for name, value in arguments.items()
            if value is not None and name in parameters
        }

    def _after_step(
        self, pipeline: Any, step: int, time: Any, values: dict[str, Any]
    ) -> dict[str, Any]:
        if self._progress:
            self._progress(step + 1, pipeline.num_timesteps)
        latents = values.get("latents")
        if self._preview and latents is not None and latents.ndim == 4:
            scaled = latents / pipeline.vae.config.scaling_factor
            decoded = pipeline.vae.decode(scaled, return_dict=False)[0].detach()
            self._preview(pipeline.image_processor.postprocess(decoded, output_type="pil")[0])
        return values


def _parameters(pipeline: Any) -> set[str]:
    return set(inspect.signature(type(pipeline).__call__).parameters)


def _edits_by_prompt(pipeline: Any) -> bool:
    parameters = _parameters(pipeline)
    takes_image = bool({"image", "input_images"} & parameters)
    return "prompt" in parameters and "mask_image" not in parameters and takes_image


def _example_image(hit: Hit) -> Image.Image | None:
    """Return the image of a hit, None if it has none that can be read."""
    if hit.entry.image is None:
        return None
    try:
        return load_image(hit.entry.image)
    except RavlmError:
        return None


def _fit(image: Image.Image, max_side: int) -> Image.Image:
    """Scale `image` to at most `max_side`, with sides that are multiples of `SIDE_MULTIPLE`."""
    small = downscale(image, max_side)
    width, height = (
        max(SIDE_MULTIPLE, side // SIDE_MULTIPLE * SIDE_MULTIPLE) for side in small.size
    )
    return small.resize((width, height))
