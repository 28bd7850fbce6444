"""Tiny segmenters, made with Transformers' own classes: a CLIPSeg and an OWL-ViT whose weights
nobody trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.encoder_checkpoints import EDGE, WIDTH, clip_tokenizer, spread


def _towers(words: Any, pieces: int, shared: int) -> dict[str, Any]:
    ends = {
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    text = WIDTH | ends | {"vocab_size": len(words), "max_position_embeddings": pieces}
    return {"text_config": text, "vision_config": WIDTH | EDGE, "projection_dim": shared}


def clipseg(folder: Path) -> str:
    """CLIPSeg, as `save_pretrained` leaves it."""
    from transformers import (
        CLIPSegConfig,
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        ViTImageProcessorPil,
    )

    words = clip_tokenizer()
    model = CLIPSegForImageSegmentation(
        CLIPSegConfig(
            **_towers(words, 77, 16), extract_layers=[0, 1], reduce_dim=16, decoder_num_attention_heads=4,
            decoder_intermediate_size=24,
        )
    )  # fmt: skip
    CLIPSegProcessor(ViTImageProcessorPil(size={"height": 32, "width": 32}), words).save_pretrained(
        folder
    )
    spread(model).save_pretrained(folder)
    return str(folder)


def owlvit(folder: Path) -> str:
    """OWL-ViT, as `save_pretrained` leaves it."""
    from transformers import (
        OwlViTConfig,
        OwlViTForObjectDetection,
        OwlViTImageProcessorPil,
        OwlViTProcessor,
    )

    words = clip_tokenizer()
    words.model_max_length = 16
    model = OwlViTForObjectDetection(OwlViTConfig(**_towers(words, 16, 32)))
    OwlViTProcessor(
        OwlViTImageProcessorPil(size={"height": 32, "width": 32}), words
    ).save_pretrained(folder)
    spread(model).save_pretrained(folder)
    return str(folder)
