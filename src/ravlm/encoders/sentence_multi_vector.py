"""Multi-vector models of sentence-transformers that encode both images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ravlm.checkpoint import read_json_object
from ravlm.encoders.base import Role
from ravlm.encoders.multi_vector import MAX_TEXT_TOKENS, MultiVectorEncoder
from ravlm.encoders.sentence_transformer import (
    copy_checkpoint,
    decoded_batches,
    hash_checkpoint,
    load_model,
)
from ravlm.encoders.tokenization import TextTokenizer
from ravlm.records import ImageSource

_MODEL_TYPES = ("MultiVectorEncoder", "ColBERT")
"""`model_type` in config_sentence_transformers.json; the second is PyLate's name."""
_DECODE_EDGE = 2048


class SentenceMultiVectorEncoder(MultiVectorEncoder):
    """A `MultiVectorEncoder` of sentence-transformers. Create it with `from_folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._folder = folder
        self._model = load_model(folder, name, "MultiVectorEncoder")
        limit = self._model.max_seq_length or MAX_TEXT_TOKENS
        max_length = min(int(limit), MAX_TEXT_TOKENS)
        self._tokenizer = TextTokenizer(self._model.tokenizer, max_length, pad_to_max=False)
        self.image_size = _DECODE_EDGE
        self.languages = self._tokenizer.languages
        self.dim = int(self._model.get_embedding_dimension())

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> SentenceMultiVectorEncoder:
        """Load a folder with modules.json. It can be loaded again under `name`."""
        return cls(folder, name)

    def passages(self, text: str) -> list[str]:
        return self._tokenizer.passages(text)

    def save(self, folder: str | Path) -> None:
        copy_checkpoint(self._folder, folder)

    @cached_property
    def _whole_fingerprint(self) -> str:  # type: ignore[override]
        return hash_checkpoint(self._folder, "SentenceMultiVectorEncoder").hexdigest()

    def _image_tokens(self, images: Sequence[ImageSource], batch_size: int) -> list[np.ndarray]:
        return [
            vectors
            for batch in decoded_batches(images, self.image_size, batch_size)
            for vectors in self._encode(batch, batch_size, "document")
        ]

    def _text_tokens(self, texts: Sequence[str], batch_size: int, role: Role) -> list[np.ndarray]:
        return self._encode(list(texts), batch_size, role)

    def _encode(
        self, inputs: list[str] | list[Image.Image], batch_size: int, role: Role
    ) -> list[np.ndarray]:
        is_query = role == "query"
        encode = self._model.encode_query if is_query else self._model.encode_document
        options = {"batch_size": batch_size, "show_progress_bar": False, "convert_to_numpy": True}
        rows = [np.asarray(vectors, np.float32) for vectors in encode(inputs, **options)]
        # some models keep only the tokens of images in documents: their texts become queries
        for row, vectors in enumerate(rows):
            if not len(vectors) and not is_query:
                rows[row] = self._encode(inputs[row : row + 1], batch_size, "query")[0]
        return rows


def is_multi_vector_checkpoint(folder: Path) -> bool:
    """Return whether a folder with modules.json holds a multi-vector model."""
    path = folder / "config_sentence_transformers.json"
    return path.is_file() and read_json_object(path).get("model_type") in _MODEL_TYPES
