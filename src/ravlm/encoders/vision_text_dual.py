"""Combine an image model and a text model of Transformers into an encoder to train.

Each backbone gets a linear head, initialized at random from a seed. `model` is what training works
on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ravlm.checkpoint import CONFIG, check_shapes, read_checkpoint_config, read_json_object
from ravlm.config import from_mapping, to_mapping
from ravlm.encoders.hub_files import find_folder, quiet, small_files, weight_files
from ravlm.encoders.image_processing import ImageProcessor
from ravlm.encoders.tokenization import TextTokenizer
from ravlm.encoders.torch_encoder import TorchEncoder, Towers, unit
from ravlm.encoders.transformers_io import (
    check_weights,
    encoder_class,
    has_towers,
    max_text_length,
    model_class,
    read_config,
    read_image_processor,
    read_model,
    read_tokenizer,
    state_without_duplicates,
)
from ravlm.errors import InvalidInput, Mismatch
from ravlm.records import Modality

_IMAGE, _TEXT = "image", "text"
"""Folders in a checkpoint: each backbone's configuration, with its image processor or tokenizer."""
_EXAMPLES = {
    _IMAGE: "ViT, DINOv2, ConvNeXt, timm, the image tower of CLIP, ...",
    _TEXT: "BERT, ModernBERT, T5, Qwen3, the text tower of CLIP, ...",
}
_MAX_CAUSAL_TOKENS = 8192
"""Longer texts are split: a decoder may read a hundred thousand tokens, but gives one vector."""


@dataclass(frozen=True)
class VisionTextDualConfig:
    """Sizes of a pair of towers, saved with the weights."""

    dim: int
    image_width: int
    """Input width of the image head."""
    text_width: int
    """Input width of the text head."""
    image_pooler: bool = False
    """Use the image backbone's own pooling, instead of the mean of its last hidden states."""
    text_pooling: str = "mean"
    """"mean" of the last hidden states, or the "last" of them, the only one that sees the whole
    text if the backbone is a decoder."""
    architecture: str = "vision_text_dual"


class VisionTextDualTowers(Towers):
    """Two backbones and their heads."""

    def __init__(self, image: nn.Module, text: nn.Module, config: VisionTextDualConfig) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.config = config
        self.image_head = nn.Linear(config.image_width, config.dim, bias=False)
        self.text_head = nn.Linear(config.text_width, config.dim, bias=False)

    def image_pooled(self, pixel_values: Tensor, **extra_inputs: Tensor) -> Tensor:
        """Return the input of the image head (n, width): the backbone's own pooling, or a mean."""
        output = self.image(pixel_values=pixel_values, **extra_inputs)
        return _pool_image(output, self.config.image_pooler)

    def text_pooled(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **extra_inputs: Tensor
    ) -> Tensor:
        """Return the input of the text head (n, width): the last hidden states, pooled."""
        states = self.text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pool = _last_states if self.config.text_pooling == "last" else _mean_states
        return pool(states, attention_mask)

    def project(self, pooled: Tensor, tower: Modality) -> Tensor:
        return unit((self.image_head if tower == "image" else self.text_head)(pooled))

    def freezable(self, tower: Modality) -> list[nn.Module]:
        """The backbone. A head is always trained."""
        return [self.image if tower == "image" else self.text]


