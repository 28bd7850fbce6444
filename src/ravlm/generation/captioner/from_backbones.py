"""A fused generator put together from parts of Transformers: a language model, a vision tower, a
text tower.

A decoder whose class has cross-attention (BERT, GPT-2, RoBERTa ...) looks at picture and evidence
through it; any other causal language model is shown them as tokens before its words. What is new is
drawn at random and named in a warning: such a generator has to be trained. Knows no knowledge base.
"""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ravlm.encoders.transformers_io import (
    check_weights,
    read_config,
    read_image_processor,
    read_model,
    read_tokenizer,
    max_text_length,
)
from ravlm.encoders.hub_files import find_folder
from ravlm.encoders.vision_text_dual import read_backbone
from ravlm.errors import InvalidInput, Mismatch
from ravlm.fusion import check_fusion, fusion_class
from ravlm.fusion.cross_attention import gate_cross_attention
from ravlm.generation.base import Generator
from ravlm.generation.captioner.configuration import CaptionerConfig
from ravlm.generation.captioner.generator import CaptionerGenerator, CaptionerSettings
from ravlm.generation.captioner.modeling import CaptionerModel
from ravlm.generation.captioner.processing import ProcessorSources

_CROSSING = ("crossattention", "ln_cross_attn")
"""What Transformers calls the cross-attention layers of a decoder."""
_HEADS = ("cls.", "lm_head.")
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
Name = str | Path


def assemble(
    language: Name,
    vision: Name,
    text: Name | None = None,
    fusion: str | None = None,
    others: Generator | None = None,
    seed: int = 0,
) -> CaptionerGenerator:
    """A generator of pretrained parts, each a folder or a hub name, its new layers drawn at random
    from `seed`.

    `language` writes; `vision` makes the picture's states; `text` reads the evidence and stays as
    it is (without one, evidence enters by the language model's own embeddings). `fusion`: one of
    FUSIONS; by default cross-attention where the language model has it, else the prompt. `others`:
    who does what is not captioning.

    Raises NotFound, BrokenData or Mismatch for a part that does not fit, InvalidInput for an
    unknown fusion."""
    folder = find_folder(language)
    fusion = check_fusion(fusion) if fusion else None
    decoder, fusion, new = _decoder(folder, str(language), fusion)
    eye, _ = read_backbone(find_folder(vision), str(vision), "image")
    processor = read_image_processor(find_folder(vision), str(vision))
    tokenizer = read_tokenizer(folder, str(language))
    reader = reading = None
    if text is not None:
        reader, _ = read_backbone(find_folder(text), str(text), "text")
        reading = read_tokenizer(find_folder(text), str(text))
        reading.model_max_length = max_text_length(reading, reader.config, reader)
    torch.manual_seed(seed)
    model = CaptionerModel(
        CaptionerConfig(
            decoder=decoder.config.to_dict(),
            vision=eye.config.to_dict(),
            text=reader.config.to_dict() if reader is not None else None,
            fusion=fusion,
            image_width=_width(eye, processor),
            evidence_width=reader.config.hidden_size if reader is not None else 0,
        )
    )
    if fusion_class(fusion).needs_cross_attention:
        gate_cross_attention(decoder)
    for ours, theirs in (
        (model.decoder, decoder),
        (model.encoder.vision, eye),
        (model.encoder.text, reader),
    ):
        if ours is not None and theirs is not None:
            ours.load_state_dict(theirs.state_dict())
    if model.encoder.text is not None:
        model.encoder.text.requires_grad_(False)
    model.generation_config.update(**_marks(tokenizer, str(language)))
    _warn([*new, "the projections of picture and evidence"])
    settings = CaptionerSettings(sources="processor", beams=3)
    return CaptionerGenerator(
        model, tokenizer, ProcessorSources(processor, tokenizer, reading), settings, others
    )


def _decoder(folder: Path, name: str, fusion: str | None) -> tuple[Any, str, list[str]]:
    """The language model in fp32, how it is fused, and what of it is new."""
    from transformers import AutoModelForCausalLM

    config = read_config(folder, name)
    kind = AutoModelForCausalLM._model_mapping.get(type(config), None)
    kind = kind[0] if isinstance(kind, tuple) else kind
    if kind is None or getattr(config, "is_encoder_decoder", False):
        raise Mismatch(
            f'The checkpoint "{name}" is of the kind "{config.model_type}", which can\'t write; needed is a causal '
            "language model (GPT-2, Llama, Qwen ...), or BERT or RoBERTa, which are run as one."
        )
    crosses = "encoder_hidden_states" in inspect.signature(kind.forward).parameters
    fusion = fusion or ("cross_attention" if crosses else "prefix")
    if fusion_class(fusion).needs_cross_attention and not crosses:
        raise InvalidInput(
            f'"{name}" has no cross-attention, so the fusion can\'t be "{fusion}"; take "prefix".'
        )
    changes: dict[str, Any] = {"is_decoder": True} if hasattr(config, "is_decoder") else {}
    if crosses:
        changes["add_cross_attention"] = fusion_class(fusion).needs_cross_attention
    model, info = read_model(folder, torch.float32, AutoModelForCausalLM, **changes)
    lacking = sorted(info["missing_keys"])
    layers = [key for key in lacking if any(part in key for part in _CROSSING)]
    heads = [key for key in lacking if key.startswith(_HEADS)]
    check_weights(sorted(set(lacking) - set(layers) - set(heads)), [], info, name)
    new = (
        [f"the {len(layers)} arrays of cross-attention in {type(model).__name__}"] if layers else []
    )
    new += (
        [f"its language head ({', '.join(sorted({key.split('.')[0] for key in heads}))})"]
        if heads
        else []
    )
    return model.eval(), fusion, new


def _width(eye: Any, processor: Any) -> int:
    """How wide the states of a vision tower are."""
    pixels = processor(images=[Image.new("RGB", (64, 64))], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        states = eye(pixel_values=pixels).last_hidden_state
    return states.shape[1] if states.ndim == 4 else states.shape[2]


def _marks(tokenizer: Any, name: str) -> dict[str, int]:
    """Which tokens begin, end and fill a text. Raises Mismatch for a tokenizer that can't end
    one."""
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if end is None:
        raise Mismatch(
            f'The tokenizer of "{name}" has no token that ends a text (eos or sep); give it one.'
        )
    begin = next(
        (i for i in (tokenizer.bos_token_id, tokenizer.cls_token_id) if i is not None), end
    )
    fill = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    return {"decoder_start_token_id": begin, **dict(zip(_SPECIAL, (begin, end, fill), strict=True))}


def _warn(new: list[str]) -> None:
    warnings.warn(
        f"New and not yet trained: {'; '.join(new)}. Train the generator before you trust its words: "
        "ravlm train generator",
        stacklevel=4,
    )
