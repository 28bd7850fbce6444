"""Text and images as inputs of an `ImageLlama`: what a Transformers processor does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ravlm.encoders.starter.backbones import ImageBackbone
from ravlm.encoders.starter.classes import ImageClasses
from ravlm.encoders.starter.config import StarterConfig
from ravlm.encoders.starter.preprocessing import load_pixels

GRID_SIZE = 5
"""The image's grid is averaged to this many cells a side; the mean of all is one more."""
IMAGE_TOKENS = 1 + GRID_SIZE**2
IMAGE_TOKEN = "<file_sep>"  # noqa: S105
"""A token of SmolLM2's vocabulary that no text contains; it takes the cells of an image."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}" + IMAGE_TOKEN + "{% else"
    " %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_NUM_CLASSES = 3
_MIN_PROBABILITY = 0.03
"""Classes less likely are not named."""


class ImageChatProcessor:
    """Turns prompts with image marks into token ids and image cells.

    Behind the cells of an image stand the names of its likeliest classes.
    """

    chat_template = CHAT_TEMPLATE
    image_token = IMAGE_TOKEN

    def __init__(self, tokenizer: Any, image_size: int = StarterConfig().image_size) -> None:
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.names_classes = True
        """Whether the classes are named; training leaves them out at times."""

    def __call__(
        self,
        text: Sequence[str],
        images: Sequence[Sequence[Image.Image]],
        **options: Any,
    ) -> dict[str, Tensor]:
        """Return "input_ids" and "attention_mask" (n, tokens), and "image_cells" of all images
        (images, 26, 1280). `options` are the tokenizer's."""
        cells, classes = self.describe([image for row in images for image in row])
        names = iter(classes)
        prompts = [self._expand(prompt, names) for prompt in text]
        options.pop("add_special_tokens", None)
        batch = self.tokenizer(
            prompts, add_special_tokens=False, return_token_type_ids=False, **options
        )
        return {**batch, "image_cells": torch.from_numpy(cells)}

    def describe(self, images: Sequence[Image.Image]) -> tuple[np.ndarray, list[str]]:
        """Return the cells (n, 26, 1280) of images, and the names of their classes."""
        pixels = np.stack([load_pixels(image, self.image_size) for image in images])
        grids, pooled = self._backbone.session.run(["grid", "pooled"], {"pixels": pixels})
        cells = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(grids), GRID_SIZE)
        rows = cells.flatten(2).transpose(1, 2).numpy()  # (n, 25, 1280)
        cells_of_images = np.concatenate([pooled[:, None], rows], axis=1)
        names = [
            ", ".join(name for name, p in row if p >= _MIN_PROBABILITY)
            for row in self._classes.most_likely(pooled, _NUM_CLASSES)
        ]
        return cells_of_images, names

    def _expand(self, prompt: str, class_names: Iterator[str]) -> str:
        """Replace each image mark by the tokens of its cells and the names of its classes."""
        first, *rest = prompt.split(IMAGE_TOKEN)
        parts = [first]
        for text in rest:
            names = next(class_names)
            label = f" ({names})" if names and self.names_classes else ""
            parts += [IMAGE_TOKEN * IMAGE_TOKENS, label, text]
        return "".join(parts)

    @cached_property
    def _backbone(self) -> ImageBackbone:
        return ImageBackbone()

    @cached_property
    def _classes(self) -> ImageClasses:
        return ImageClasses()