class VisionTextDualEncoder(TorchEncoder):
    """Two backbones with heads. Create it with `from_backbones`, or load it with `from_folder`."""

    fingerprint_prefix = "PairedEncoder"

    @classmethod
    def from_backbones(
        cls, image: str | Path, text: str | Path, dim: int = 512, seed: int = 0
    ) -> VisionTextDualEncoder:
        """See `DualEncoder.from_backbones`."""
        if not isinstance(dim, int) or dim < 1:
            raise InvalidInput(f"dim is {dim}; expected a positive integer, for example 512.")
        image_folder, text_folder = find_folder(image), find_folder(text)
        image_model, has_pooler = read_backbone(image_folder, str(image), _IMAGE)
        text_model, _ = read_backbone(text_folder, str(text), _TEXT)
        image_processor = ImageProcessor(read_image_processor(image_folder, str(image)))

        sample = _run_on_blank_image(image_model, image_processor)
        has_pooler = has_pooler and getattr(sample, "pooler_output", None) is not None
        image_width = _pool_image(sample, has_pooler).shape[1]
        config = VisionTextDualConfig(
            dim=dim,
            image_width=image_width,
            text_width=text_model.config.hidden_size,
            image_pooler=has_pooler,
            text_pooling="last" if _is_causal(text_model) else "mean",
        )

        towers = VisionTextDualTowers(image_model, text_model, config)
        _initialize_heads(towers, seed)
        towers.freeze()
        files = {CONFIG: json.dumps(to_mapping(config), indent=2).encode()}
        files |= _backbone_files(_IMAGE, image_folder, image_model)
        files |= _backbone_files(_TEXT, text_folder, text_model)
        tokenizer = read_tokenizer(text_folder, str(text))
        return cls(f"{image} + {text}", files, [], image_processor, tokenizer, towers)

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> VisionTextDualEncoder:
        """Load a checkpoint folder. `name` is the name under which it can be loaded again."""
        from_mapping(VisionTextDualConfig, read_checkpoint_config(folder), f"{folder}/{CONFIG}")
        files = {CONFIG: (folder / CONFIG).read_bytes()}
        for tower in (_IMAGE, _TEXT):
            if not (folder / tower).is_dir():
                raise Mismatch(
                    f'The checkpoint "{folder}" lacks its folder "{tower}". Save it again.'
                )
            for file_name, content in small_files(folder / tower).items():
                files[f"{tower}/{file_name}"] = content
        image_processor = ImageProcessor(read_image_processor(folder / _IMAGE, name))
        tokenizer = read_tokenizer(folder / _TEXT, name)
        return cls(name, files, weight_files(folder), image_processor, tokenizer)

    def _load_towers(self, dtype: torch.dtype) -> Towers:
        from safetensors.torch import load_file

        folder = self.weights[0].parent
        values = json.loads(self.files[CONFIG])
        config = from_mapping(VisionTextDualConfig, values, f"{folder}/{CONFIG}")
        image = _empty_model(read_config(folder / _IMAGE, self.name))
        text = _empty_model(read_config(folder / _TEXT, self.name))
        if not config.image_pooler:
            drop_pooler(image)
        drop_pooler(text)
        towers = VisionTextDualTowers(image, text, config)

        weights = load_file(self.weights[0])
        expected = state_without_duplicates(towers)
        shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
        check_shapes(weights, shapes, str(folder))
        towers.load_state_dict(weights, strict=False)  # shared weights are stored under one name
        towers.freeze()
        return towers.to(dtype).eval()

    def _text_tokenizer(self, tokenizer: Any, towers: Any) -> TextTokenizer:
        max_length = max_text_length(tokenizer, towers.text.config, towers.text)
        if towers.config.text_pooling != "last":
            return TextTokenizer(tokenizer, max_length, pad_to_max=False)
        max_length = min(max_length, _MAX_CAUSAL_TOKENS)
        ends = (tokenizer.eos_token_id, tokenizer.sep_token_id)
        last_token = next((token for token in ends if token is not None), None)
        return TextTokenizer(tokenizer, max_length, False, last_token)

    def _state(self, towers: Any) -> dict[str, Tensor]:
        return state_without_duplicates(towers)


def read_backbone(folder: Path, name: str, tower: str) -> tuple[Any, bool]:
    """Load a backbone in fp32 without any task head; also return whether it has a trained pooler of
    its own."""
    whole_config = read_config(folder, name)
    config = _tower_config(whole_config, tower)
    _check_modality(config, name, tower)
    config.update(_unmasked(config))
    model, info = read_model(folder, torch.float32, encoder_class(config), config=config)
    pooler_keys = {key for key in info["missing_keys"] if key.split(".")[0] == "pooler"}
    missing = sorted(info["missing_keys"] - pooler_keys)
    unknown = sorted(_unknown_keys(model, whole_config, info["unexpected_keys"]))
    check_weights(missing, unknown, info, name)
    has_pooler = tower == _IMAGE and not pooler_keys
    if not has_pooler:
        drop_pooler(model)
    keep_patch_order(model)
    return model.eval(), has_pooler


def _tower_config(config: Any, tower: str) -> Any:
    """Return the configuration of one tower of a dual encoder (CLIP), else `config` itself."""
    if not all(has_towers(config).values()):
        return config
    part = getattr(config, "vision_config" if tower == _IMAGE else "text_config", None)
    return config if part is None or model_class(part) is None else part


def _is_causal(model: Any) -> bool:
    """Return whether the state of a token ignores the tokens behind it, as in a decoder."""
    token, *next_tokens = (i for i in range(2, 6) if i != model.config.pad_token_id)
    texts = torch.tensor([[token, next_token] for next_token in next_tokens[:2]])
    with torch.inference_mode():
        states = model(input_ids=texts, attention_mask=torch.ones_like(texts)).last_hidden_state
    return bool(torch.allclose(states[0, 0], states[1, 0], atol=1e-6))


def _unmasked(config: Any) -> dict[str, float]:
    """Return the change of a configuration that lets a masked autoencoder see the whole image: by
    default ViT-MAE hides three quarters of it, at random."""
    return {"mask_ratio": 0.0} if hasattr(config, "mask_ratio") else {}


