"""Layout of the starter's vector, and the names and shapes of its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ravlm.config import from_mapping, to_mapping
from ravlm.encoders.starter import hubness, minilm, multilingual
from ravlm.encoders.starter.token_adapter import adapter_shapes

Shapes = dict[str, tuple[int, ...]]
IMAGE_WIDTH = 1280
TEXT_WIDTH = minilm.WIDTH
NUM_CLASSES = 1000
IMAGE_STAGE: Shapes = {
    "block.expand.weight": (1248, 208, 1, 1),
    "block.expand.bias": (1248,),
    "block.depthwise.weight": (1248, 1, 3, 3),
    "block.depthwise.bias": (1248,),
    "block.project.weight": (352, 1248, 1, 1),
    "block.project.bias": (352,),
    "head.weight": (1280, 352, 1, 1),
    "head.bias": (1280,),
}
"""Arrays of a trained image stage (`efficientnet_torch.LastStage`)."""
TEXT_STAGE: Shapes = minilm.layer_shapes(range(minilm.TRUNK_LAYERS, minilm.LAYERS))
"""Arrays of a trained text stage: the last layers."""
STAGE_PREFIX = "opened"
"""Stands before a stage's arrays in a checkpoint: "image.0.opened.head.bias"."""
_LATER_KEYS = ("multilingual_hidden_dim", "raw_sentence_dim", "adapter_hidden_dim", "hubness_bank")
_SAVED_KEYS = {"has_trained_stages": "opened"}
"""Field -> key in config.json, where they differ."""


@dataclass(frozen=True)
class StarterConfig:
    """Widths of the blocks of a vector, and each block's share of the squared length."""

    architecture: str = "starter"
    image_size: int = 260
    members: int = 1
    """Trained pairs of heads. Their concatenated vectors are the aligned block: an ensemble in one
    vector."""
    has_trained_stages: bool = False
    """Whether each member also has a trained copy of the backbones' last stages."""
    aligned_dim: int = 512
    hidden_dim: int = 1024
    raw_image_dim: int = 256
    raw_text_dim: int = 256
    words_dim: int = 128
    aligned_share: float = 0.20
    raw_share: float = 0.77
    words_share: float = 0.03
    class_sharpness: float = 0.5
    """Exponent of the class probabilities that weight the class words."""
    multilingual_hidden_dim: int = 0
    """Width of the inner layer of the multilingual head; 0 for none."""
    raw_sentence_dim: int = 0
    """Dimensions of the multilingual sentence vector in the vector; 0 for none."""
    sentence_share: float = 0.5
    """Its share of the squared length that `raw_share` gives a text."""
    adapter_hidden_dim: int = 0
    """Width of the inner layer of the token adapter; 0 for none. Needs the multilingual head."""
    hubness_bank: int = 0
    """Captions, and photos, to which a vector is compared to correct its hubness; 0 for none."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str) -> StarterConfig:
        """Read the values of a config.json; `where` names it in errors."""
        fields = {key: name for name, key in _SAVED_KEYS.items()}
        return from_mapping(cls, {fields.get(k, k): v for k, v in values.items()}, where)

    def to_mapping(self) -> dict[str, Any]:
        """Return the values as they are written to config.json (and hashed)."""
        values = to_mapping(self)
        if not self.reads_sentences:
            del values["sentence_share"]
        # a field that came later is left out where it is unused: the hash stays
        values = {name: v for name, v in values.items() if v or name not in _LATER_KEYS}
        return {_SAVED_KEYS.get(name, name): value for name, value in values.items()}

    @property
    def reads_sentences(self) -> bool:
        """Whether multilingual sentence vectors are computed."""
        return bool(self.multilingual_hidden_dim or self.raw_sentence_dim)

    @property
    def dim(self) -> int:
        raw = self.raw_image_dim + self.raw_text_dim + self.raw_sentence_dim
        return self.aligned_dim + raw + self.words_dim + (hubness.DIM if self.hubness_bank else 0)

    def shapes(self) -> Shapes:
        """Return name and shape of every array of a checkpoint."""
        shapes: Shapes = {
            "image.raw_mean": (IMAGE_WIDTH,),
            "image.raw": (IMAGE_WIDTH, self.raw_image_dim),
            "text.raw": (TEXT_WIDTH, self.raw_text_dim),
            "words.projection": (TEXT_WIDTH, self.words_dim),
            "words.mean": (self.words_dim,),
            "words.classes": (NUM_CLASSES, self.words_dim),
            "classifier.weight": (IMAGE_WIDTH, NUM_CLASSES),
            "classifier.bias": (NUM_CLASSES,),
        }
        for member in range(self.members):
            shapes |= self._tower_shapes(f"image.{member}", IMAGE_WIDTH, IMAGE_STAGE)
            shapes |= self._tower_shapes(f"text.{member}", TEXT_WIDTH, TEXT_STAGE)
        if hidden := self.multilingual_hidden_dim:
            width = multilingual.TEXT_WIDTH
            shapes |= _head_shapes("multilingual", width, hidden, self.aligned_dim)
            shapes["multilingual.gate"] = (2,)
        if self.raw_sentence_dim:
            shapes["sentence.raw_mean"] = (multilingual.WIDTH,)
            shapes["sentence.raw"] = (multilingual.WIDTH, self.raw_sentence_dim)
        if self.adapter_hidden_dim:
            shapes |= adapter_shapes(self.adapter_hidden_dim)
        if self.hubness_bank:
            for bank in ("captions", "photos"):
                shapes[f"hubness.{bank}"] = (self.hubness_bank, self.aligned_dim)
            shapes["hubness.means"] = (2,)
        return shapes

    def _tower_shapes(self, prefix: str, width: int, stage: Shapes) -> Shapes:
        dim = self.aligned_dim // self.members
        shapes = _head_shapes(prefix, width, self.hidden_dim, dim)
        if self.has_trained_stages:
            for name, shape in stage.items():
                shapes[f"{prefix}.{STAGE_PREFIX}.{name}"] = shape
        return shapes


def _head_shapes(prefix: str, width: int, hidden: int, dim: int) -> Shapes:
    """Return name and shape of the arrays of a head (see `encoder.head`)."""
    return {
        f"{prefix}.mean": (width,),
        f"{prefix}.deviation": (width,),
        f"{prefix}.linear": (width, dim),
        f"{prefix}.inner": (width, hidden),
        f"{prefix}.inner_bias": (hidden,),
        f"{prefix}.outer": (hidden, dim),
        f"{prefix}.outer_bias": (dim,),
    }
