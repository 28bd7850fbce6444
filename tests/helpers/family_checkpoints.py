"""Tiny checkpoints of more families of Transformers: vision models, chat models, and models that
have a prompt form in place of a chat template.

Each function writes a folder as `save_pretrained` does. See `chat_checkpoints` for the models that
most tests use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.chat_checkpoints import (
    CHATML,
    GEMMA,
    TEXT_CONFIG,
    VISION_CONFIG,
    save,
    seeded,
    tokenizer,
    write_processor_name,
)
from tests.helpers.encoder_checkpoints import WIDTH, bert_tokenizer, randomize

SQUARE = {"height": 32, "width": 32}
TILE = VISION_CONFIG | {"image_size": 32, "patch_size": 8}
QFORMER = WIDTH | {"encoder_hidden_size": 32, "cross_attention_frequency": 1}
LLAMA = TEXT_CONFIG | {"model_type": "llama"}
T5 = {
    "model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
    "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip


# Vision models


def _save_vision(folder: Path, model: Any, processor: Any) -> Path:
    import torch

    randomize(model)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # small ones would hide the image
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def resnet(folder: Path) -> Path:
    """ResNet: batch normalization; its pooler has no weights and cannot be left out."""
    from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.875)
    return _save_vision(folder, ResNetForImageClassification(config), processor)


def efficientnet(folder: Path) -> Path:
    """EfficientNet, which is as ResNet in this."""
    from transformers import (
        EfficientNetConfig,
        EfficientNetForImageClassification,
        EfficientNetImageProcessorPil,
    )

    config = EfficientNetConfig(
        image_size=32, width_coefficient=0.1, depth_coefficient=0.3, hidden_dim=128,
        in_channels=[32, 16], out_channels=[16, 24], kernel_sizes=[3, 3], strides=[1, 2],
        num_block_repeats=[1, 1], expand_ratios=[1, 2], depthwise_padding=[],
    )  # fmt: skip
    processor = EfficientNetImageProcessorPil(size=SQUARE)
    return _save_vision(folder, EfficientNetForImageClassification(config), processor)


def regnet(folder: Path) -> Path:
    """RegNet."""
    from transformers import ConvNextImageProcessorPil, RegNetConfig, RegNetModel

    config = RegNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=8)
    return _save_vision(
        folder, RegNetModel(config), ConvNextImageProcessorPil(size={"shortest_edge": 32})
    )


def mobilenet(folder: Path) -> Path:
    """MobileNet V2, a fiftieth as wide."""
    from transformers import (
        MobileNetV2Config,
        MobileNetV2ForImageClassification,
        MobileNetV2ImageProcessorPil,
    )

    config = MobileNetV2Config(image_size=32, depth_multiplier=0.1, finegrained_output=False)
    processor = MobileNetV2ImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)
    return _save_vision(folder, MobileNetV2ForImageClassification(config), processor)


def swin(folder: Path) -> Path:
    """Swin: windows that are merged from stage to stage."""
    from transformers import SwinConfig, SwinForImageClassification, ViTImageProcessorPil

    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
    )
    return _save_vision(
        folder, SwinForImageClassification(config), ViTImageProcessorPil(size=SQUARE)
    )


def beit(folder: Path) -> Path:
    """BEiT, whose configuration has a vocabulary: of visual words."""
    from transformers import BeitConfig, BeitForImageClassification, BeitImageProcessorPil

    config = BeitConfig(**WIDTH, image_size=32, patch_size=8)
    processor = BeitImageProcessorPil(size=SQUARE, crop_size=SQUARE)
    return _save_vision(folder, BeitForImageClassification(config), processor)


def vit_mae(folder: Path) -> Path:
    """ViT-MAE, which hides three quarters of the patches at random."""
    from transformers import ViTImageProcessorPil, ViTMAEConfig, ViTMAEForPreTraining

    config = ViTMAEConfig(
        **WIDTH, image_size=32, patch_size=8, decoder_hidden_size=16,
        decoder_num_attention_heads=2, decoder_num_hidden_layers=1, decoder_intermediate_size=16,
    )  # fmt: skip
    return _save_vision(folder, ViTMAEForPreTraining(config), ViTImageProcessorPil(size=SQUARE))


VISION = {
    "resnet": resnet,
    "efficientnet": efficientnet,
    "regnet": regnet,
    "mobilenet_v2": mobilenet,
    "swin": swin,
    "beit": beit,
    "vit_mae": vit_mae,
}


# Chat models


def mistral3(folder: Path, text: Sequence[str] = ()) -> Path:
    """Mistral 3: images of any size, as Pixtral; its processor needs torchvision."""
    from transformers import (
        Mistral3Config,
        Mistral3ForConditionalGeneration,
        PixtralImageProcessorPil,
    )

    names = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    words = tokenizer(["<pad>", "<|im_start|>", *names, "<|im_end|>"], text)
    config = Mistral3Config(
        text_config=TEXT_CONFIG | {"model_type": "mistral", "vocab_size": len(words)},
        vision_config=TILE | {"model_type": "pixtral", "num_channels": 3, "head_dim": 16},
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
    )
    pictures = PixtralImageProcessorPil(
        size={"longest_edge": 32}, patch_size={"height": 8, "width": 8}
    )
    model = seeded(lambda: Mistral3ForConditionalGeneration(config))
    save(folder, model, CHATML.replace("PICTURE", "[IMG]"), words, pictures)
    return write_processor_name(folder, "PixtralProcessor", patch_size=8, spatial_merge_size=2)


def pixtral(folder: Path, text: Sequence[str] = ()) -> Path:
    """Pixtral: a LLaVA with Pixtral's vision tower and processor."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration, PixtralImageProcessorPil

    names = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    words = tokenizer(["<pad>", "<|im_start|>", *names, "<|im_end|>"], text)
    config = LlavaConfig(
        text_config=TEXT_CONFIG | {"model_type": "mistral", "vocab_size": len(words)},
        vision_config=TILE | {"model_type": "pixtral", "num_channels": 3, "head_dim": 16},
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1, vision_feature_select_strategy="full",
    )  # fmt: skip
    pictures = PixtralImageProcessorPil(
        size={"longest_edge": 32}, patch_size={"height": 8, "width": 8}
    )
    model = seeded(lambda: LlavaForConditionalGeneration(config))
    save(folder, model, CHATML.replace("PICTURE", "[IMG]"), words, pictures)
    return write_processor_name(folder, "PixtralProcessor", patch_size=8)


