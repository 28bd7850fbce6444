"""Load editors and segmenters by name. Each implementation is imported on first use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ravlm import runtime
from ravlm.editing.base import Editor
from ravlm.errors import InvalidInput, did_you_mean

if TYPE_CHECKING:
    from ravlm.editing.rule_based.segmentation import Segmenter

EditorName: TypeAlias = "str | os.PathLike[str] | Editor"
"""A name that `load_editor` accepts, or an editor."""
BUILT_IN_EDITOR = "local"
BUILT_IN_SEGMENTER = "starter"


def load_editor(
    name: EditorName,
    segmenter: str | os.PathLike[str] = BUILT_IN_SEGMENTER,
    progress: Callable[[int, int], None] | None = None,
) -> Editor:
    """Load the editor `name`.

    It is "local" (rules, offline), a diffusers pipeline by folder or hub name (owner/model), or an
    `Editor`, which is returned as it is. `segmenter` finds the regions of the local editor, see
    `load_segmenter`. `progress(step, steps)` is called after each step of a diffusers pipeline.

    Raises InvalidInput for any other name. A pipeline is loaded on its first use.
    """
    if isinstance(name, Editor):
        return name
    if str(name) == BUILT_IN_EDITOR:
        from ravlm.editing.rule_based.editor import RuleBasedEditor

        return RuleBasedEditor(load_segmenter(segmenter))
    _check_name(str(name), "editor", BUILT_IN_EDITOR)
    if str(segmenter) != BUILT_IN_SEGMENTER:
        raise InvalidInput(
            f'The editor "{name}" takes no segmenter (got "{segmenter}"). '
            "Segmenters are for the local editor."
        )
    from ravlm.editing.diffusion import DiffusionEditor

    return DiffusionEditor(name, progress=progress)


def load_segmenter(name: str | os.PathLike[str]) -> Segmenter:
    """Load the segmenter "starter", or a CLIPSeg, OWL-ViT or OWLv2 by folder or hub name."""
    if str(name) == BUILT_IN_SEGMENTER:
        from ravlm.editing.rule_based.starter_segmenter import StarterSegmenter

        return StarterSegmenter()
    _check_name(str(name), "segmenter", BUILT_IN_SEGMENTER)
    runtime.require_torch(f'The segmenter "{name}"')
    from ravlm.editing.rule_based.text_segmenters import load_text_segmenter

    return load_text_segmenter(name)


def _check_name(name: str, family: str, built_in: str) -> None:
    """Raise InvalidInput unless `name` is a folder or looks like a hub name."""
    if not Path(name).expanduser().is_dir() and name.count("/") != 1:
        raise InvalidInput(
            f'The {family} is "{name}"; allowed: {built_in}, a folder, or a hub name (owner/model).'
            f"{did_you_mean(name, [built_in])}"
        )
