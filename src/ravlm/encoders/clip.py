"""CLIP-like checkpoints of Transformers: CLIP, SigLIP, SigLIP 2, Chinese-CLIP, and any other model
with `get_image_features` and `get_text_features`.

SigLIP was trained on lower-case texts. SigLIP 2 checkpoints with a fixed image size have Gemma's
tokenizer, which keeps capital letters: their texts are lower-cased here.
"""

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
    lower_case,
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

_HEADS = {
    "ForImageTextRetrieval": "scores one image with one text at a time",
    "ForImageSegmentation": "segments images by text",
    "ForObjectDetection": "finds objects by text",
    "ForImageClassification": "classifies images",
    "ForConditionalGeneration": "writes text",
    "ForQuestionAnswering": "answers questions",
}
"""What a model does that has a head for a task, by the end of its class's name."""


class ClipEncoder(TorchEncoder):
    """A dual encoder of Transformers. Create it with `from_folder`.

    `keep_case`: leave upper and lower case to the checkpoint's tokenizer, as earlier versions of
    ravlm did, even if the tower was trained on lower-case texts.
    """

    fingerprint_prefix = "HubEncoder"

    def __init__(self, folder: Path, name: str, keep_case: bool = False) -> None:
        self._folder = folder
        self._config = read_config(folder, name)
        _check_has_both_towers(self._config, name)
        self.matryoshka_dims = matryoshka_dims(self._config)
        tokenizer = read_tokenizer(folder, name)
        if not keep_case and _needs_lower_case(self._config, tokenizer):
            lower_case(tokenizer)
            self.fingerprint_suffix = " lower case"
        super().__init__(
            name=name,
            files=small_files(folder),
            weights=weight_files(folder),
            image_processor=ImageProcessor(read_image_processor(folder, name)),
            tokenizer=tokenizer,
        )

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> ClipEncoder:
        """Load a checkpoint folder. `name` is the name under which it can be loaded again."""
        return cls(folder, name)

    def former(self, fingerprint: str) -> ClipEncoder | None:
        if not self.fingerprint_suffix:
            return None
        encoder = ClipEncoder(self._folder, self.name, keep_case=True)
        return encoder if encoder.fingerprint == fingerprint else None

    def _load_towers(self, dtype: torch.dtype) -> Towers:
        network, info = read_model(self._folder, dtype)
        missing = sorted(info["missing_keys"])
        unknown = sorted(info["unexpected_keys"])
        if missing or unknown:
            _check_head(self._config, type(network).__name__, self.name)
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


def _check_head(config: Any, class_name: str, name: str) -> None:
    """Raise Mismatch if the weights are those of a model with a head for another task."""
    saved_class = next(iter(config.architectures or ()), class_name)
    if saved_class == class_name:
        return
    task = next((task for end, task in _HEADS.items() if saved_class.endswith(end)), "")
    raise Mismatch(
        f'The checkpoint "{name}" is a {saved_class}{task and f", which {task}"}. Its weights are '
        f"not those of a dual encoder ({class_name}). Use a model with an image tower and a text "
        "tower (CLIP, SigLIP, ...)."
    )


def _needs_lower_case(config: Any, tokenizer: Any) -> bool:
    """Return whether the text tower was trained on lower case but its tokenizer keeps capitals."""
    lower, upper = (tokenizer(text)["input_ids"] for text in ("red boat", "RED BOAT"))
    return config.model_type.startswith("siglip") and lower != upper


def _backbone_modality(config: Any) -> str | None:
    """The modality for which the model could be a backbone."""
    if hasattr(config, "vocab_size"):
        return "text"
    return "image" if hasattr(config, "num_channels") else None
