"""Load an encoder by name or folder: the starter, a preset, or a checkpoint.

Each implementation is a module of its own and is imported only when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ravlm import runtime
from ravlm.checkpoint import CONFIG, read_checkpoint_config, read_json_object
from ravlm.encoders.base import Encoder
from ravlm.encoders.hub_files import find_folder
from ravlm.encoders.multi_vector import MultiVectorEncoder, pool_tokens_of
from ravlm.encoders.presets import PRESETS, preset_of
from ravlm.encoders.truncated import TruncatedEncoder
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
    def load(
        name_or_folder: str | Path, dimensions: int | None = None, token_pooling: int | None = None
    ) -> Encoder:
        """Load "starter", a preset ("small", "medium", "large", "chinese", "vlm", "vlm-large"), a
        checkpoint folder, or a Hugging Face model by hub name.

        `dimensions` cuts the vectors of a model that was trained for it (Matryoshka);
        `token_pooling=3` keeps one vector for about three tokens of a document with a multi-vector
        model (ColPali ...). Raises NotFound, BrokenData, Mismatch, or InvalidInput for a setting
        that the model does not have; the message says how to fix it.
        """
        encoder = load_encoder(name_or_folder)
        if token_pooling is not None:
            encoder = pool_tokens_of(encoder, token_pooling)
        if dimensions is None or dimensions == encoder.dim:
            return encoder
        return TruncatedEncoder(encoder, dimensions)

    @staticmethod
    def from_backbones(
        image: str | Path, text: str | Path, dim: int = 512, seed: int = 0
    ) -> Encoder:
        """Combine an image model and a text model of Transformers (folders or hub names) into an
        encoder to train.

        Each gets a linear head to `dim` outputs, initialized at random from `seed`; before
        training, images and texts do not match. Raises NotFound, BrokenData or Mismatch.
        """
        runtime.require_torch("An encoder from backbones")
        from ravlm.encoders.vision_text_dual import VisionTextDualEncoder

        return VisionTextDualEncoder.from_backbones(image, text, dim, seed)


@dataclass(frozen=True)
class MatchingEncoder:
    """The encoder that a base was built with."""

    encoder: Encoder
    is_former: bool = False
    """Whether it runs as an earlier version of ravlm ran it."""


def matching_encoder(
    encoder: Encoder, fingerprint: str, dim: int, token_pooling: int = 0
) -> MatchingEncoder | None:
    """Return the form of `encoder` that has this fingerprint: the encoder, cut to `dim` dimensions
    or not, with this token pooling, or its former self; None if it has no such form."""
    if encoder.fingerprint == fingerprint:
        return MatchingEncoder(encoder)
    former = encoder.former(fingerprint)
    if former is not None:
        return MatchingEncoder(former, is_former=True)
    if dim in encoder.matryoshka_dims and dim < encoder.dim:
        truncated = TruncatedEncoder(encoder, dim)
        if truncated.fingerprint == fingerprint:
            return MatchingEncoder(truncated)
    if token_pooling and isinstance(encoder, MultiVectorEncoder) and encoder.token_pooling == 1:
        pooled = encoder.with_token_pooling(token_pooling)
        if pooled.fingerprint == fingerprint:
            return MatchingEncoder(pooled)
    return None


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
    from ravlm.encoders.sentence_multi_vector import (
        SentenceMultiVectorEncoder,
        is_multi_vector_checkpoint,
    )

    if is_multi_vector_checkpoint(folder):
        return SentenceMultiVectorEncoder.from_folder(folder, name)
    from ravlm.encoders.sentence_transformer import SentenceTransformerEncoder

    return SentenceTransformerEncoder.from_folder(folder, name)


def _load_colpali(folder: Path, name: str) -> Encoder:
    from ravlm.encoders.colpali import ColPaliEncoder

    return ColPaliEncoder.from_folder(folder, name)


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
    if not is_folder:
        runtime.require_torch(f'The encoder "{name}"')  # before it is downloaded
    folder = find_folder(name)
    name = str(folder) if is_folder else name
    loader = _loader(folder)
    if loader is not _load_starter:
        runtime.require_torch(f'The encoder "{name}"')
    encoder = loader(folder, name)
    preset = None if is_folder else preset_of(name)
    if preset is not None:
        encoder.matryoshka_dims = encoder.matryoshka_dims or preset.matryoshka_dims
    return encoder


def _adapter_error(folder: Path) -> Mismatch:
    """Return the error for a checkpoint that is no model by itself."""
    base = read_json_object(folder / "adapter_config.json").get("base_model_name_or_path")
    return Mismatch(
        f'The checkpoint "{folder}" is an adapter (PEFT) of "{base}". Merge it into its model and '
        "save that, or use a conversion for Transformers (its name often ends in -hf)."
    )


def _loader(folder: Path) -> EncoderLoader:
    """Choose the loader of a checkpoint folder. Raises Mismatch for another kind of model."""
    if (folder / "modules.json").is_file():
        return _load_sentence_transformer
    if not (folder / CONFIG).is_file() and (folder / "adapter_config.json").is_file():
        raise _adapter_error(folder)
    config = read_checkpoint_config(folder)
    architecture = config.get("architecture")
    if isinstance(architecture, str) and architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture]
    if architecture is None and "vlm_config" in config and "embedding_dim" in config:
        return _load_colpali
    if architecture is None and "model_type" in config:
        return _load_clip
    if "pretrained_cfg" in config:
        raise Mismatch(
            f'The checkpoint "{folder}" is an image model of timm ({architecture}). Combine it '
            f'with a text model: DualEncoder.from_backbones(image="{folder}", text=...).'
        )
    allowed = ", ".join(f'"{name}"' for name in ARCHITECTURES)
    raise Mismatch(
        f'The checkpoint "{folder}" has the architecture {architecture!r}. Expected {allowed}, '
        f'or a "model_type" of Transformers in {CONFIG}.'
    )
