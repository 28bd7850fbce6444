"""From a name or folder to an encoder. Knows which architectures there are; each is loaded by its own module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ravlm.checkpoint import read_checkpoint_config
from ravlm.encoders.base import DualEncoder
from ravlm.errors import Mismatch, NotFound, nearest


def _starter(folder: Path, name: str) -> DualEncoder:
    from ravlm.encoders.starter import StarterEncoder

    return StarterEncoder.from_folder(folder, name)


ARCHITECTURES: dict[str, Callable[[Path, str], DualEncoder]] = {"starter": _starter}
"""`architecture` of a checkpoint's config.json -> its loader, given the folder and the name to be found by."""


def load_encoder(name_or_folder: str | Path) -> DualEncoder:
    """See `DualEncoder.load`."""
    if str(name_or_folder) == "starter":
        from ravlm.encoders.starter import HOME

        return _starter(HOME, "starter")
    folder = Path(name_or_folder).expanduser()
    if not folder.is_dir():
        near = nearest(str(name_or_folder), ["starter"])
        raise NotFound(f'There is no encoder "{name_or_folder}".{near} Allowed: "starter" or a checkpoint folder.')
    architecture = read_checkpoint_config(folder).get("architecture")
    if architecture not in ARCHITECTURES:
        allowed = ", ".join(f'"{name}"' for name in ARCHITECTURES)
        raise Mismatch(
            f'The checkpoint "{folder}" is of the architecture {architecture!r}; an encoder needs one of: {allowed}.'
        )
    return ARCHITECTURES[architecture](folder.resolve(), str(folder.resolve()))
