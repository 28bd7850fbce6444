"""A tiny InstructPix2Pix of diffusers' own classes: widths of 8 and 16, random weights."""

from __future__ import annotations

from pathlib import Path


def instruct_pix2pix(folder: Path) -> str:
    """Write the pipeline with `save_pretrained` and return the folder."""
    import torch
    from diffusers import (
        AutoencoderKL,
        PNDMScheduler,
        StableDiffusionInstructPix2PixPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    from tests.helpers.encoder_checkpoints import clip_tokenizer

    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    narrow = {"layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4}
    StableDiffusionInstructPix2PixPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            **narrow,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=1,
                num_attention_heads=2,
                vocab_size=len(tokenizer),
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        ),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=8,
            in_channels=8,
            out_channels=4,
            cross_attention_dim=16,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            **narrow,
        ),
        scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return str(folder)


def text_to_image(from_folder: str, folder: Path) -> str:
    """Write a text-to-image pipeline of the parts of `instruct_pix2pix`."""
    from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline

    parts = StableDiffusionInstructPix2PixPipeline.from_pretrained(from_folder).components
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(folder)
    return str(folder)
