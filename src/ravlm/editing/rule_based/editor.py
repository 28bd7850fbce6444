"""The offline editor: rules parse the instruction, the starter's networks find the regions.

It runs on the CPU in seconds. It changes color, light and sharpness, crops and cuts out, and draws
nothing new. For "like a sunset" it takes colors from the same region of a retrieved image.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from PIL import Image

from ravlm.data.images import load_image
from ravlm.editing.base import Editor, EditRequest, unchanged
from ravlm.editing.resize import downscale, resize_map
from ravlm.editing.rule_based import messages, operations
from ravlm.editing.rule_based.instruction_parser import parse
from ravlm.editing.rule_based.lexicon import BACKGROUND, COLORS, WHOLE_IMAGE
from ravlm.editing.rule_based.mask_refinement import WORKING_SIDE, upscale_mask
from ravlm.editing.rule_based.oklab import to_oklab
from ravlm.editing.rule_based.operations import Operation, Palette
from ravlm.editing.rule_based.segmentation import Scene, Segmenter
from ravlm.editing.rule_based.starter_segmenter import StarterSegmenter
from ravlm.editing.rule_based.steps import EditStep, ParsedInstruction
from ravlm.errors import RavlmError
from ravlm.records import Edit, Hit

FOREGROUND = ("person", "dog")
"""Words for what may stand in front of a background."""
_MIN_EXAMPLE_AREA = 0.04
"""Share of a retrieved image that the region must cover to lend its colors."""
_CROP_MARGIN = 0.04
"""Margin of a crop, as a share of the longer side."""


class _StepFailedError(Exception):
    """A step can't be carried out on this image. The message is for the user."""


class RuleBasedEditor(Editor):
    """The built-in editor, "local". `segmenter` finds the regions (default: the starter's).

    edit = RuleBasedEditor().edit(EditRequest("harbor.jpg", "make the sky blue"))
    edit.image.save("blue.png")
    """

    name = "local"

    def __init__(self, segmenter: Segmenter | None = None) -> None:
        self.segmenter = segmenter or StarterSegmenter()

    def retrieval_query(self, instruction: str) -> str:
        steps = [step for step in parse(instruction).steps if step.action == "like"]
        return f"{steps[0].value} {steps[0].name}".strip() if steps else ""

    def edit(self, request: EditRequest) -> Edit:
        instruction = parse(request.instruction)
        if instruction.problem:
            return unchanged(request, instruction.problem)
        image = load_image(request.image, mode="keep_alpha")
        canvas = _Canvas(image, request.evidence, self.segmenter, instruction)
        try:
            for step in instruction.steps:
                canvas.apply(step)
        except _StepFailedError as failure:
            return unchanged(request, str(failure))
        return canvas.result()


