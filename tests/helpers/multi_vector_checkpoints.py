"""Tiny late-interaction checkpoints of Transformers' own classes, as `save_pretrained` writes them:
width 32, vectors of length 16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.chat_checkpoints import TEXT_CONFIG, VISION_CONFIG, seeded, tokenizer
from tests.helpers.encoder_checkpoints import WIDTH
from tests.helpers.family_checkpoints import SQUARE, TILE

DIM = 16


def _save(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def colpali(folder: Path) -> Path:
    """ColPali: PaliGemma, 16 tokens per image and its prompt."""
    from transformers import (
        ColPaliConfig,
        ColPaliForRetrieval,
        ColPaliProcessor,
        PaliGemmaConfig,
        SiglipImageProcessorPil,
    )

    words = tokenizer(
        ["<pad>", "<bos>", "<image>", "<eos>"],
        bos_token="<bos>",
        extra_special_tokens={"image_token": "<image>"},
    )
    pictures = SiglipImageProcessorPil(size=SQUARE)
    pictures.image_seq_length = 16
    processor = ColPaliProcessor(pictures, words)
    vlm = PaliGemmaConfig(
        text_config=TEXT_CONFIG | {"model_type": "gemma", "vocab_size": len(words)},
        vision_config=TILE | {"model_type": "siglip_vision_model", "vision_use_head": False},
        projection_dim=32, hidden_size=32, vocab_size=len(words),
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    config = ColPaliConfig(vlm_config=vlm, embedding_dim=DIM)
    return _save(folder, seeded(lambda: ColPaliForRetrieval(config)), processor)


def colqwen2(folder: Path, version: str = "2") -> Path:
    """ColQwen2: Qwen2-VL or 2.5, as many tokens as the image has patches."""
    from transformers import (
        ColQwen2Config,
        ColQwen2ForRetrieval,
        ColQwen2Processor,
        Qwen2_5_VLConfig,
        Qwen2VLConfig,
        Qwen2VLImageProcessorPil,
    )

    names = ["vision_start", "vision_end", "image_pad", "video_pad"]
    words = tokenizer(
        ["<|endoftext|>", "<|im_start|>", *(f"<|{name}|>" for name in names), "<|im_end|>"]
    )
    ids = {
        f"{name}_token_id".replace("_pad", ""): words.convert_tokens_to_ids(f"<|{name}|>")
        for name in names
    }
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = TEXT_CONFIG | {"vocab_size": len(words), "rope_parameters": rope}
    vision: dict[str, Any] = {"depth": 1, "num_heads": 2, "patch_size": 8, "hidden_size": 32}
    if version == "2":
        vision |= {"embed_dim": 32, "mlp_ratio": 2}
        vlm: Any = Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
    else:
        vision |= {"out_hidden_size": 32, "intermediate_size": 48, "fullatt_block_indexes": [0]}
        vlm = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    pictures = Qwen2VLImageProcessorPil(patch_size=8, min_pixels=256, max_pixels=4096)
    config = ColQwen2Config(vlm_config=vlm, embedding_dim=DIM)
    model = seeded(lambda: ColQwen2ForRetrieval(config))
    return _save(folder, model, ColQwen2Processor(pictures, words))


def colqwen2_5(folder: Path) -> Path:
    """The same with the vision model of Qwen2.5-VL."""
    return colqwen2(folder, "2.5")


def colmodernvbert(folder: Path) -> Path:
    """ColModernVBERT: SigLIP and ModernBERT, 4 tokens per tile."""
    from transformers import (
        ColModernVBertConfig,
        ColModernVBertForRetrieval,
        ColModernVBertProcessor,
        Idefics3ImageProcessorPil,
        ModernVBertConfig,
    )

    tiles = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    names = ["<image>", "<fake_token_around_image>", "<global-img>", *tiles]
    words = tokenizer(["<pad>", "<|begin_of_text|>", *names, "<end_of_utterance>"])
    ends = {f"{name}_token_id": words.eos_token_id for name in ("bos", "eos", "cls", "sep")} | {
        "pad_token_id": words.pad_token_id
    }
    vlm = ModernVBertConfig(
        text_config=WIDTH | ends | {
            "model_type": "modernbert", "vocab_size": len(words), "max_position_embeddings": 2048,
        },
        vision_config=VISION_CONFIG | {
            "model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8,
            "vision_use_head": False,
        },
        pixel_shuffle_factor=2, image_token_id=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    pictures = Idefics3ImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    processor = ColModernVBertProcessor(pictures, words, image_seq_len=4)
    config = ColModernVBertConfig(vlm_config=vlm, embedding_dim=DIM)
    return _save(folder, seeded(lambda: ColModernVBertForRetrieval(config)), processor)


LATE_INTERACTION = {
    "colpali": colpali,
    "colqwen2": colqwen2,
    "colqwen2_5": colqwen2_5,
    "colmodernvbert": colmodernvbert,
}
