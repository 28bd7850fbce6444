"""A causal language model that sees: a Llama whose prompt may hold image tokens.

As in LLaVA (Liu et al. 2023, arXiv:2304.08485), a small network maps features of the image's cells
to the width of word embeddings; they take the places of the image tokens in the prompt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM


class ImageLlamaConfig(LlamaConfig):
    """A Llama configuration with the shape of its images."""

    model_type = "ravlm-image-llama"

    image_width: int = 1280
    """Width of an image's cells."""
    image_tokens: int = 26
    """Tokens per image."""
    image_token_id: int = 0


class ImageProjection(nn.Module):
    """Cells of images (n, image_tokens, image_width) to embeddings (n, image_tokens, width)."""

    def __init__(self, config: ImageLlamaConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.norm = nn.LayerNorm(config.image_width)
        self.inner = nn.Linear(config.image_width, width)
        self.outer = nn.Linear(width, width)
        self.positions = nn.Embedding(config.image_tokens, width)

    def forward(self, cells: Tensor) -> Tensor:
        hidden = nn.functional.gelu(self.inner(self.norm(cells)))
        return self.outer(hidden) + self.positions.weight


class ImageLlama(LlamaForCausalLM):
    """A Llama with `image_projection`."""

    config_class = ImageLlamaConfig

    def __init__(self, config: ImageLlamaConfig) -> None:
        super().__init__(config)
        self.image_projection = ImageProjection(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        image_cells: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Like `LlamaForCausalLM.forward`, with the cells of all images of the batch, in order:
        (images, image_tokens, image_width). Every image token in `input_ids` takes one cell."""
        if image_cells is not None and input_ids is not None:
            is_image = input_ids == self.config.image_token_id  # (n, tokens)
            if is_image.any():  # not after the prompt, when tokens are generated
                inputs_embeds = self.model.embed_tokens(input_ids)
                images = self.image_projection(image_cells.to(self.image_projection.norm.weight))
                images = images.to(inputs_embeds.dtype).flatten(0, 1)
                inputs_embeds = inputs_embeds.masked_scatter(is_image[..., None], images)
                input_ids = None
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **options)


def initial_projection(config: ImageLlamaConfig, seed: int = 0) -> dict[str, Tensor]:
    """Return weights of an `ImageProjection` whose output is as large as word embeddings."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        projection = ImageProjection(config)
        nn.init.normal_(projection.positions.weight, std=0.02)
        nn.init.normal_(projection.outer.weight, std=0.1 * config.hidden_size**-0.5)
        nn.init.zeros_(projection.outer.bias)
    return projection.state_dict()