def gemma4(folder: Path, text: Sequence[str] = ()) -> Path:
    """Gemma 4: its processor wants parts for audio and video."""
    from transformers import (
        Gemma4Config,
        Gemma4ForConditionalGeneration,
        Gemma4ImageProcessorPil,
    )

    also = {
        "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>",
        "audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>",
    }  # fmt: skip
    words = tokenizer(
        ["<pad>", "<bos>", "<start_of_turn>", *also.values(), "<|video|>", "<end_of_turn>"],
        text,
        bos_token="<bos>",
        extra_special_tokens=also,
    )
    places = {name: words.convert_tokens_to_ids(token) for name, token in also.items()}
    text_config = TEXT_CONFIG | {
        "vocab_size": len(words), "vocab_size_per_layer_input": len(words),
        "hidden_size_per_layer_input": 8, "global_head_dim": 8,
    }  # fmt: skip
    config = Gemma4Config(
        text_config=text_config,
        vision_config=VISION_CONFIG | {
            "num_key_value_heads": 2, "head_dim": 16, "patch_size": 16, "pooling_kernel_size": 3,
            "position_embedding_size": 64, "default_output_length": 70,
        },
        audio_config=None, image_token_id=places["image_token"], boi_token_id=places["boi_token"],
        eoi_token_id=places["eoi_token"], audio_token_id=places["audio_token"],
        video_token_id=words.convert_tokens_to_ids("<|video|>"),
    )  # fmt: skip
    template = GEMMA.replace("<start_of_image>", "<|image|>")
    model = seeded(lambda: Gemma4ForConditionalGeneration(config))
    save(folder, model, template, words, Gemma4ImageProcessorPil(max_soft_tokens=70))
    return write_processor_name(folder, "Gemma4Processor")


def internvl(folder: Path, text: Sequence[str] = ()) -> Path:
    """InternVL: tiles of GOT-OCR's image processor."""
    from transformers import (
        GotOcr2ImageProcessorPil,
        InternVLConfig,
        InternVLForConditionalGeneration,
    )

    names = {
        "start_image_token": "<img>", "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>",
    }  # fmt: skip
    words = tokenizer(
        ["<pad>", "<|im_start|>", *names.values(), "<|im_end|>"], text, extra_special_tokens=names
    )
    config = InternVLConfig(
        text_config=TEXT_CONFIG | {"model_type": "qwen2", "vocab_size": len(words)},
        vision_config=VISION_CONFIG | {"image_size": [32, 32], "patch_size": [8, 8]},
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=4,
    )  # fmt: skip
    pictures = GotOcr2ImageProcessorPil(size=SQUARE, crop_to_patches=False)
    model = seeded(lambda: InternVLForConditionalGeneration(config))
    save(folder, model, CHATML.replace("PICTURE", "<IMG_CONTEXT>"), words, pictures)
    return write_processor_name(folder, "InternVLProcessor", image_seq_length=4)


