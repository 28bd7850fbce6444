"""sentence-transformers models that encode both images and texts.

A model that is only a CLIP-like checkpoint runs as `ClipEncoder`, which gives the same vectors
faster. Any other model runs in its own package.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from ravlm import runtime
from ravlm.checkpoint import read_json_object
from ravlm.data.images import load_image
from ravlm.data.parallel import batched, parallel_map
from ravlm.data.text import check_unicode
from ravlm.encoders.base import Encoder, Role, check_finite, check_role
from ravlm.encoders.clip import ClipEncoder
from ravlm.encoders.hub_files import hash_weights, quiet, small_files
from ravlm.encoders.tokenization import TextTokenizer
from ravlm.encoders.transformers_io import (
    check_weights,
    has_towers,
    matryoshka_dims,
    max_text_length,
    read_config,
)
from ravlm.errors import BrokenData, Mismatch, MissingExtra
from ravlm.files import atomic_write
from ravlm.records import ImageSource

_DECODE_EDGE = 1024
"""Edge in pixels that a JPEG decoder must leave: the tower's input size is unknown."""
_PROMPT_NAMES: dict[Role, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}
"""Names of the prompts of each role in config_sentence_transformers.json."""
_FEATURE_METHODS = {"text": "get_text_features", "image": "get_image_features"}


class SentenceTransformerEncoder(Encoder):
    """A model of sentence-transformers. Create it with `from_folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.name = name
        self._model = _load_model(folder, name)
        network = self._model[0].model
        text_config = getattr(network.config, "text_config", network.config)
        max_length = max_text_length(self._model.tokenizer, text_config, network)
        self._tokenizer = TextTokenizer(self._model.tokenizer, max_length, pad_to_max=False)
        self._model.max_seq_length = max_length
        self._prompts = {role: _prompt(self._model, folder, role) for role in get_args(Role)}
        self.is_asymmetric = self._routes or len(set(self._prompts.values())) > 1
        self.image_size = _DECODE_EDGE
        self.languages = self._tokenizer.languages
        self.matryoshka_dims = matryoshka_dims(network.config)
        self.dim = self.encode_texts(["a"]).shape[1]

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> Encoder:
        """Load a folder with modules.json. It can be loaded again under `name`."""
        path = folder / "modules.json"
        try:
            first, *later_modules = json.loads(path.read_text(encoding="utf-8"))
            module_types = {module["type"].split(".")[-1] for module in later_modules}
            first_folder = folder / first["path"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BrokenData(
                f'"{path}" is not a valid list of modules ({error}). '
                "Save or download the model again."
            ) from None
        if module_types <= {"Normalize"} and _is_dual_encoder(first_folder, name):
            return ClipEncoder(first_folder, name)
        return cls(folder, name)

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: Role = "document"
    ) -> np.ndarray:
        def decode(image: ImageSource) -> Image.Image:
            return load_image(image, edge=self.image_size)

        decoded = parallel_map(
            decode, images, workers=runtime.cpu_count(), lookahead=2 * batch_size
        )
        return self._encode(batched(decoded, batch_size), batch_size, role)

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: Role = "document"
    ) -> np.ndarray:
        for text in texts:
            check_unicode(text)
        return self._encode([list(texts)] if len(texts) else [], batch_size, role)

    def passages(self, text: str) -> list[str]:
        return self._tokenizer.passages(text)

    def save(self, folder: str | Path) -> None:
        with atomic_write(folder) as target:
            ignore = shutil.ignore_patterns(".*", "*.bin", "onnx", "openvino")
            shutil.copytree(self._folder, target, ignore=ignore)

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Hash of all configuration files and all weights."""
        digest = hashlib.sha256(b"SentenceEncoder")  # never change: stored bases depend on it
        for folder in sorted({path.parent for path in self._folder.rglob("*.json")}):
            for name, content in small_files(folder).items():
                path = folder.relative_to(self._folder) / name
                digest.update(f" {path} ".encode() + hashlib.sha256(content).digest())
            digest.update(hash_weights(sorted(folder.glob("*.safetensors"))).encode())
        if self._routes or self._prompts["document"] != _default_prompt(self._model):
            digest.update(b" document")  # before there were roles, its vectors were others
        return digest.hexdigest()

    @property
    def _routes(self) -> bool:
        """Whether queries and documents may go through different modules."""
        return any(type(module).__name__ == "Router" for module in self._model)

    def _encode(self, batches: Iterable[list[Any]], batch_size: int, role: Role) -> np.ndarray:
        check_role(role)
        rows = [
            self._model.encode(
                batch,
                prompt=self._prompts[role],
                task=role,
                batch_size=batch_size,
                show_progress_bar=False,
            )
            for batch in batches
        ]
        if not rows:
            return np.zeros((0, self.dim), np.float32)
        vectors = np.concatenate(rows).astype(np.float32)
        units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return check_finite(units, self.name)


def _prompt(model: Any, folder: Path, role: Role) -> str:
    """Return the prompt of a role, by the names that sentence-transformers gives to it.

    The model's default prompt holds for a role that its configuration does not mention.
    """
    path = folder / "config_sentence_transformers.json"
    declared = read_json_object(path).get("prompts") if path.is_file() else None
    names = [name for name in _PROMPT_NAMES[role] if name in (declared or {})]
    prompts = [model.prompts[name] for name in names]
    return next(filter(None, prompts), "" if names else _default_prompt(model))


def _default_prompt(model: Any) -> str:
    """Return the prompt of `SentenceTransformer.encode`, which knows no roles."""
    return model.prompts.get(model.default_prompt_name) or ""


def _load_model(folder: Path, name: str) -> Any:
    """Load and check the model. Raises MissingExtra or Mismatch."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise MissingExtra("sentence-transformers", "hub", f'The encoder "{name}"') from None
    device = runtime.device()
    dtype = runtime.inference_dtype(device)
    try:
        with quiet():
            model = SentenceTransformer(
                str(folder),
                device=str(device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
                processor_kwargs={"backend": "pil"},
            )
            _check_model(model, folder, name)
            return model
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        raise Mismatch(f'"{name}" can\'t be loaded by sentence-transformers: {error}.') from None


def _is_dual_encoder(folder: Path, name: str) -> bool:
    """Return whether the first module is a dual encoder of Transformers, called by its two feature
    methods."""
    path = folder / "sentence_bert_config.json"
    methods: dict[str, Any] = dict(_FEATURE_METHODS)
    if path.is_file():
        modalities = read_json_object(path).get("modality_config")
        if isinstance(modalities, dict):
            methods = {
                key: options.get("method")
                for key, options in modalities.items()
                if isinstance(options, dict)
            }
    return methods == _FEATURE_METHODS and all(has_towers(read_config(folder, name)).values())


def _check_model(model: Any, folder: Path, name: str) -> None:
    """Raise Mismatch unless the model encodes images and texts and no weight is missing."""
    if not {"image", "text"} <= set(model.modalities):
        modalities = ", ".join(map(str, model.modalities))
        raise Mismatch(
            f'The model "{name}" reads {modalities} only; an encoder needs image and text. '
            "Use DualEncoder.from_backbones to combine an image model and a text model."
        )
    for path, module in zip(_module_folders(folder), model, strict=True):
        network: Any = getattr(module, "model", None)
        if hasattr(network, "from_pretrained"):
            # sentence-transformers does not report missing weights, so load this part again
            _, info = type(network).from_pretrained(
                path,
                dtype=network.dtype,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
            check_weights(sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), info, name)


def _module_folders(folder: Path) -> list[Path]:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    return [folder / module["path"] for module in sorted(modules, key=lambda module: module["idx"])]
