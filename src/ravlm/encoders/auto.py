"""Load an encoder by name or folder: the starter, a preset, or a checkpoint.

Each implementation is a module of its own and is imported only when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ravlm.checkpoint import CONFIG, read_checkpoint_config
from ravlm.encoders.base import Encoder
from ravlm.encoders.hub_files import find_folder
from ravlm.errors import Mismatch, NotFound, did_you_mean
from ravlm.files import STARTER

EncoderLoader = Callable[[Path, str], Encoder]
"""Takes a checkpoint folder and the name under which it can be loaded again."""


class DualEncoder(Encoder):
    """The entry point for encoders: load one, or build one for training. Both return an `Encoder`.

    encoder = ravlm.DualEncoder.load("starter")
    vectors = encoder.encode_images(["cat.jpg"])  # float32 (1, encoder.dim)
    """

    @staticmethod
    def load(name_or_folder: str | Path) -> Encoder:
        """Load "starter", a preset ("small", "medium", "large", "chinese"), a checkpoint folder, or
        a Hugging Face model by hub name.

        Raises NotFound, BrokenData or Mismatch; the message says how to fix it.
        """
        return load_encoder(name_or_folder)

    @staticmethod
    def from_backbones(
        image: str | Path, text: str | Path, dim: int = 512, seed: int = 0
    ) -> Encoder:
        """Combine an image model and a text model of Transformers (folders or hub names) into an
        encoder to train.

        Each gets a linear head to `dim` outputs, initialized at random from `seed`; before
        training, images and texts do not match. Raises NotFound, BrokenData or Mismatch.
        """
        from ravlm.encoders.vision_text_dual import VisionTextDualEncoder

        return VisionTextDualEncoder.from_backbones(image, text, dim, seed)


@dataclass(frozen=True)
class EncoderPreset:
    """A checkpoint on the Hugging Face hub and its cost."""

    hub_name: str
    languages: str
    """Training languages, according to the authors."""
    parameters: int
    """In millions; four bytes each in fp32, two in bf16."""
    dim: int
    edge: int
    """Image edge in pixels."""
    gflop: float
    """10^9 floating point operations per image. Divide by your processor's rate to get seconds."""


PRESETS: dict[str, EncoderPreset] = {
    "small": EncoderPreset("openai/clip-vit-base-patch32", "English", 151, 512, 224, 8.8),
    "medium": EncoderPreset(
        hub_name="google/siglip2-base-patch16-256",
        languages="many, English and Chinese among them",
        parameters=375,
        dim=768,
        edge=256,
        gflop=46.8,
    ),
    "large": EncoderPreset(
        hub_name="google/siglip2-so400m-patch14-384",
        languages="many, English and Chinese among them",
        parameters=1136,
        dim=1152,
        edge=384,
        gflop=670.3,
    ),
    "chinese": EncoderPreset(
        "OFA-Sys/chinese-clip-vit-base-patch16", "Chinese", 188, 512, 224, 35.1
    ),
}
"""Short names for hub checkpoints (docs/choosing.md). They were not run here, without access to the
hub; the tests run tiny checkpoints of the same classes. Sizes follow from the published shapes."""


def _load_starter(folder: Path, name: str) -> Encoder:
    from ravlm.encoders.starter.encoder import StarterEncoder

    return StarterEncoder.from_folder(folder, name)


def _load_vision_text_dual(folder: Path, name: str) -> Encoder:
    from ravlm.encoders.vision_text_dual import VisionTextDualEncoder

    return VisionTextDualEncoder.from_folder(folder, name)


def _load_clip(folder: Path, name: str) -> Encoder:
    from ravlm.encoders.clip import ClipEncoder

    return ClipEncoder.from_folder(folder, name)


def _load_sentence_transformer(folder: Path, name: str) -> Encoder:
    from ravlm.encoders.sentence_transformer import SentenceTransformerEncoder

    return SentenceTransformerEncoder.from_folder(folder, name)


ARCHITECTURES: dict[str, EncoderLoader] = {
    "starter": _load_starter,
    "vision_text_dual": _load_vision_text_dual,
    "paired": _load_vision_text_dual,  # the name in checkpoints saved by early versions
}
"""`architecture` in a checkpoint's config.json -> loader."""


def load_encoder(name_or_folder: str | Path) -> Encoder:
    """See `DualEncoder.load`."""
    name = str(name_or_folder)
    if name == "starter":
        return _load_starter(STARTER, name)
    if name in PRESETS and not Path(name).is_dir():
        name = PRESETS[name].hub_name
    is_folder = Path(name).expanduser().is_dir()
    if not is_folder and name.count("/") != 1:
        short_names = ["starter", *PRESETS]
        allowed = ", ".join(f'"{short_name}"' for short_name in short_names)
        raise NotFound(
            f'There is no encoder "{name}".{did_you_mean(name, short_names)} Allowed: {allowed}, '
            "a checkpoint folder, or a hub name (owner/model)."
        )
    folder = find_folder(name)
    return _loader(folder)(folder, str(folder) if is_folder else name)


def _loader(folder: Path) -> EncoderLoader:
    """Choose the loader of a checkpoint folder. Raises Mismatch for another kind of model."""
    if (folder / "modules.json").is_file():
        return _load_sentence_transformer
    config = read_checkpoint_config(folder)
    architecture = config.get("architecture")
    if isinstance(architecture, str) and architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture]
    if architecture is None and "model_type" in config:
        return _load_clip
    allowed = ", ".join(f'"{name}"' for name in ARCHITECTURES)
    raise Mismatch(
        f'The checkpoint "{folder}" has the architecture {architecture!r}. Expected {allowed}, '
        f'or a "model_type" of Transformers in {CONFIG}.'
    )
