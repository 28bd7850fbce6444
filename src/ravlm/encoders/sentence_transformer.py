"""sentence-transformers models that encode both images and texts.

A model that is only a CLIP-like checkpoint runs as `ClipEncoder`, which gives the same vectors
faster. Any other model runs in its own package: vision-language models such as Qwen3-VL-Embedding,
models of several modules, and those with a query side and a document side.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock
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
from ravlm.encoders.hub_files import custom_code_error, hash_weights, quiet, small_files
from ravlm.encoders.multi_vector import several_vectors_error
from ravlm.encoders.processors import processor_class_of, read_processor
from ravlm.encoders.token_vectors import unit_rows
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
from ravlm.records import MODALITIES, ImageSource

_MAX_TOKENS = 8192
"""Longer texts are split: a vision-language model may read a hundred thousand tokens, but gives one
vector for all of them."""
_DECODE_EDGE = 1024
"""Edge in pixels that a JPEG decoder must leave: the tower's input size is unknown."""
_PROMPT_NAMES: dict[Role, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}
"""Names of the prompts of each role in config_sentence_transformers.json."""
_HUB_OPTIONS = {
    "backend", "cache_dir", "local_files_only", "revision", "subfolder", "token",
    "trust_remote_code",
}  # fmt: skip
"""Options of sentence-transformers for reading a processor that are not settings of it."""
_PROCESSOR_LOCK = Lock()
_FEATURE_METHODS = {"text": "get_text_features", "image": "get_image_features"}


class SentenceTransformerEncoder(Encoder):
    """A model of sentence-transformers. Create it with `from_folder`.

    `with_roles`: give queries and documents the prompts and modules that the model has for them,
    which earlier versions of ravlm did not.
    """

    def __init__(self, folder: Path, name: str, with_roles: bool = True) -> None:
        self._folder = folder
        self.name = name
        self._with_roles = with_roles
        self._clip_folder: Path | None = None
        """The CLIP-like checkpoint that earlier versions ran instead, without its prompts."""
        self._model = load_model(folder, name, "SentenceTransformer")
        declared = _declared_prompts(folder)
        self._prompts = {
            role: _prompt(self._model, declared, role)
            if with_roles
            else _default_prompt(self._model)
            for role in get_args(Role)
        }
        has_routes = with_roles and self._has_routes
        has_prompts = len(set(self._prompts.values())) > 1
        self.asymmetric = MODALITIES if has_routes or has_prompts else ()
        network = _first_network(self._model)
        text_config = getattr(network.config, "text_config", network.config)
        tokenizer = self._model.tokenizer
        max_length = min(max_text_length(tokenizer, text_config, network), _MAX_TOKENS)
        self._model.max_seq_length = max_length
        text_length = max_length - self._num_added_tokens()
        self._tokenizer = TextTokenizer(tokenizer, text_length, pad_to_max=False)
        self.image_size = _DECODE_EDGE
        self.languages = self._tokenizer.languages
        self.matryoshka_dims = matryoshka_dims(network.config)
        try:
            self.dim = self.encode_texts(["a"]).shape[1]
        except KeyError:  # there is no "sentence_embedding"
            raise several_vectors_error(name, "a text") from None

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> Encoder:
        """Load a folder with modules.json. It can be loaded again under `name`."""
        path = folder / "modules.json"
        try:
            first, *later_modules = json.loads(path.read_text(encoding="utf-8"))
            classes = [module["type"] for module in (first, *later_modules)]
            module_types = {module["type"].split(".")[-1] for module in later_modules}
            first_folder = folder / first["path"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BrokenData(
                f'"{path}" is not a valid list of modules ({error}). '
                "Save or download the model again."
            ) from None
        custom = [path for path in classes if not path.startswith("sentence_transformers.")]
        if custom:
            raise custom_code_error(name, custom)
        if not (module_types <= {"Normalize"} and _is_dual_encoder(first_folder, name)):
            return cls(folder, name)
        if not any(_declared_prompts(folder).values()):
            return ClipEncoder(first_folder, name)
        encoder = cls(folder, name)
        encoder._clip_folder = first_folder
        return encoder

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: Role = "document"
    ) -> np.ndarray:
        batches = decoded_batches(images, self.image_size, batch_size)
        return self._encode(batches, batch_size, role)

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: Role = "document"
    ) -> np.ndarray:
        for text in texts:
            check_unicode(text)
        return self._encode([list(texts)] if len(texts) else [], batch_size, role)

    def passages(self, text: str) -> list[str]:
        return self._tokenizer.passages(text)

    def save(self, folder: str | Path) -> None:
        copy_checkpoint(self._folder, folder)

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Hash of all configuration files and all weights."""
        digest = hash_checkpoint(self._folder, "SentenceEncoder")
        if self._with_roles and self._changed_by_roles:
            digest.update(b" document")
        return digest.hexdigest()

    def former(self, fingerprint: str) -> Encoder | None:
        encoder: Encoder
        if self._clip_folder is not None:
            encoder = ClipEncoder(self._clip_folder, self.name)
        elif self._with_roles and self._changed_by_roles:
            encoder = SentenceTransformerEncoder(self._folder, self.name, with_roles=False)
        else:
            return None
        return encoder if encoder.fingerprint == fingerprint else encoder.former(fingerprint)

    @property
    def _changed_by_roles(self) -> bool:
        """Whether documents had other vectors before there were roles."""
        return self._has_routes or self._prompts["document"] != _default_prompt(self._model)

    @property
    def _has_routes(self) -> bool:
        """Whether queries and documents may go through different modules."""
        from sentence_transformers.base.modules import Router

        return any(isinstance(module, Router) for module in self._model)

    def _num_added_tokens(self) -> int:
        """Return how many tokens the prompt and the chat template add to a document."""
        options = {"task": "document"} if self._with_roles else {}
        inputs = self._model.preprocess(["a"], prompt=self._prompts["document"], **options)
        if "input_ids" not in inputs:
            return 0
        return inputs["input_ids"].shape[-1] - len(self._model.tokenizer("a")["input_ids"])

    def _encode(self, batches: Iterable[list[Any]], batch_size: int, role: Role) -> np.ndarray:
        check_role(role)
        options = {"task": role} if self._with_roles else {}
        rows = [
            self._model.encode(
                batch,
                prompt=self._prompts[role],
                batch_size=batch_size,
                show_progress_bar=False,
                **options,
            )
            for batch in batches
        ]
        if not rows:
            return np.zeros((0, self.dim), np.float32)
        vectors = np.concatenate(rows).astype(np.float32)
        return check_finite(unit_rows(vectors), self.name)


def decoded_batches(
    images: Sequence[ImageSource], edge: int, batch_size: int
) -> Iterator[list[Image.Image]]:
    """Yield batches of the images, decoded in threads ahead of the consumer; see `load_image`."""

    def decode(image: ImageSource) -> Image.Image:
        return load_image(image, edge=edge)

    decoded = parallel_map(decode, images, workers=runtime.cpu_count(), lookahead=2 * batch_size)
    return batched(decoded, batch_size)


def _prompt(model: Any, declared: Mapping[str, str], role: Role) -> str:
    """Return the prompt of a role, by the names that sentence-transformers gives to it.

    The model's default prompt holds for a role that its configuration does not mention.
    """
    names = [name for name in _PROMPT_NAMES[role] if name in declared]
    prompts = [model.prompts[name] for name in names]
    return next(filter(None, prompts), "" if names else _default_prompt(model))


def _declared_prompts(folder: Path) -> Mapping[str, str]:
    """Return the prompts in a checkpoint's configuration, by name."""
    path = folder / "config_sentence_transformers.json"
    prompts = read_json_object(path).get("prompts") if path.is_file() else None
    return prompts if isinstance(prompts, dict) else {}