class _Canvas:
    """An image while it is edited."""

    def __init__(
        self,
        image: Image.Image,
        evidence: tuple[Hit, ...],
        segmenter: Segmenter,
        instruction: ParsedInstruction,
    ) -> None:
        self._original = image.convert("RGB")
        self._image = self._original
        self._alpha = image.getchannel("A") if image.mode == "RGBA" else None
        self._hits = evidence
        self._segmenter = segmenter
        self._instruction = instruction
        self._examples: list[Hit] = []
        self._masks: dict[str, np.ndarray] = {}
        self._crop_box: tuple[int, int, int, int] | None = None
        self._region = np.zeros((image.height, image.width), bool)

    @cached_property
    def _scene(self) -> Scene:
        return self._segmenter.analyze(self._original)

    def apply(self, step: EditStep) -> None:
        """Carry out a step. Raises _StepFailedError if image or evidence lack what it needs."""
        mask = self._mask(step)
        self._region |= mask >= 128
        if step.action == "crop":
            self._crop_box = _bounding_box(mask)
        elif step.action == "cut out":
            self._cut_out(mask)
        elif step.action == "blur":
            self._image = operations.blur(self._image, mask, step.amount)
        elif step.action == "sharpen":
            self._image = operations.sharpen(self._image, mask, step.amount)
        else:
            operation = self._operation(step, mask)
            levels = operations.PALETTE_LEVELS if step.action == "like" else 1
            self._image = operations.apply_operation(self._image, mask, operation, levels)

    def result(self) -> Edit:
        """Return the edit so far."""
        image = self._image
        if self._alpha is not None:
            image = image.copy()
            image.putalpha(self._alpha)
        if self._crop_box is not None:
            image = image.crop(self._crop_box)
        summary = messages.summarize(self._instruction.steps, self._instruction.chinese)
        return Edit(image, self._region, tuple(self._examples), summary)

    def _cut_out(self, mask: np.ndarray) -> None:
        alpha = mask
        if self._alpha is not None:
            alpha = np.asarray(self._alpha).astype(np.uint16) * mask // 255
        self._alpha = Image.fromarray(alpha.astype(np.uint8))

    def _operation(self, step: EditStep, mask: np.ndarray) -> Operation:
        """Return the color operation of a step."""
        if step.action == "color":
            return operations.recolor(COLORS[step.value], step.shade, self._median(mask))
        if step.action == "like":
            region = operations.measure_palette(*self._working_copy(mask))
            return operations.match_palette(region, self._example_palette(step))
        amount = step.amount
        return {
            "brighter": lambda: operations.lighten(amount),
            "darker": lambda: operations.lighten(-amount),
            "warmer": lambda: operations.warm(amount),
            "colder": lambda: operations.warm(-amount),
            "more saturated": lambda: operations.saturate(1 + 0.5 * amount),
            "less saturated": lambda: operations.saturate(max(0.0, 1 - 0.5 * amount)),
            "black and white": lambda: operations.saturate(0.0),
        }[step.action]()

    def _working_copy(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a downscaled copy in OKLab (h, w, 3), and the region in it, bool (h, w)."""
        small = downscale(self._image, WORKING_SIDE)
        region = resize_map(mask, small.size) >= 128
        return to_oklab(np.asarray(small)), region if region.any() else np.ones_like(region)

    def _median(self, mask: np.ndarray) -> np.ndarray:
        """Return median lightness and chroma of a region, (2,)."""
        lab, region = self._working_copy(mask)
        colors = lab[region]
        chroma = np.hypot(colors[:, 1], colors[:, 2])
        return np.array([np.median(colors[:, 0]), np.median(chroma)])

    def _mask(self, step: EditStep) -> np.ndarray:
        """Return the mask of a step's target: uint8 (height, width)."""
        if step.target not in self._masks:
            mask = self._find_mask(step)
            if not (mask >= 128).any():
                raise self._not_visible(step)
            self._masks[step.target] = mask
        return self._masks[step.target]

    def _find_mask(self, step: EditStep) -> np.ndarray:
        chinese = self._instruction.chinese
        if step.target == WHOLE_IMAGE:
            if step.action in ("crop", "cut out"):
                raise _StepFailedError(messages.no_target(step, chinese))
            return np.full(self._region.shape, 255, np.uint8)
        if step.target == BACKGROUND:
            maps = map(self._scene.find, self._foreground_words())
            foreground = [probability for probability in maps if probability is not None]
            if not foreground:
                raise _StepFailedError(messages.no_subject(chinese))
            return 255 - upscale_mask(np.maximum.reduce(foreground), self._original)
        probability = self._scene.find(step.target)
        if probability is None:
            raise self._not_visible(step)
        return upscale_mask(probability, self._original)

    def _not_visible(self, step: EditStep) -> _StepFailedError:
        visible = self._scene.visible_words()
        return _StepFailedError(messages.not_visible(step, visible, self._instruction.chinese))

    def _foreground_words(self) -> list[str]:
        """Return words for everything but the background: what the instruction names, too."""
        targets = [step.target for step in self._instruction.steps]
        things = [target for target in targets if target not in (WHOLE_IMAGE, BACKGROUND)]
        return list(dict.fromkeys((*FOREGROUND, *things)))

    def _example_palette(self, step: EditStep) -> Palette:
        """Return the palette of the retrieved image that agrees most with the other ones."""
        palettes = [(hit, self._hit_palette(hit, step.target)) for hit in self._hits]
        examples = [(hit, palette) for hit, palette in palettes if palette is not None]
        if not examples:
            raise _StepFailedError(
                messages.no_example(step, len(self._hits), self._instruction.chinese)
            )
        means = np.stack([palette.mean.ravel() for _, palette in examples])
        distances = np.linalg.norm(means[:, None] - means[None], axis=-1).sum(axis=1)
        order = np.argsort(distances, kind="stable")
        self._examples += [examples[index][0] for index in order]
        return examples[order[0]][1]

    def _hit_palette(self, hit: Hit, target: str) -> Palette | None:
        """Return the palette of `target` in a retrieved image.

        None if it does not show the target, or can't be read.
        """
        if hit.entry.image is None:
            return None
        try:
            image = load_image(hit.entry.image, edge=WORKING_SIDE)
        except RavlmError:
            return None  # the other images may be there
        small = downscale(image, WORKING_SIDE)
        region = np.ones((small.height, small.width), bool)
        if target not in (WHOLE_IMAGE, BACKGROUND):
            probability = self._segmenter.analyze(image).find(target)
            if probability is None:
                return None
            region = resize_map(probability, small.size) > 0.6
        if region.mean() < _MIN_EXAMPLE_AREA:
            return None
        return operations.measure_palette(to_oklab(np.asarray(small)), region)


def _bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a mask, with a margin."""
    height, width = mask.shape
    rows = np.flatnonzero((mask >= 128).any(axis=1))
    columns = np.flatnonzero((mask >= 128).any(axis=0))
    margin = round(_CROP_MARGIN * max(height, width))
    left = max(0, int(columns[0]) - margin)
    top = max(0, int(rows[0]) - margin)
    right = min(width, int(columns[-1]) + margin + 1)
    bottom = min(height, int(rows[-1]) + margin + 1)
    return left, top, right, bottom
