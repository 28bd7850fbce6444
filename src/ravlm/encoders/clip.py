"""CLIP-like checkpoints of Transformers: CLIP, SigLIP, SigLIP 2, Chinese-CLIP, and any other model
with `get_image_features` and `get_text_features`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ravlm.encoders.hub_files import small_files, weight_files
from ravlm.encoders.image_processing import ImageProcessor
from ravlm.encoders.tokenization import TextTokenizer
from ravlm.encoders.torch_encoder import TorchEncoder, Towers, unit
from ravlm.encoders.transformers_io import (
    check_weights,
    has_towers,
    matryoshka_dims,
    max_text_length,
    model_class,
    needs_full_padding,
    read_config,
    read_image_processor,
    read_model,
    read_tokenizer,
    state_without_duplicates,
)
from ravlm.errors import Mismatch
from ravlm.records import Modality


class ClipEncoder(TorchEncoder):
    """A dual encoder of Transformers. Create it with `from_folder`."""

    fingerprint_prefix = "HubEncoder"

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._config = read_config(folder, name)
        _check_has_both_towers(self._config, name)
        self.matryoshka_dims = matryoshka_dims(self._config)
        super().__init__(
            name=name,
            files=small_files(folder),
            weights=weight_files(folder),
            image_processor=ImageProcessor(read_image_processor(folder, name)),
            tokenizer=read_tokenizer(folder, name),
        )

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> ClipEncoder:
        """Load a checkpoint folder. `name` is the name under which it can be loaded again."""
        return cls(folder, name)

    def _load_towers(self, dtype: torch.dtype) -> Towers:
        network, info = read_model(self._folder, dtype)
        missing = sorted(info["missing_keys"])
        unknown = sorted(info["unexpected_keys"])
        check_weights(missing, unknown, info, self.name)
        return ClipTowers(network)

    def _text_tokenizer(self, tokenizer: Any, towers: Any) -> TextTokenizer:
        text_config = getattr(self._config, "text_config", self._config)
        max_length = max_text_length(tokenizer, text_config, towers)
        return TextTokenizer(tokenizer, max_length, needs_full_padding(tokenizer, text_config))

    def _state(self, towers: Any) -> dict[str, Tensor]:
        return state_without_duplicates(towers.network)


class ClipTowers(Towers):
    """A CLIP-like model of Transformers with the interface of `Towers`."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self._text_inputs = set(inspect.signature(network.get_text_features).parameters)

    def image_pooled(self, pixel_values: Tensor, **extra_inputs: Tensor) -> Tensor:
        return _projected(
            self.network.get_image_features(pixel_values=pixel_values, **extra_inputs)
        )

    def text_pooled(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **extra_inputs: Tensor
    ) -> Tensor:
        inputs: dict[str, Tensor | None] = {"attention_mask": attention_mask}
        inputs |= {key: x for key, x in extra_inputs.items() if key in self._text_inputs}
        return _projected(self.network.get_text_features(input_ids=input_ids, **inputs))

    def project(self, pooled: Tensor, tower: Modality) -> Tensor:
        return unit(pooled)

    @property
    def logit_scale(self) -> nn.Parameter | None:
        return getattr(self.network, "logit_scale", None)

    @property
    def logit_bias(self) -> nn.Parameter | None:
        return getattr(self.network, "logit_bias", None)

    def freezable(self, tower: Modality) -> list[nn.Module]:
        """The tower and its projection, found by name: `vision_model`, `visual_projection`,
        `text_model`, ..."""
        prefix = "vis" if tower == "image" else "text"
        return [child for name, child in self.network.named_children() if name.startswith(prefix)]


def _projected(output: Any) -> Tensor:
    """Return the projected vectors (n, dim): `get_*_features` returns them directly, or (since
    Transformers 5) in an output object."""
    return output if hasattr(output, "shape") else output.pooler_output


def _check_has_both_towers(config: Any, name: str) -> None:
    """Raise Mismatch if the model is not a dual encoder; the message says what it is."""
    has = has_towers(config)
    if all(has.values()):
        return
    class_name = getattr(model_class(config), "__name__", None)
    description = class_name or f'a model of type "{config.model_type}"'
    backbone = _backbone_modality(config)
    missing = [tower for tower, exists in has.items() if not exists and tower != backbone]
    hint = f' Or combine it: DualEncoder.from_backbones({backbone}="{name}", ...).'
    raise Mismatch(
        f'The checkpoint "{name}" is {description}, not a dual encoder: it has no '
        f"{' and no '.join(missing)} tower. Use a model with both (CLIP, SigLIP, ...)."
        + (hint if backbone else "")
    )


def _backbone_modality(config: Any) -> str | None:
    """The modality for which the model could be a backbone."""
    if hasattr(config, "vocab_size"):
        return "text"
    return "image" if hasattr(config, "num_channels") else None
