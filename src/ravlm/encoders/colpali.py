"""Late-interaction checkpoints of Transformers: ColPali, ColQwen2 and 2.5, ColModernVBERT.

Their processors prepare images as documents and texts as queries, with tokens that augment them. A
text that is stored is prepared as a query without prefix and augmentation.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ravlm import runtime
from ravlm.data.images import load_image
from ravlm.data.parallel import batched, parallel_map
from ravlm.encoders.base import Role
from ravlm.encoders.hub_files import hash_weights, hash_with_files, small_files, weight_files
from ravlm.encoders.image_processing import ImageProcessor
from ravlm.encoders.multi_vector import MAX_TEXT_TOKENS, MultiVectorEncoder
from ravlm.encoders.processors import read_processor
from ravlm.encoders.tokenization import TextTokenizer
from ravlm.encoders.transformers_io import (
    CONFIG_ERRORS,
    check_weights,
    max_text_length,
    read_config,
    read_model,
)
from ravlm.errors import Mismatch
from ravlm.files import atomic_write
from ravlm.records import ImageSource

_MAX_EDGE = 2048
"""Edge in pixels to which larger images are shrunk before they are processed: no model of this kind
reads more of a page."""
_IMAGE_BATCH = 4
"""Images of a batch at most: each is about a thousand tokens of a language model."""
_TRAINING_INPUTS = ("labels",)


class ColPaliEncoder(MultiVectorEncoder):
    """A late-interaction model of Transformers. Create it with `from_folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._folder = folder
        self._device = runtime.device()
        config = read_config(folder, name)
        self._processor = read_processor(folder, name, config)
        network, info = read_model(
            folder, runtime.inference_dtype(self._device), _retrieval_class(config, name)
        )
        check_weights(sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), info, name)
        self._network = network.to(self._device).eval()
        self._pixels = ImageProcessor(self._processor.image_processor)
        self._plain_processor = copy.copy(self._processor)
        self._plain_processor.query_prefix = ""
        tokenizer = self._processor.tokenizer
        self._tokenizer = TextTokenizer(tokenizer, MAX_TEXT_TOKENS, pad_to_max=False)
        limit = max_text_length(tokenizer, config.get_text_config(), network)
        num_added = int(self._text_inputs(["a"], "query")["input_ids"].shape[1])
        self._tokenizer.max_length = min(MAX_TEXT_TOKENS, limit - num_added)
        self.image_size = _MAX_EDGE
        self.languages = self._tokenizer.languages
        self.dim = int(config.embedding_dim)

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> ColPaliEncoder:
        """Load a checkpoint folder. `name` is the name under which it can be loaded again."""
        return cls(folder, name)

    def passages(self, text: str) -> list[str]:
        return self._tokenizer.passages(text)

    def prepare(self, image: Image.Image) -> Image.Image:
        if max(image.size) > _MAX_EDGE:
            image = image.copy()
            image.thumbnail((_MAX_EDGE, _MAX_EDGE), Image.Resampling.LANCZOS)
        return self._pixels.shrink(image)

    def save(self, folder: str | Path) -> None:
        with atomic_write(folder) as target:
            target.mkdir(parents=True, exist_ok=True)
            for file_name, content in small_files(self._folder).items():
                (target / file_name).write_bytes(content)
            for path in weight_files(self._folder):
                shutil.copyfile(path, target / path.name)

    @cached_property
    def _whole_fingerprint(self) -> str:  # type: ignore[override]
        weights_hash = hash_weights(weight_files(self._folder))
        files = small_files(self._folder)
        return hash_with_files(f"ColPaliEncoder {weights_hash}", files).hexdigest()

    def _image_tokens(self, images: Sequence[ImageSource], batch_size: int) -> list[np.ndarray]:
        def decode(image: ImageSource) -> Image.Image:
            return self.prepare(load_image(image, edge=self.image_size))

        size = min(batch_size, _IMAGE_BATCH)
        decoded = parallel_map(decode, images, workers=runtime.cpu_count(), lookahead=2 * size)
        return [
            vectors
            for batch in batched(decoded, size)
            for vectors in self._encode(self._image_inputs(batch))
        ]

    def _text_tokens(self, texts: Sequence[str], batch_size: int, role: Role) -> list[np.ndarray]:
        rows: list[np.ndarray] = [np.zeros((0, self.dim), np.float32)] * len(texts)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for batch in batched(order, batch_size):
            inputs = self._text_inputs([texts[row] for row in batch], role)
            for row, vectors in zip(batch, self._encode(inputs), strict=True):
                rows[row] = vectors
        return rows

    def _image_inputs(self, images: list[Image.Image]) -> Any:
        with self._tokenizer.lock:  # the prompt is tokenized, too
            return self._processor.process_images(images)

    def _text_inputs(self, texts: list[str], role: Role) -> Any:
        with self._tokenizer.lock:
            if role == "query":
                return self._processor.process_queries(texts)
            texts = [text or " " for text in texts]  # without any token there is no vector
            return self._plain_processor.process_queries(texts, suffix="")

    def _encode(self, inputs: Any) -> list[np.ndarray]:
        """Return the vectors of each row of processed inputs, without padding."""
        tensors = inputs.to(self._device)  # the network casts the pixels
        arguments = {key: x for key, x in tensors.items() if key not in _TRAINING_INPUTS}
        try:
            with torch.inference_mode():
                vectors = self._network(**arguments).embeddings.float().cpu().numpy()
        except CONFIG_ERRORS as error:
            raise Mismatch(
                f'The network of "{self.name}" does not fit its processor ({error}). '
                "Choose another checkpoint."
            ) from None
        mask = inputs["attention_mask"].bool().cpu().numpy()  # (n, tokens)
        return [rows[is_token] for rows, is_token in zip(vectors, mask, strict=True)]


def _retrieval_class(config: Any, name: str) -> Any:
    """Return Transformers' class of a late-interaction checkpoint. Raises Mismatch.

    None of Transformers' auto classes covers all of these models.
    """
    import transformers

    architectures = getattr(config, "architectures", None) or ["none"]
    network = getattr(transformers, architectures[0], None)
    if network is None:
        raise Mismatch(
            f'The checkpoint "{name}" is a "{architectures[0]}", which is not a class of this '
            "version of Transformers. Update Transformers, or use a conversion of the checkpoint "
            "(its name often ends in -hf)."
        )
    return network
