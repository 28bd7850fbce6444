"""A sentence-transformers model that reads pictures and texts, as an encoder.

One that is a CLIP-like checkpoint and no more is run by `hub`, which gives the same vectors sooner;
any other by its own package. Knows nothing of what its modules do."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ravlm import runtime
from ravlm.data.images import load_image
from ravlm.data.parallel import ahead, batched
from ravlm.encoders.base import DualEncoder
from ravlm.encoders.clip import HubEncoder, check_weights, has_towers, read_config, text_limit
from ravlm.encoders.hub_files import hash_weights, quiet, small_files
from ravlm.encoders.tokenization import Tokens
from ravlm.errors import BrokenData, Mismatch, MissingExtra
from ravlm.files import atomic_write
from ravlm.records import ImageSource

_EDGE = 1024
"""Pixels that a JPEG decoder leaves for a tower of unknown size."""


class SentenceEncoder(DualEncoder):
    """Made by `from_folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingExtra("sentence-transformers", "hub", f'The encoder "{name}"') from None
        self._folder, self.name = folder, name
        device = runtime.device()
        dtype = runtime.inference_dtype(device)
        try:
            with quiet():
                self._model = SentenceTransformer(
                    str(folder),
                    device=str(device),
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"dtype": dtype, "use_safetensors": True},
                    processor_kwargs={"backend": "pil"},
                )
                _check(self._model, folder, name)
        except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
            raise Mismatch(
                f'"{name}" can\'t be loaded by sentence-transformers: {error}.'
            ) from None
        tokenizer, network = self._model.tokenizer, self._model[0].model
        text = getattr(network.config, "text_config", network.config)
        self._tokens = Tokens(tokenizer, text_limit(tokenizer, text, network), full=False)
        self._model.max_seq_length = self._tokens.limit
        self.image_size, self.languages = _EDGE, self._tokens.languages
        self.dim = self.encode_texts(["a"]).shape[1]

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> DualEncoder:
        """Load a folder with modules.json; `name` is what it will be found by again."""
        path = folder / "modules.json"
        try:
            first, *more = json.loads(path.read_text(encoding="utf-8"))
            kinds = [module["type"].split(".")[-1] for module in more]
            inside = folder / first["path"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BrokenData(
                f'"{path}" is no list of modules ({error}); save or download the model again.'
            ) from None
        if set(kinds) <= {"Normalize"} and _is_dual(inside, name):
            return HubEncoder(inside, name)
        return cls(folder, name)

    def encode_images(self, images: Sequence[ImageSource], batch_size: int = 32) -> np.ndarray:
        def decoded(image: ImageSource) -> Any:
            return load_image(image, edge=self.image_size)

        ready = batched(
            ahead(decoded, images, workers=runtime.cpu_count(), lookahead=2 * batch_size),
            batch_size,
        )
        return self._encoded(ready, batch_size)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        return self._encoded([list(texts)] if len(texts) else [], batch_size)

    def passages(self, text: str) -> list[str]:
        return self._tokens.passages(text)

    def save(self, folder: str | Path) -> None:
        with atomic_write(folder) as aside:
            shutil.copytree(
                self._folder,
                aside,
                ignore=shutil.ignore_patterns(".*", "*.bin", "onnx", "openvino"),
            )

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """All configuration and all weights, hashed."""
        digest = hashlib.sha256(type(self).__name__.encode())
        for folder in sorted({path.parent for path in self._folder.rglob("*.json")}):
            for name, content in small_files(folder).items():
                place = folder.relative_to(self._folder) / name
                digest.update(f" {place} ".encode() + hashlib.sha256(content).digest())
            digest.update(hash_weights(sorted(folder.glob("*.safetensors"))).encode())
        return digest.hexdigest()

    def _encoded(self, batches: Iterable[list[Any]], batch_size: int) -> np.ndarray:
        rows = [
            self._model.encode(x, batch_size=batch_size, show_progress_bar=False) for x in batches
        ]
        found = (
            np.concatenate(rows).astype(np.float32) if rows else np.zeros((0, self.dim), np.float32)
        )
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _is_dual(folder: Path, name: str) -> bool:
    """Whether the first module is a dual encoder of Transformers, called by its two functions."""
    options = folder / "sentence_bert_config.json"
    methods = {"text": {"method": "get_text_features"}, "image": {"method": "get_image_features"}}
    if options.is_file():
        methods = json.loads(options.read_text(encoding="utf-8")).get("modality_config", methods)
    if {key: value.get("method") for key, value in methods.items()} != {
        "text": "get_text_features",
        "image": "get_image_features",
    }:
        return False
    return all(has_towers(read_config(folder, name)).values())


def _check(model: Any, folder: Path, name: str) -> None:
    """Raise Mismatch unless the model reads both pictures and texts and has every weight."""
    if not {"image", "text"} <= set(model.modalities):
        found = ", ".join(map(str, model.modalities))
        raise Mismatch(
            f'The model "{name}" reads {found} only; an encoder needs image and text. DualEncoder.from_backbones joins '
            "an image model and a text model."
        )
    for place, module in zip(_paths(folder), model, strict=True):
        network: Any = getattr(module, "model", None)
        if hasattr(network, "from_pretrained"):
            _, info = type(
                network
            ).from_pretrained(  # once more, for what its own package does not tell
                place,
                dtype=network.dtype,
                output_loading_info=True,
                local_files_only=True,
                use_safetensors=True,
            )
            check_weights(sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), info, name)


def _paths(folder: Path) -> list[Path]:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    return [folder / module["path"] for module in sorted(modules, key=lambda module: module["idx"])]
