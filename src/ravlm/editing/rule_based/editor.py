"""The local editor: instructions read by rules, regions found by the starter's networks, colours
moved in OKLab.

Offline, on the processor, in seconds. It changes colour, light and sharpness, crops and cuts out;
it draws nothing new. What is asked for "like" something takes its colours from the same region of a
retrieved picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from PIL import Image

from ravlm.data.images import load_image
from ravlm.editing.base import Editor, EditRequest, everywhere, refused
from ravlm.editing.rule_based import operations
from ravlm.editing.rule_based.instruction_parser import POSSIBLE, Step, Understood, parse
from ravlm.editing.rule_based.lexicon import BACKGROUND, COLOURS, NAMES, WHOLE
from ravlm.editing.rule_based.mask_refinement import WORKING, enlarged, reduced, resized
from ravlm.editing.rule_based.oklab import to_oklab
from ravlm.editing.segmentation import Scene, Segmenter, StarterSegmenter
from ravlm.errors import BrokenData, NotFound
from ravlm.records import Edit, Hit

SUBJECTS = ("person", "dog")
"""Who or what stands before a background."""
_LEAST_EXAMPLE = 0.04
"""Share of a retrieved picture that the region must fill to lend its colours."""
_BORDER = 0.04
"""What a crop leaves around its thing, as a share of the longer side."""


class _Missing(Exception):
    """A step can't be carried out on this picture; the message says why."""


class LocalEditor(Editor):
    """See the module's docstring. `segmenter` finds the regions; the starter's, if none is
    given."""

    name = "local"

    def __init__(self, segmenter: Segmenter | None = None) -> None:
        self.segmenter = segmenter or StarterSegmenter()

    def wanted(self, instruction: str) -> str:
        steps = [step for step in parse(instruction).steps if step.action == "like"]
        return f"{steps[0].value} {steps[0].name}".strip() if steps else ""

    def edit(self, request: EditRequest) -> Edit:
        understood = parse(request.instruction)
        if understood.problem:
            return refused(request, understood.problem)
        work = _Work(
            load_image(request.image, form="alpha"), request.evidence, self.segmenter, understood
        )
        try:
            for step in understood.steps:
                work.do(step)
        except _Missing as missing:
            return refused(request, str(missing))
        return work.result()