# Models with a prompt form


def paligemma(folder: Path, text: Sequence[str] = ()) -> Path:
    """PaliGemma: one image and a task in front, then the answer."""
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessorPil,
    )

    words = tokenizer(
        ["<pad>", "<bos>", "<image>", "<eos>"],
        text,
        bos_token="<bos>",
        extra_special_tokens={"image_token": "<image>"},
    )
    pictures = SiglipImageProcessorPil(size=SQUARE)
    pictures.image_seq_length = 16
    processor = PaliGemmaProcessor(pictures, words)
    config = PaliGemmaConfig(
        text_config=TEXT_CONFIG | {"model_type": "gemma", "vocab_size": len(words)},
        vision_config=TILE | {"model_type": "siglip_vision_model", "vision_use_head": False},
        projection_dim=32, hidden_size=32, vocab_size=len(words),
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = seeded(lambda: PaliGemmaForConditionalGeneration(config))
    return save(folder, model, "", words, processor)


def blip2(folder: Path, text: Sequence[str] = ()) -> Path:
    """BLIP-2 with OPT: images in the tokens of a Q-Former."""
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessorPil,
    )

    words = tokenizer(["<pad>", "<image>", "</s>"], text, bos_token="</s>")
    opt = {
        "model_type": "opt", "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 4000, "word_embed_proj_dim": 32,
    }  # fmt: skip
    config = Blip2Config(
        text_config=opt | {"vocab_size": len(words), "pad_token_id": 0},
        vision_config=TILE, qformer_config=QFORMER, num_query_tokens=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    processor = Blip2Processor(BlipImageProcessorPil(size=SQUARE), words, num_query_tokens=4)
    model = seeded(lambda: Blip2ForConditionalGeneration(config))
    return save(folder, model, "", words, processor)


def instructblip(folder: Path, text: Sequence[str] = ()) -> Path:
    """InstructBLIP with T5: the Q-Former reads the text, too, with a tokenizer of its own."""
    from transformers import (
        BlipImageProcessorPil,
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        InstructBlipProcessor,
    )

    words = tokenizer(["<pad>", "<image>", "</s>"], text)
    reader = bert_tokenizer()
    config = InstructBlipConfig(
        text_config=T5 | {"vocab_size": len(words)}, vision_config=TILE, num_query_tokens=4,
        qformer_config=QFORMER | {"vocab_size": len(reader)},
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    processor = InstructBlipProcessor(
        BlipImageProcessorPil(size=SQUARE), words, reader, num_query_tokens=4
    )
    model = seeded(lambda: InstructBlipForConditionalGeneration(config))
    return save(folder, model, "", words, processor)


def florence2(folder: Path, text: Sequence[str] = ()) -> Path:
    """Florence-2: an encoder-decoder that was trained on tasks, not on questions."""
    from transformers import (
        CLIPImageProcessorPil,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )

    words = tokenizer(
        ["<pad>", "<s>", "<image>", "</s>"],
        text,
        bos_token="<s>",
        extra_special_tokens={"image_token": "<image>"},
    )
    bart = {
        "model_type": "bart", "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48, "max_position_embeddings": 400, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": words.eos_token_id, "decoder_start_token_id": 3,
        "forced_eos_token_id": None,
    }  # fmt: skip
    config = Florence2Config(
        text_config=bart | {"vocab_size": len(words)},
        vision_config={
            "depths": [1, 1], "patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1],
            "patch_prenorm": [False, True], "embed_dim": [16, 32], "num_heads": [2, 4],
            "num_groups": [2, 4], "window_size": 4, "projection_dim": 32,
        },
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    pictures = CLIPImageProcessorPil(size=SQUARE, crop_size=SQUARE, do_center_crop=False)
    pictures.image_seq_length = 17
    processor = Florence2Processor(pictures, words)
    model = seeded(lambda: Florence2ForConditionalGeneration(config))
    return save(folder, model, "", words, processor)


def t5(folder: Path, text: Sequence[str] = ()) -> Path:
    """Flan-T5: text to text, with instructions in plain text."""
    from transformers import T5Config, T5ForConditionalGeneration

    words = tokenizer(["<pad>", "</s>"], text)
    config = T5Config(**T5, vocab_size=len(words), pad_token_id=0)
    return save(folder, seeded(lambda: T5ForConditionalGeneration(config)), "", words)


CHAT = {"mistral3": mistral3, "pixtral": pixtral, "gemma4": gemma4, "internvl": internvl}
PROMPTED = {
    "paligemma": paligemma,
    "blip2": blip2,
    "instructblip": instructblip,
    "florence2": florence2,
    "t5": t5,
}
