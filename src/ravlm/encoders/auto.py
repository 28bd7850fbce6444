"""From a name or folder to an encoder. Knows which kinds there are; each is loaded by its own
module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ravlm.checkpoint import CONFIG, read_checkpoint_config
from ravlm.encoders.base import DualEncoder
from ravlm.encoders.hub_files import find_folder
from ravlm.encoders.presets import PRESETS
from ravlm.errors import Mismatch, NotFound, nearest


def _starter(folder: Path, name: str) -> DualEncoder:
    from ravlm.encoders.starter.encoder import StarterEncoder

    return StarterEncoder.from_folder(folder, name)


def _paired(folder: Path, name: str) -> DualEncoder:
    from ravlm.encoders.vision_text_dual import VisionTextDualEncoder

    return VisionTextDualEncoder.from_folder(folder, name)


def _hub(folder: Path, name: str) -> DualEncoder:
    from ravlm.encoders.clip import HubEncoder

    return HubEncoder.from_folder(folder, name)


def _sentence(folder: Path, name: str) -> DualEncoder:
    from ravlm.encoders.sentence_transformer import SentenceEncoder

    return SentenceEncoder.from_folder(folder, name)


ARCHITECTURES: dict[str, Callable[[Path, str], DualEncoder]] = {
    "starter": _starter,
    "paired": _paired,
}
"""`architecture` of a checkpoint's config.json -> its loader, given the folder and the name to be
found by."""


def load_encoder(name_or_folder: str | Path) -> DualEncoder:
    """See `DualEncoder.load`."""
    name = str(name_or_folder)
    if name == "starter":
        from ravlm.files import STARTER

        return _starter(STARTER, name)
    if name in PRESETS and not Path(name).is_dir():
        name = PRESETS[name].hub_name
    if not Path(name).expanduser().is_dir() and name.count("/") != 1:
        short = ["starter", *PRESETS]
        allowed = ", ".join(f'"{each}"' for each in short)
        raise NotFound(
            f'There is no encoder "{name}".{nearest(name, short)} Allowed: {allowed}, a checkpoint folder, or a hub '
            "name (owner/model)."
        )
    folder = find_folder(name)
    return _loader(folder)(folder, str(folder) if Path(name).expanduser().is_dir() else name)


def _loader(folder: Path) -> Callable[[Path, str], DualEncoder]:
    if (folder / "modules.json").is_file():
        return _sentence
    config = read_checkpoint_config(folder)
    architecture = config.get("architecture")
    if architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture]
    if architecture is None and "model_type" in config:
        return _hub
    allowed = ", ".join(f'"{name}"' for name in ARCHITECTURES)
    raise Mismatch(
        f'The checkpoint "{folder}" is of the architecture {architecture!r}; an encoder needs one of: {allowed}, or a '
        f'"model_type" of Transformers in {CONFIG}.'
    )
