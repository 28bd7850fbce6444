"""Tiny checkpoints of the encoders of 2026: vision-language embedders, SigLIP 2 of a fixed size,
and models with another head, which are no encoders.

Each function writes a folder as its authors do. See `encoder_checkpoints` for the models that most
tests use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.chat_checkpoints import TEXT_CONFIG, seeded, tokenizer, write_processor_name
from tests.helpers.encoder_checkpoints import EDGE, WIDTH, clip_tokenizer, randomize

TEMPLATE = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nRepresent the user's input."
    "<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The chat template of Qwen3-VL-Embedding, without tools and videos."""
INSTRUCTIONS = {"query": "Find what the user describes.", "document": ""}
_VIDEO = {"video_processor_type": "Qwen3VLVideoProcessor", "patch_size": 8, "merge_size": 2}


def qwen3_vl_embedding(folder: Path, prompts: Mapping[str, str] = INSTRUCTIONS) -> Path:
    """Qwen3-VL-Embedding in the files of sentence-transformers: the last token's state, of chats.

    Like the published one, it names a video processor, which cannot be created without
    torchvision."""
    from transformers import Qwen2VLImageProcessorPil, Qwen3VLConfig, Qwen3VLModel

    names = ["vision_start", "vision_end", "image_pad", "video_pad"]
    words = tokenizer(
        ["<|endoftext|>", "<|im_start|>", *(f"<|{name}|>" for name in names), "<|im_end|>"]
    )
    ids = {
        f"{name}_token_id".replace("_pad", ""): words.convert_tokens_to_ids(f"<|{name}|>")
        for name in names
    }
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 8,
        "out_hidden_size": 32,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    config = Qwen3VLConfig(
        text_config=TEXT_CONFIG
        | {
            "vocab_size": len(words),
            "rope_parameters": rope | {"rope_theta": 1e4},
            "max_position_embeddings": 400,
        },
        vision_config=vision,
        **ids,
    )
    pictures = Qwen2VLImageProcessorPil(patch_size=8, min_pixels=256, max_pixels=4096)
    words.chat_template = TEMPLATE
    for part in (seeded(lambda: Qwen3VLModel(config)), words, pictures):
        part.save_pretrained(folder)
    write_processor_name(folder, "Qwen3VLProcessor")
    (folder / "video_preprocessor_config.json").write_text(json.dumps(_VIDEO))
    _write_modules(folder, prompts)
    return folder


def _write_modules(folder: Path, prompts: Mapping[str, str]) -> None:
    """Write the files of sentence-transformers: chats in, the normalized state of the last token
    out."""
    forward = {"method": "forward", "method_output_name": "last_hidden_state"}
    modules = [
        "base.modules.transformer.Transformer",
        "sentence_transformer.modules.pooling.Pooling",
    ]
    modules.append("base.modules.normalize.Normalize")
    paths = ["", "1_Pooling", "2_Normalize"]
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{name}"}
            for i, (path, name) in enumerate(zip(paths, modules, strict=True))
        ],
        "config_sentence_transformers.json": {
            "prompts": dict(prompts),
            "default_prompt_name": None,
            "model_type": "SentenceTransformer",
        },
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": {
                "text": forward,
                "image": forward,
                "message": forward | {"format": "structured"},
            },
            "module_output_name": "token_embeddings",
            "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
        },
        "1_Pooling/config.json": {"embedding_dimension": 32, "pooling_mode": "lasttoken"},
        "2_Normalize/config.json": {},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))


def last_token_states(folder: Path, contents: Sequence[Any], instruction: str = "") -> np.ndarray:
    """Return what the authors' own script computes, one input at a time: the state of the last
    token of a chat (n, width), of length 1."""
    import torch
    from transformers import AutoImageProcessor, AutoTokenizer, Qwen3VLModel

    network = Qwen3VLModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pictures = AutoImageProcessor.from_pretrained(folder, backend="pil")
    rows = []
    for content in contents:
        is_image = isinstance(content, Image.Image)
        part = {"type": "image"} if is_image else {"type": "text", "text": content}
        messages: list[dict[str, Any]] = [{"role": "user", "content": [part]}]
        if instruction:
            messages.insert(0, {"role": "system", "content": instruction})
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        inputs: dict[str, Any] = {}
        if is_image:
            inputs = dict(pictures(content, return_tensors="pt"))
            cells = int(inputs["image_grid_thw"][0].prod()) // 4
            text = text.replace("<|image_pad|>", "<|image_pad|>" * cells)
        inputs |= dict(tokenizer(text, return_tensors="pt"))
        is_image_token = inputs["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")
        with torch.no_grad():
            states = network(**inputs, mm_token_type_ids=is_image_token.int()).last_hidden_state
        rows.append(states[0, -1] / states[0, -1].norm())
    return torch.stack(rows).numpy()


def siglip2_fixed(folder: Path) -> Path:
    """SigLIP 2 of a fixed image size: SigLIP's classes, and Gemma's tokenizer, which keeps capital
    letters."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    words = tokenizer(["<pad>", "<bos>", "<eos>"], model_input_names=["input_ids"])
    text = WIDTH | {"vocab_size": len(words), "max_position_embeddings": 24, "projection_size": 32}
    config = SiglipConfig(text_config=text, vision_config=WIDTH | EDGE)
    words.model_max_length = 24
    pictures = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    for part in (randomize(SiglipModel(config)), words, pictures):
        part.save_pretrained(folder)
    return folder


def clipseg(folder: Path) -> Path:
    """CLIPSeg: a CLIP with a decoder that segments."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, ViTImageProcessorPil

    words = clip_tokenizer()
    text = WIDTH | {"vocab_size": len(words), "max_position_embeddings": 24}
    config = CLIPSegConfig(
        text_config=text, vision_config=WIDTH | EDGE, projection_dim=16, extract_layers=[0, 1],
        reduce_dim=8, decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    pictures = ViTImageProcessorPil(size={"height": 32, "width": 32})
    for part in (CLIPSegForImageSegmentation(config), words, pictures):
        part.save_pretrained(folder)
    return folder


def blip_retrieval(folder: Path) -> Path:
    """BLIP's model of image-text matching: one score for a pair."""
    from transformers import BlipConfig, BlipForImageTextRetrieval, BlipImageProcessorPil

    from tests.helpers.encoder_checkpoints import bert_tokenizer

    words = bert_tokenizer()
    text = WIDTH | {"vocab_size": len(words), "max_position_embeddings": 24, "bos_token_id": 2}
    text |= {"encoder_hidden_size": 32, "pad_token_id": 0, "sep_token_id": 3, "eos_token_id": 3}
    config = BlipConfig(text_config=text, vision_config=WIDTH | EDGE, image_text_hidden_size=16)
    pictures = BlipImageProcessorPil(size={"height": 32, "width": 32})
    for part in (BlipForImageTextRetrieval(config), words, pictures):
        part.save_pretrained(folder)
    return folder


def jina_clip(folder: Path) -> Path:
    """The configuration of Jina-CLIP: its classes are files next to its weights."""
    folder.mkdir(parents=True)
    classes = {
        "AutoConfig": "jinaai/jina-clip-implementation--configuration_clip.JinaCLIPConfig",
        "AutoModel": "jinaai/jina-clip-implementation--modeling_clip.JinaCLIPModel",
    }
    (folder / "config.json").write_text(
        json.dumps({"model_type": "jina_clip", "auto_map": classes})
    )
    return folder
