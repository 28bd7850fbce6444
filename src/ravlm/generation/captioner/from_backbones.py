"""Captioners from pretrained parts: a Transformers language model, a vision tower, a text tower.

A decoder whose class has cross-attention (BERT, GPT-2, RoBERTa ...) attends to image and evidence
through it; any other causal language model gets them as a prefix. New layers are initialized at
random and listed in a warning: such a captioner has to be trained."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from ravlm import runtime
from ravlm.encoders.hub_files import find_folder
from ravlm.encoders.transformers_io import (
    check_weights,
    max_text_length,
    read_config,
    read_image_processor,
    read_model,
    read_tokenizer,
)
from ravlm.encoders.vision_text_dual import read_backbone
from ravlm.errors import InvalidInput, Mismatch
from ravlm.fusion import check_fusion, fusion_class
from ravlm.fusion.cross_attention import gate_cross_attention
from ravlm.generation.base import Generator
from ravlm.generation.captioner.configuration import CaptionerConfig
from ravlm.generation.captioner.generator import CaptionerGenerator, CaptionerSettings
from ravlm.generation.captioner.modeling import CaptionerModel
from ravlm.generation.captioner.processing import TransformersProcessor

_CROSS_ATTENTION_KEYS = ("crossattention", "ln_cross_attn")
"""Parts of the names of cross-attention weights in Transformers decoders."""
_HEAD_PREFIXES = ("cls.", "lm_head.")
_SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
NameOrFolder = str | Path


class _Decoder(NamedTuple):
    model: Any
    """The language model in fp32."""
    fusion: str
    new_layers: list[str]
    """Descriptions of the layers with random weights."""


@runtime.preserved_rng()
def captioner_from_backbones(
    language: NameOrFolder,
    vision: NameOrFolder,
    text: NameOrFolder | None = None,
    fusion: str | None = None,
    fallback: Generator | None = None,
    seed: int = 0,
) -> CaptionerGenerator:
    """Build a captioner from pretrained parts, each a folder or a hub name.

    `language` writes and `vision` encodes the image. `text` encodes the evidence and stays frozen;
    without it, evidence enters through the language model's own embeddings. `fusion` is a key of
    FUSIONS; by default cross-attention if the language model has it, else the prefix. `fallback`
    does the tasks other than captioning. New layers are drawn from `seed`.

    Raises NotFound, BrokenData or Mismatch for a part that does not fit, InvalidInput for an
    unknown fusion."""
    language_folder = find_folder(language)
    fusion = check_fusion(fusion) if fusion else None
    torch.manual_seed(seed)  # before the parts are read, which draws the layers that they lack
    decoder = _read_decoder(language_folder, str(language), fusion)
    tower, _ = read_backbone(find_folder(vision), str(vision), "image")
    image_processor = read_image_processor(find_folder(vision), str(vision))
    tokenizer = read_tokenizer(language_folder, str(language))
    text_tower, text_tokenizer = _read_text_tower(text) if text is not None else (None, None)
    config = CaptionerConfig(
        decoder=decoder.model.config.to_dict(),
        vision=tower.config.to_dict(),
        text=text_tower.config.to_dict() if text_tower is not None else None,
        fusion=decoder.fusion,
        image_width=_state_width(tower, image_processor),
        evidence_width=text_tower.config.hidden_size if text_tower is not None else 0,
    )
    model = _assemble(config, decoder.model, tower, text_tower)
    model.generation_config.update(**_special_tokens(tokenizer, str(language)))
    _warn_untrained([*decoder.new_layers, "the projections of image and evidence"])
    return CaptionerGenerator(
        model,
        tokenizer,
        TransformersProcessor(image_processor, tokenizer, text_tokenizer),
        CaptionerSettings(processor="transformers", num_beams=3),
        fallback,
    )


def _assemble(config: CaptionerConfig, decoder: Any, tower: Any, text_tower: Any) -> CaptionerModel:
    """Return a model with the weights of its parts; the text tower is frozen."""
    model = CaptionerModel(config)
    if fusion_class(config.fusion).needs_cross_attention:
        gate_cross_attention(decoder)
    model.decoder.load_state_dict(decoder.state_dict())
    model.encoder.vision.load_state_dict(tower.state_dict())
    if text_tower is not None:
        model.encoder.text.load_state_dict(text_tower.state_dict())
        model.encoder.text.requires_grad_(False)
    return model


def _read_text_tower(text: NameOrFolder) -> tuple[Any, Any]:
    """Return the text tower and its tokenizer, which truncates to what the tower reads."""
    folder = find_folder(text)
    tower, _ = read_backbone(folder, str(text), "text")
    tokenizer = read_tokenizer(folder, str(text))
    tokenizer.model_max_length = max_text_length(tokenizer, tower.config, tower)
    return tower, tokenizer


def _read_decoder(folder: Path, name: str, fusion: str | None) -> _Decoder:
    """Load the language model, with cross-attention layers if its fusion needs them."""
    from transformers import AutoModelForCausalLM

    config = read_config(folder, name)
    decoder_class = AutoModelForCausalLM._model_mapping.get(type(config), None)
    if isinstance(decoder_class, tuple):
        decoder_class = decoder_class[0]
    if decoder_class is None or getattr(config, "is_encoder_decoder", False):
        raise Mismatch(
            f'The checkpoint "{name}" is a "{config.model_type}" model, which cannot generate '
            "text. Expected a causal language model (GPT-2, Llama, Qwen ...), or BERT or RoBERTa, "
            "which can be run as one."
        )
    can_cross = "encoder_hidden_states" in inspect.signature(decoder_class.forward).parameters
    fusion = fusion or ("cross_attention" if can_cross else "prefix")
    must_cross = fusion_class(fusion).needs_cross_attention
    if must_cross and not can_cross:
        raise InvalidInput(
            f'"{name}" has no cross-attention, which the fusion "{fusion}" needs; use "prefix".'
        )
    changes: dict[str, Any] = {"is_decoder": True} if hasattr(config, "is_decoder") else {}
    if can_cross:
        changes["add_cross_attention"] = must_cross
    model, info = read_model(folder, torch.float32, AutoModelForCausalLM, **changes)
    return _Decoder(model.eval(), fusion, _new_layers(model, info, name))


def _new_layers(model: Any, info: dict[str, Any], name: str) -> list[str]:
    """Describe the decoder's layers that the checkpoint lacks.

    Raises Mismatch if anything but cross-attention or the language head is missing."""
    missing = sorted(info["missing_keys"])
    cross_attention = [key for key in missing if any(part in key for part in _CROSS_ATTENTION_KEYS)]
    heads = [key for key in missing if key.startswith(_HEAD_PREFIXES)]
    check_weights(sorted(set(missing) - set(cross_attention) - set(heads)), [], info, name)
    layers = []
    if cross_attention:
        layers.append(
            f"the {len(cross_attention)} arrays of cross-attention in {type(model).__name__}"
        )
    if heads:
        modules = sorted({key.split(".")[0] for key in heads})
        layers.append(f"its language head ({', '.join(modules)})")
    return layers


def _state_width(tower: Any, image_processor: Any) -> int:
    """Return the width of a vision tower's states."""
    blank = Image.new("RGB", (64, 64))
    pixels = image_processor(images=[blank], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        states = tower(pixel_values=pixels).last_hidden_state
    return states.shape[1] if states.ndim == 4 else states.shape[2]  # (n, c, h, w) or (n, p, c)


def _special_tokens(tokenizer: Any, name: str) -> dict[str, int]:
    """Return the tokens that start, end and pad a text.

    Raises Mismatch for a tokenizer without an end token."""
    end = _first_token(tokenizer.eos_token_id, tokenizer.sep_token_id)
    if end is None:
        raise Mismatch(
            f'The tokenizer of "{name}" has no token that ends a text; set its eos_token or '
            "sep_token."
        )
    start = _first_token(tokenizer.bos_token_id, tokenizer.cls_token_id, end)
    pad = _first_token(tokenizer.pad_token_id, end)
    return {
        "decoder_start_token_id": start,
        **dict(zip(_SPECIAL_TOKENS, (start, end, pad), strict=True)),
    }


def _first_token(*token_ids: int | None) -> Any:
    return next((token_id for token_id in token_ids if token_id is not None), None)


def _warn_untrained(layers: list[str]) -> None:
    warnings.warn(
        f"Newly initialized and not yet trained: {'; '.join(layers)}. Train the generator before "
        "you use it: ravlm train generator",
        stacklevel=4,
    )
