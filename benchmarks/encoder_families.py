"""The families of encoders and of their backbones, measured for benchmarks.families."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.family_figures import TOLERANCE, Family, Figures, draw_images, learns
from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Encoder
from ravlm.encoders.hub_files import quiet
from ravlm.encoders.image_processing import ImageProcessor
from ravlm.encoders.torch_encoder import TorchEncoder
from ravlm.encoders.transformers_io import encoder_class, read_image_processor
from ravlm.encoders.vision_text_dual import VisionTextDualEncoder, VisionTextDualTowers
from ravlm.records import Pair
from ravlm.training.contrastive import EncoderTrainingConfig
from ravlm.training.torch_towers import TowerStep
from tests.helpers import (
    chat_checkpoints,
    embedder_checkpoints,
    encoder_checkpoints,
    family_checkpoints,
)

_TEXTS = ("a cat", "two children at sea")
_CHAT = chat_checkpoints.CHAT_MODELS
_VISION = family_checkpoints.VISION
DUAL_ENCODERS = {
    "clip": Family("CLIP", encoder_checkpoints.clip),
    "siglip": Family("SigLIP", encoder_checkpoints.siglip),
    "siglip2": Family("SigLIP 2", encoder_checkpoints.siglip2),
    "siglip2_fixed": Family("SigLIP 2 of a fixed size", embedder_checkpoints.siglip2_fixed),
    "chinese_clip": Family("Chinese-CLIP", encoder_checkpoints.chinese_clip),
    "qwen3_vl_embedding": Family("Qwen3-VL-Embedding", embedder_checkpoints.qwen3_vl_embedding),
}
IMAGE_BACKBONES = {
    "vit": Family("ViT", encoder_checkpoints.vit),
    "dinov2": Family("DINOv2", encoder_checkpoints.dinov2),
    "beit": Family("BEiT", _VISION["beit"]),
    "vit_mae": Family("ViT-MAE", _VISION["vit_mae"]),
    "swin": Family("Swin", _VISION["swin"]),
    "convnext": Family("ConvNeXt", encoder_checkpoints.convnext),
    "resnet": Family("ResNet", _VISION["resnet"]),
    "efficientnet": Family("EfficientNet", _VISION["efficientnet"]),
    "regnet": Family("RegNet", _VISION["regnet"]),
    "mobilenet_v2": Family("MobileNet V2", _VISION["mobilenet_v2"]),
    "clip_tower": Family("CLIP, its image tower", encoder_checkpoints.clip),
}
TEXT_BACKBONES = {
    "bert": Family("BERT", encoder_checkpoints.bert),
    "roberta": Family("RoBERTa", encoder_checkpoints.roberta),
    "modernbert": Family("ModernBERT", encoder_checkpoints.modernbert),
    "t5_encoder": Family("T5, its encoder", family_checkpoints.t5),
    "decoder": Family("Qwen2 and other decoders", _CHAT["qwen2"]),
}


def measure_dual_encoder(family: Family, folder: Path) -> Figures:
    """Measure an encoder of images and texts in fp32, compared with its own network."""
    encoder = DualEncoder.load(family.write(folder))
    images = draw_images()
    if not isinstance(encoder, TorchEncoder):
        states = embedder_checkpoints.last_token_states(folder, images)
        return _encoder_figures(family, encoder, images, states)
    from transformers import AutoModel, AutoProcessor

    with quiet():
        network = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    rows = []
    with torch.inference_mode():
        for image in images:
            inputs = processor.image_processor(images=[image], return_tensors="pt")
            output = network.get_image_features(**inputs)
            vector = getattr(output, "pooler_output", output)
            rows.append(torch.nn.functional.normalize(vector, dim=-1).numpy())
    return _encoder_figures(family, encoder, images, np.concatenate(rows))


def measure_image_backbone(family: Family, folder: Path) -> Figures:
    """Measure an image model as half of an encoder, with a linear head, in fp32."""
    text = encoder_checkpoints.bert(folder / "text")
    encoder = DualEncoder.from_backbones(family.write(folder / "image"), text, dim=12)
    assert isinstance(encoder, VisionTextDualEncoder)
    images = draw_images()
    from transformers import AutoModel

    with quiet():
        network = AutoModel.from_pretrained(folder / "image", dtype=torch.float32).eval()
    network = getattr(network, "vision_model", network)
    if hasattr(network.config, "mask_ratio"):
        network.config.mask_ratio = 0.0
    processor = ImageProcessor(read_image_processor(folder / "image", family.models))
    model: Any = encoder.model
    rows = []
    with torch.inference_mode():
        for image in images:
            inputs = processor.collate(
                [processor.preprocess(image)], torch.device("cpu"), torch.float32
            )
            output = network(**inputs)
            if model.config.image_pooler:
                pooled = output.pooler_output.flatten(1)
            else:
                pooled = output.last_hidden_state.mean(1)
            rows.append(torch.nn.functional.normalize(model.image_head(pooled), dim=-1))
    return _encoder_figures(family, encoder, images, torch.cat(rows).numpy())


def measure_text_backbone(family: Family, folder: Path) -> Figures:
    """Measure a text model as half of an encoder, with a linear head, in fp32."""
    image, text = encoder_checkpoints.vit(folder / "image"), family.write(folder / "text")
    encoder = DualEncoder.from_backbones(image, text, dim=12)
    assert isinstance(encoder, VisionTextDualEncoder)
    from transformers import AutoConfig, AutoTokenizer

    auto_class = encoder_class(AutoConfig.from_pretrained(text))
    with quiet():
        network = auto_class.from_pretrained(text, dtype=torch.float32).eval()
    tokenizer, model = AutoTokenizer.from_pretrained(text), encoder.model
    assert isinstance(model, VisionTextDualTowers)
    rows = []
    with torch.inference_mode():
        for sentence in _TEXTS:
            ids = tokenizer(sentence)["input_ids"]
            if family.write is _CHAT["qwen2"]:
                states = network(torch.tensor([[*ids, tokenizer.eos_token_id]])).last_hidden_state
                pooled = states[:, -1]
            else:
                pooled = network(torch.tensor([ids])).last_hidden_state.mean(1)
            rows.append(torch.nn.functional.normalize(model.text_head(pooled), dim=-1))
    images, expected = draw_images(), torch.cat(rows).numpy()
    is_equal = bool(np.abs(encoder.encode_texts(_TEXTS) - expected).max() < TOLERANCE)
    figures = _encoder_figures(family, encoder, images, encoder.encode_images(images))
    return replace(figures, equal=is_equal, sees=None)


def _encoder_figures(
    family: Family, encoder: Encoder, images: Sequence[Image.Image], expected: np.ndarray
) -> Figures:
    vectors = encoder.encode_images(images)
    singles = np.concatenate([encoder.encode_images([image]) for image in images])
    text_singles = np.concatenate([encoder.encode_texts([text]) for text in _TEXTS])
    batch_error = max(
        np.abs(vectors - singles).max(), np.abs(encoder.encode_texts(_TEXTS) - text_singles).max()
    )
    trains: bool | None = None
    if isinstance(encoder, TorchEncoder):
        trains = learns(TowerStep(encoder, _pairs(images), EncoderTrainingConfig(batch_size=3)))
    return Figures(
        family.models,
        loads=True,
        equal=bool(np.abs(vectors - expected).max() < TOLERANCE),
        batch=bool(batch_error < TOLERANCE),
        sees=bool(np.abs(vectors[0] - vectors[1]).max() > 1e-5),
        trains=trains,
    )


def _pairs(images: Sequence[Image.Image]) -> list[Pair]:
    texts = ("a cat", "two children", "a castle of sand")
    return [Pair(image, (text,)) for image, text in zip(images, texts, strict=True)]