class _Work:
    """One picture while it is edited."""

    def __init__(
        self,
        image: Image.Image,
        evidence: tuple[Hit, ...],
        segmenter: Segmenter,
        understood: Understood,
    ) -> None:
        self._alpha = image.getchannel("A") if image.mode == "RGBA" else None
        self._image = image.convert("RGB")
        self._begun = self._image
        self._hits, self._segmenter, self._understood = evidence, segmenter, understood
        self._used: list[Hit] = []
        self._masks: dict[str, np.ndarray] = {}
        self._crop: tuple[int, int, int, int] | None = None
        self._region = np.zeros((image.height, image.width), bool)

    @cached_property
    def _scene(self) -> Scene:
        return self._segmenter.look(self._begun)

    def do(self, step: Step) -> None:
        """Carry out a step. Raises _Missing where the picture or the evidence lacks what it
        needs."""
        mask = self._mask(step)
        self._region |= mask >= 128
        if step.action == "crop":
            self._crop = _box(mask)
        elif step.action == "cut out":
            held = (
                mask
                if self._alpha is None
                else np.asarray(self._alpha).astype(np.uint16) * mask // 255
            )
            self._alpha = Image.fromarray(held.astype(np.uint8))
        elif step.action == "blur":
            self._image = operations.blurred(self._image, mask, step.amount)
        elif step.action == "sharpen":
            self._image = operations.sharpened(self._image, mask, step.amount)
        else:
            operation = self._operation(step, mask)
            levels = operations.LEVELS if step.action == "like" else 1
            self._image = operations.changed(self._image, mask, operation, levels)

    def result(self) -> Edit:
        """The picture as it is now."""
        image = self._image
        if self._alpha is not None:
            image = image.copy()
            image.putalpha(self._alpha)
        if self._crop is not None:
            image = image.crop(self._crop)
        return Edit(image, self._region, tuple(self._used), self._understood.sentence)

    def _operation(self, step: Step, mask: np.ndarray) -> operations.Operation:
        """What a step does to colours."""
        if step.action == "colour":
            return operations.recolour(COLOURS[step.value], step.shade, self._median(mask))
        if step.action == "like":
            return operations.like(operations.palette(*self._small(mask)), self._example(step))
        strength = step.amount
        return {
            "brighter": lambda: operations.lighten(strength),
            "darker": lambda: operations.lighten(-strength),
            "warmer": lambda: operations.warm(strength),
            "colder": lambda: operations.warm(-strength),
            "more saturated": lambda: operations.saturate(1 + 0.5 * strength),
            "less saturated": lambda: operations.saturate(max(0.0, 1 - 0.5 * strength)),
            "black and white": lambda: operations.saturate(0.0),
        }[step.action]()

    def _small(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A reduced copy in OKLab, and which of its pixels are in the region."""
        small = reduced(self._image)
        inside = resized(mask, small.size) >= 128
        return to_oklab(np.asarray(small)), inside if inside.any() else np.ones_like(inside)

    def _median(self, mask: np.ndarray) -> np.ndarray:
        lab, inside = self._small(mask)
        colours = lab[inside]
        return np.array(
            [np.median(colours[:, 0]), np.median(np.hypot(colours[:, 1], colours[:, 2]))]
        )

    def _mask(self, step: Step) -> np.ndarray:
        """Where a step works: 0 to 255, (height, width)."""
        target, chinese = step.target, self._understood.chinese
        if target not in self._masks:
            if target == WHOLE:
                if step.action in ("crop", "cut out"):
                    raise _Missing(_to_what(step, chinese))
                mask = everywhere(self._begun).astype(np.uint8) * 255
            elif target == BACKGROUND:
                found = [
                    share for share in map(self._scene.find, self._before()) if share is not None
                ]
                if not found:
                    raise _Missing(_no_subject(chinese))
                mask = 255 - enlarged(np.maximum.reduce(found), self._begun)
            else:
                share = self._scene.find(target)
                if share is None:
                    raise _Missing(_not_there(step, self._scene.seen(), chinese))
                mask = enlarged(share, self._begun)
            if not (mask >= 128).any():
                raise _Missing(_not_there(step, self._scene.seen(), chinese))
            self._masks[target] = mask
        return self._masks[target]

    def _before(self) -> list[str]:
        """What stands before the background: its subjects, and each thing that the instruction
        names beside it."""
        named = [
            step.target for step in self._understood.steps if step.target not in (WHOLE, BACKGROUND)
        ]
        return list(dict.fromkeys((*SUBJECTS, *named)))

    def _example(self, step: Step) -> operations.Palette:
        """The colours of the step's region in the retrieved picture that agrees most with the
        others that show it."""
        found = [
            (hit, colours)
            for hit in self._hits
            if (colours := self._lent(hit, step.target)) is not None
        ]
        if not found:
            raise _Missing(_no_example(step, len(self._hits), self._understood.chinese))
        means = np.stack([colours.mean.ravel() for _, colours in found])
        apart = np.linalg.norm(means[:, None] - means[None], axis=-1).sum(axis=1)
        order = np.argsort(apart, kind="stable")
        self._used += [found[place][0] for place in order]
        return found[order[0]][1]

    def _lent(self, hit: Hit, target: str) -> operations.Palette | None:
        """The colours of `target` in a retrieved picture; None where it does not show it, or can't
        be read."""
        if hit.entry.image is None:
            return None
        try:
            image = load_image(hit.entry.image, edge=WORKING)
        except (BrokenData, NotFound):
            return None  # the other pictures may be there
        small = reduced(image)
        inside = np.ones((small.height, small.width), bool)
        if target not in (WHOLE, BACKGROUND):
            share = self._segmenter.look(image).find(target)
            inside = inside & (share is not None and resized(share, small.size) > 0.6)
        return (
            operations.palette(to_oklab(np.asarray(small)), inside)
            if inside.mean() >= _LEAST_EXAMPLE
            else None
        )


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what a mask holds, with a border."""
    rows, columns = (np.flatnonzero((mask >= 128).any(axis=axis)) for axis in (1, 0))
    border = round(_BORDER * max(mask.shape))
    left, top = max(0, columns[0] - border), max(0, rows[0] - border)
    return (
        int(left),
        int(top),
        int(min(mask.shape[1], columns[-1] + border + 1)),
        int(min(mask.shape[0], rows[-1] + border + 1)),
    )


def _named(words: Sequence[str], chinese: bool) -> str:
    return ("、" if chinese else ", ").join(NAMES[word][chinese] for word in words)


def _not_there(step: Step, seen: Sequence[str], chinese: bool) -> str:
    name = NAMES[step.target][chinese] if step.target in NAMES else step.name
    if chinese:
        also = f"我看到的有：{_named(seen, True)}；" if seen else ""
        return f"图片里没有找到“{name}”，所以什么都没有改。{also}也可以改整张图片。"
    also = f"What I see: {_named(seen, False)}. " if seen else ""
    what = name if step.target in NAMES else f'"{name}" (or don\'t know it)'
    return f"I don't see {what} in this picture, so nothing was changed. {also}You can also change the whole picture."


def _no_subject(chinese: bool) -> str:
    if chinese:
        return "图片里没有找到人或狗，分不出哪里是背景，所以什么都没有改。可以改整张图片，或者说出某样东西。"
    return (
        "I see no person and no dog that stands before a background, so nothing was changed; ask for the whole "
        "picture, or name a thing."
    )


def _no_example(step: Step, hits: int, chinese: bool) -> str:
    name = NAMES[step.target][chinese] if step.target in NAMES else step.name
    if chinese:
        return (
            f"要像“{step.value}”：检索到{hits}张图片，没有一张能用来给{name}上色，所以什么都没有改。"
            "请加入这样的图片，或者说出一种颜色。"
        )
    return (
        f'To be like "{step.value}": {hits} pictures were retrieved, none that lends its colours to {name}, so nothing '
        "was changed; add such pictures to the knowledge base, or name a colour."
    )


def _to_what(step: Step, chinese: bool) -> str:
    if chinese:
        return f"没有说明要{'裁剪到' if step.action == 'crop' else '抠出'}什么。{POSSIBLE[True]}"
    return f"It is not said what shall be {'cropped to' if step.action == 'crop' else 'cut out'}. {POSSIBLE[False]}"
