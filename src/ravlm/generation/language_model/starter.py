"""SmolLM2 with image tokens and an adapter of `recipes.starter_language_model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ravlm import runtime
from ravlm.encoders.hub_files import quiet
from ravlm.encoders.transformers_io import read_config, read_tokenizer
from ravlm.generation.chat.adapters import merge_adapter
from ravlm.generation.chat.model import ChatModel
from ravlm.generation.language_model import smollm2
from ravlm.generation.language_model.modeling import ImageLlama, ImageLlamaConfig
from ravlm.generation.language_model.processing import (
    IMAGE_TOKEN,
    IMAGE_TOKENS,
    ImageChatProcessor,
)

BASE = smollm2.PACKAGE
"""What an adapter names as its base model."""


class StarterChatModel(ChatModel):
    """A chat model that was trained on ravlm's tasks: its prompts carry no instructions."""

    needs_instructions = False


def load_starter(adapter: Path) -> ChatModel:
    """Load SmolLM2 with `adapter` (LoRA weights and the image projection) merged into its weights.

    Raises what `smollm2.checkpoint_folder` raises, Mismatch for an adapter that does not fit.
    """
    network, tokenizer = base_model(runtime.inference_dtype(runtime.device()))
    network = merge_adapter(network, adapter)
    folders = [smollm2.checkpoint_folder(), adapter]
    return StarterChatModel(network, tokenizer, ImageChatProcessor(tokenizer), "starter", folders)


def base_model(dtype: torch.dtype) -> tuple[ImageLlama, Any]:
    """Return SmolLM2 with an image projection that is not trained yet, and its tokenizer."""
    folder = smollm2.checkpoint_folder()
    tokenizer = read_tokenizer(folder, "SmolLM2")
    config = ImageLlamaConfig(**read_config(folder, "SmolLM2").to_dict())
    config.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    config.image_tokens = IMAGE_TOKENS
    with quiet():
        network = ImageLlama.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    return network, tokenizer
