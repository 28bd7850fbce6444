"""From a name or a folder to an editor, and to what finds its regions. Knows which there are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from ravlm.editing.base import Editor
from ravlm.editing.rule_based.editor import LocalEditor
from ravlm.editing.segmentation import Segmenter, StarterSegmenter
from ravlm.errors import InvalidInput, nearest

EditorName: TypeAlias = "str | os.PathLike[str] | Editor"


def load_editor(
    name: EditorName,
    segmenter: str | os.PathLike[str] = "starter",
    progress: Callable[[int, int], None] | None = None,
) -> Editor:
    """The editor "local", one of diffusers by folder or hub name (owner/model), or an Editor as it
    is.

    `segmenter`: what finds the local editor's regions: "starter", or a model of Transformers by
    folder or hub name. `progress(done, steps)`: called after each step of a pipeline of diffusers.
    Raises InvalidInput for a name that is none of these, and what the editor's own loading raises.
    """
    if isinstance(name, Editor):
        return name
    if str(name) == "local":
        return LocalEditor(load_segmenter(segmenter))
    _check(str(name), "editor", "local")
    if str(segmenter) != "starter":
        raise InvalidInput(
            f'The segmenter "{segmenter}" is for the editor local; the editor "{name}" takes none.'
        )
    from ravlm.editing.diffusion import DiffusionEditor

    return DiffusionEditor(name, progress=progress)


def load_segmenter(name: str | os.PathLike[str]) -> Segmenter:
    """The segmenter "starter", or a CLIPSeg or OWL-ViT model of Transformers by folder or hub
    name."""
    if str(name) == "starter":
        return StarterSegmenter()
    _check(str(name), "segmenter", "starter")
    from ravlm.editing.segmenters import load_hub_segmenter

    return load_hub_segmenter(name)


def _check(name: str, what: str, own: str) -> None:
    if not Path(name).expanduser().is_dir() and name.count("/") != 1:
        raise InvalidInput(
            f'The {what} is "{name}"; allowed: {own}, a folder, or a hub name (owner/model).{nearest(name, [own])}'
        )