def _unknown_keys(model: Any, config: Any, unexpected: list[str]) -> list[str]:
    """Return the `unexpected` keys of the backbone itself, without a task head or pooler."""
    class_name = type(model).__name__
    saved_class = (config.architectures or [class_name])[0]
    if saved_class == class_name:
        return list(unexpected)
    prefix = model.base_model_prefix
    backbone_modules = {key for key, _ in model.named_children()} | {prefix}

    def belongs_to_backbone(key: str) -> bool:
        first_name = key.removeprefix(f"{prefix}.").split(".")[0]
        return key.split(".")[0] in backbone_modules and first_name != "pooler"

    return [key for key in unexpected if belongs_to_backbone(key)]


def _check_modality(config: Any, name: str, tower: str) -> None:
    """Raise Mismatch unless the model reads only images, or only texts."""
    from transformers import AutoModel

    # BEiT's configuration has a vocabulary, too: of visual words.
    main_input = getattr(model_class(config), "main_input_name", "")
    has_channels = hasattr(config, "num_channels") or hasattr(config, "pretrained_cfg")  # timm's
    is_whole_model = getattr(config, "is_encoder_decoder", False)
    if tower == _IMAGE:
        fits = has_channels and main_input == "pixel_values" and not is_whole_model
    else:
        is_text = hasattr(config, "vocab_size") and hasattr(config, "hidden_size")
        fits = is_text and main_input == "input_ids" and not has_channels
        fits = fits and (not is_whole_model or encoder_class(config) is not AutoModel)
    if not fits:
        raise Mismatch(
            f'The checkpoint "{name}" is a "{config.model_type}" model, which cannot be the '
            f"{tower} tower. Expected a model that reads {tower}s only ({_EXAMPLES[tower]})."
        )


def drop_pooler(model: Any) -> None:
    """Remove the model's pooler, if it has one with weights: without, as in ResNet, it need not be
    trained, and the model would fail."""
    pooler = getattr(model, "pooler", None)
    if pooler is not None and next(pooler.parameters(), None) is not None:
        model.pooler = None


def keep_patch_order(model: Any) -> None:
    """Let a masked autoencoder (ViT-MAE) read the patches of an image in order.

    Without a mask it still shuffles them at random: in bf16 two vectors of an image differed by
    0.002, and the numbers of other users of torch's random generator changed.
    """
    embeddings = getattr(model, "embeddings", None)
    if hasattr(embeddings, "random_masking"):
        model.register_forward_pre_hook(_add_patch_order, with_kwargs=True)


def _add_patch_order(
    model: Any, args: tuple[Any, ...], inputs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the inputs of ViT-MAE with a `noise` (n, patches) that is sorted already."""
    pixels = inputs["pixel_values"]
    num_patches = model.embeddings.patch_embeddings.num_patches
    order = torch.arange(num_patches, device=pixels.device, dtype=torch.float32)
    return args, {**inputs, "noise": order.expand(len(pixels), -1)}


def _empty_model(config: Any) -> nn.Module:
    config.update(_unmasked(config))
    with quiet():
        model: nn.Module = encoder_class(config).from_config(config, dtype=torch.float32)
    keep_patch_order(model)
    return model


def _run_on_blank_image(model: Any, image_processor: ImageProcessor) -> Any:
    inputs = [image_processor.preprocess(Image.new("RGB", (64, 64)))]
    with torch.inference_mode():
        return model(**image_processor.collate(inputs, torch.device("cpu"), torch.float32))


def _initialize_heads(towers: VisionTextDualTowers, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for head in (towers.image_head, towers.text_head):
        nn.init.normal_(head.weight, std=head.in_features**-0.5, generator=generator)


def _backbone_files(tower: str, folder: Path, model: Any) -> dict[str, bytes]:
    """Return the small files of a backbone, with the tower's configuration if it is part of a dual
    encoder."""
    files = {
        f"{tower}/{name}": content
        for name, content in small_files(folder).items()
        if not name.endswith(".index.json")
    }
    if read_json_object(folder / CONFIG).get("model_type", "") not in ("", model.config.model_type):
        files[f"{tower}/{CONFIG}"] = model.config.to_json_string().encode()
    return files


def _pool_image(output: Any, use_pooler: bool) -> Tensor:
    """Return the backbone's pooled output, or the mean of its last tokens or grid: (n, width)."""
    if use_pooler:
        return output.pooler_output.flatten(1)  # convolutional models give (n, width, 1, 1)
    states = output.last_hidden_state  # (n, tokens, width) or (n, width, height, width)
    return states.mean((2, 3)) if states.ndim == 4 else states.mean(1)


def _mean_states(states: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return the mean of a text's last hidden states (n, tokens, width) -> (n, width)."""
    if attention_mask is None:
        return states.mean(1)
    mask = attention_mask[:, :, None].to(states.dtype)  # (n, tokens, 1)
    return (states * mask).sum(1) / mask.sum(1).clamp(min=1)


def _last_states(states: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return the state of each text's last token: (n, tokens, width) -> (n, width)."""
    if attention_mask is None:
        return states[:, -1]
    last = attention_mask.shape[1] - 1 - attention_mask.flip(1).argmax(1)  # (n,)
    return states[torch.arange(len(states), device=states.device), last]
