"""Multi-vector models of sentence-transformers that encode both images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ravlm import runtime
from ravlm.checkpoint import read_json_object
from ravlm.data.images import load_image
from ravlm.data.parallel import batched, parallel_map
from ravlm.data.text import check_unicode
from ravlm.encoders.base import Role
from ravlm.encoders.multi_vector import MultiVectorEncoder
from ravlm.encoders.sentence_transformer import copy_checkpoint, hash_checkpoint, load_model
from ravlm.encoders.tokenization import TextTokenizer
from ravlm.records import ImageSource

MODEL_TYPES = ("MultiVectorEncoder", "ColBERT")
"""`model_type` in config_sentence_transformers.json; the second is PyLate's name."""
MAX_TEXT_TOKENS = 512
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
        def decode(image: ImageSource) -> Image.Image:
            return load_image(image, edge=self.image_size)

        decoded = parallel_map(
            decode, images, workers=runtime.cpu_count(), lookahead=2 * batch_size
        )
        return [
            vectors
            for batch in batched(decoded, batch_size)
            for vectors in self._encode(list(batch), batch_size, "document")
        ]

    def _text_tokens(self, texts: Sequence[str], batch_size: int, role: Role) -> list[np.ndarray]:
        for text in texts:
            check_unicode(text)
        read = [text if self._tokenizer.fits(text) else self.passages(text)[0] for text in texts]
        return self._encode(read, batch_size, role) if read else []

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
    return path.is_file() and read_json_object(path).get("model_type") in MODEL_TYPES