def _default_prompt(model: Any) -> str:
    """Return the prompt of `SentenceTransformer.encode`, which has no roles."""
    return model.prompts.get(model.default_prompt_name) or ""


def hash_checkpoint(folder: Path, prefix: str) -> hashlib._Hash:
    """Return the hash of `prefix` and of all configuration files and weights of a checkpoint.

    It must never change: stored bases depend on it.
    """
    digest = hashlib.sha256(prefix.encode())
    for part in sorted({path.parent for path in folder.rglob("*.json")}):
        for name, content in small_files(part).items():
            path = part.relative_to(folder) / name
            digest.update(f" {path} ".encode() + hashlib.sha256(content).digest())
        digest.update(hash_weights(sorted(part.glob("*.safetensors"))).encode())
    return digest


def copy_checkpoint(source: Path, folder: str | Path) -> None:
    """Copy a checkpoint, without the files that ravlm does not read."""
    with atomic_write(folder) as target:
        ignore = shutil.ignore_patterns(".*", "*.bin", "onnx", "openvino")
        shutil.copytree(source, target, ignore=ignore)


def load_model(folder: Path, name: str, class_name: str) -> Any:
    """Load and check a model by a class of sentence-transformers.

    Raises MissingExtra or Mismatch.
    """
    try:
        import sentence_transformers
    except ImportError:
        raise MissingExtra("sentence-transformers", "hub", f'The encoder "{name}"') from None
    device = runtime.device()
    dtype = runtime.inference_dtype(device)
    try:
        with quiet(), _processors_on_pillow(name):
            model = getattr(sentence_transformers, class_name)(
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


@contextmanager
def _processors_on_pillow(name: str) -> Iterator[None]:
    """Let sentence-transformers read processors as ravlm does: without their parts for video, which
    need torchvision, and which the option backend="pil" makes Transformers refuse."""
    from sentence_transformers.base.modules import transformer as module

    class Processors:
        """Stands in for `AutoProcessor`."""

        @staticmethod
        def from_pretrained(folder: str, **options: Any) -> Any:
            path = Path(folder, options.get("subfolder") or "")
            config = read_config(path, name)
            if processor_class_of(path, config) is None:
                for key in ("trust_remote_code", "local_files_only"):
                    options.pop(key, None)
                return auto_processor.from_pretrained(
                    folder, trust_remote_code=False, local_files_only=True, **options
                )
            settings = {key: x for key, x in options.items() if key not in _HUB_OPTIONS}
            return read_processor(path, name, config, **settings)

    with _PROCESSOR_LOCK:
        auto_processor = module.AutoProcessor
        module.AutoProcessor = Processors
        try:
            yield
        finally:
            module.AutoProcessor = auto_processor


def _first_network(model: Any) -> Any:
    """Return the Transformers model of the first module that has one."""
    from sentence_transformers.base.modules import Transformer

    return next(part.model for part in model.modules() if isinstance(part, Transformer))


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
            # sentence-transformers does not report missing weights, so look them up again
            _, info = type(network).from_pretrained(
                path,
                device_map="meta",  # without reading any
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
            check_weights(sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), info, name)


def _module_folders(folder: Path) -> list[Path]:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    return [folder / module["path"] for module in sorted(modules, key=lambda module: module["idx"])]
