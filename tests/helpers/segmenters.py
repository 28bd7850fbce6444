"""A tiny CLIPSeg and OWL-ViT of Transformers' own classes, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.encoder_checkpoints import EDGE, WIDTH, clip_tokenizer, randomize


def _towers(tokenizer: Any, max_length: int, dim: int) -> dict[str, Any]:
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = WIDTH | ends | {"vocab_size": len(tokenizer), "max_position_embeddings": max_length}
    return {"text_config": text, "vision_config": WIDTH | EDGE, "projection_dim": dim}


def clipseg(folder: Path) -> str:
    """Write a CLIPSeg with `save_pretrained` and return the folder."""
    from transformers import (
        CLIPSegConfig,
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        ViTImageProcessorPil,
    )

    tokenizer = clip_tokenizer()
    model = CLIPSegForImageSegmentation(
        CLIPSegConfig(
            **_towers(tokenizer, 77, 16),
            extract_layers=[0, 1],
            reduce_dim=16,
            decoder_num_attention_heads=4,
            decoder_intermediate_size=24,
        )
    )
    CLIPSegProcessor(
        ViTImageProcessorPil(size={"height": 32, "width": 32}), tokenizer
    ).save_pretrained(folder)
    randomize(model).save_pretrained(folder)
    return str(folder)


def owlvit(folder: Path) -> str:
    """Write an OWL-ViT with `save_pretrained` and return the folder."""
    from transformers import (
        OwlViTConfig,
        OwlViTForObjectDetection,
        OwlViTImageProcessorPil,
        OwlViTProcessor,
    )

    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = 16
    model = OwlViTForObjectDetection(OwlViTConfig(**_towers(tokenizer, 16, 32)))
    OwlViTProcessor(
        OwlViTImageProcessorPil(size={"height": 32, "width": 32}), tokenizer
    ).save_pretrained(folder)
    randomize(model).save_pretrained(folder)
    return str(folder)
