"""Base class of encoders whose towers are torch modules.

Images are decoded in threads ahead of the image tower. Subclasses define the towers and where their
weights come from.
"""

from __future__ import annotations

import copy
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ravlm import runtime
from ravlm.checkpoint import WEIGHTS
from ravlm.data.images import load_image
from ravlm.data.parallel import batched, parallel_map
from ravlm.encoders.base import Encoder, Role, check_finite, check_role
from ravlm.encoders.hub_files import hash_weights, hash_with_files
from ravlm.encoders.image_processing import ImageInputs, ImageProcessor
from ravlm.encoders.multi_vector import several_vectors_error
from ravlm.encoders.tokenization import TextTokenizer
from ravlm.errors import Mismatch
from ravlm.files import atomic_write
from ravlm.records import MODALITIES, ImageSource, Modality

_DECODE_FACTOR = 4
"""A JPEG decoder must leave this many times the tower's edge: with less, its own downscaling moved
vectors by up to 0.003."""


class Towers(nn.Module, ABC):
    """Two networks that map to one space. Inputs have the names Transformers uses."""

    def __init__(self) -> None:
        super().__init__()
        self._frozen: tuple[nn.Module, ...] = ()

    @abstractmethod
    def image_pooled(self, pixel_values: Tensor, **extra_inputs: Tensor) -> Tensor:
        """Run the modules of the image tower that `freeze` freezes: (n, width)."""

    @abstractmethod
    def text_pooled(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **extra_inputs: Tensor
    ) -> Tensor:
        """Run the modules of the text tower that `freeze` freezes: (n, width)."""

    @abstractmethod
    def project(self, pooled: Tensor, tower: Modality) -> Tensor:
        """Map the outputs of `image_pooled` or `text_pooled` to unit vectors, float32 (n, dim)."""

    @abstractmethod
    def freezable(self, tower: Modality) -> list[nn.Module]:
        """Return the modules of a tower that `freeze` freezes."""

    @property
    def logit_scale(self) -> nn.Parameter | None:
        """Logarithm of the scale that the towers were trained with, if they have one."""
        return None

    @property
    def logit_bias(self) -> nn.Parameter | None:
        """Bias of the sigmoid loss that the towers were trained with, if they have one."""
        return None

    def image_features(self, pixel_values: Tensor, **extra_inputs: Tensor) -> Tensor:
        """Map the outputs of `ImageProcessor.collate` to unit vectors, float32 (n, dim)."""
        return self.project(self.image_pooled(pixel_values, **extra_inputs), "image")

    def text_features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **extra_inputs: Tensor
    ) -> Tensor:
        """Map tokens and mask (n, tokens) of `TextTokenizer` to unit vectors, float32 (n, dim)."""
        return self.project(self.text_pooled(input_ids, attention_mask, **extra_inputs), "text")

    def is_frozen(self, tower: Modality) -> bool:
        """Return whether no weight of what `freeze` freezes is trained."""
        modules = self.freezable(tower)
        return not any(p.requires_grad for module in modules for p in module.parameters())

    def freeze(self, image: bool = True, text: bool = True) -> None:
        """Choose which towers are frozen: no gradients, no dropout. Other modules are trained."""
        self._frozen = ()
        for tower, is_frozen in zip(MODALITIES, (image, text), strict=True):
            for module in self.freezable(tower):
                module.requires_grad_(not is_frozen)
                self._frozen += (module,) if is_frozen else ()
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode, except that frozen modules and batch norms stay in evaluation mode: a norm
        over a chunk would make the vectors depend on how a batch is divided."""
        super().train(mode)
        norms = (module for module in self.modules() if isinstance(module, _BatchNorm))
        for module in (*self._frozen, *norms):
            module.eval()
        return self


class TorchEncoder(Encoder):
    """Two torch towers with a tokenizer and an image processor of Transformers.

    `files`: the checkpoint's small files, by path in its folder. `weights`: its safetensors files;
    empty if the towers are new. `towers`: new towers in fp32; if None, towers are loaded in the
    inference dtype.
    """

    fingerprint_prefix: ClassVar[str]
    """Part of the fingerprint. It must never change, or existing knowledge bases would refuse the
    encoder."""
    fingerprint_suffix: str = ""
    """What earlier versions of ravlm did differently with this checkpoint; empty if nothing."""

    def __init__(
        self,
        name: str,
        files: Mapping[str, bytes],
        weights: Sequence[Path],
        image_processor: ImageProcessor,
        tokenizer: Any,
        towers: Towers | None = None,
    ) -> None:
        self.name = name
        self.files = dict(files)
        self.weights = tuple(weights)
        self.image_processor = image_processor
        self.device = runtime.device()
        self.dtype = runtime.inference_dtype(self.device)
        self._trainable: Towers | None = None  # fp32
        self._inference: Towers | None = None  # inference dtype
        self._initial_version = 0
        self._inference_version = -1  # version of the trainable towers that was copied
        self._fingerprint_cache = -1, ""  # version, fingerprint
        if towers is None:
            self._inference = self._load_towers(self.dtype).to(self.device)
        else:
            self._trainable = towers.to(self.device)
            self._initial_version = _version(towers)
        self.tokenizer = self._text_tokenizer(tokenizer, self._trainable or self._inference)
        self.image_size = _DECODE_FACTOR * image_processor.edge
        self.languages = self.tokenizer.languages
        self.dim = self._infer_dim()

    @abstractmethod
    def _load_towers(self, dtype: torch.dtype) -> Towers:
        """Load the towers from `files` and `weights`. Raises Mismatch unless all weights fit."""

    @abstractmethod
    def _text_tokenizer(self, tokenizer: Any, towers: Any) -> TextTokenizer:
        """Combine the tokenizer with the requirements of the text tower."""

    @abstractmethod
    def _state(self, towers: Any) -> dict[str, Tensor]:
        """Return the towers' weights under the names that `_load_towers` reads."""

    @property
    def model(self) -> Towers:
        """The towers in fp32, for training: `image_features(pixel_values)` and
        `text_features(input_ids, attention_mask)`.

        From then on the encoder encodes with these towers and saves them, including any change.
        """
        if self._trainable is None:
            if self.dtype == torch.float32 and self._inference is not None:
                self._trainable = self._inference
            else:
                self._trainable = self._load_towers(torch.float32).to(self.device)
            self._initial_version = _version(self._trainable)
        return self._trainable

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: Role = "document"
    ) -> np.ndarray:
        check_role(role)

        def preprocess(image: ImageSource) -> ImageInputs:
            return self.image_processor.preprocess(load_image(image, edge=self.image_size))

        vectors = np.zeros((len(images), self.dim), np.float32)
        inputs = parallel_map(
            preprocess, images, workers=runtime.cpu_count(), lookahead=2 * batch_size
        )
        with self._inference_mode() as towers:
            for batch in batched(enumerate(inputs), batch_size):
                for rows, same_shape in _group_by_shape(batch):
                    tensors = self.image_processor.collate(same_shape, self.device, self.dtype)
                    vectors[rows] = towers.image_features(**tensors).cpu().numpy()
        return check_finite(vectors, self.name)

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: Role = "document"
    ) -> np.ndarray:
        check_role(role)
        vectors = np.zeros((len(texts), self.dim), np.float32)
        if not len(texts):
            return vectors
        with self._inference_mode() as towers:
            for rows, inputs in self.tokenizer.batches(texts, batch_size, self.device):
                vectors[rows] = towers.text_features(**inputs).cpu().numpy()
        return check_finite(vectors, self.name)

    def passages(self, text: str) -> list[str]:
        return self.tokenizer.passages(text)

    def prepare(self, image: Image.Image) -> Image.Image:
        return self.image_processor.shrink(image)

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Hash of weights, preprocessing files and architecture. Unchanged towers are hashed from
        their files."""
        if not self._is_changed or self._trainable is None:
            return self._fingerprint_of_files
        version = _version(self._trainable)
        if version != self._fingerprint_cache[0]:
            weights_hash = hash_weights(self._state(self._trainable))
            self._fingerprint_cache = version, self._combine_hashes(weights_hash)
        return self._fingerprint_cache[1]

    def save(self, folder: str | Path) -> None:
        from safetensors.torch import save_file

        with atomic_write(folder) as target:
            for name, content in self.files.items():
                if not (self._is_changed and name.endswith(".index.json")):
                    path = target / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
            if self._is_changed and self._trainable is not None:
                state = self._state(self._trainable)
                tensors = {name: x.detach().cpu().contiguous() for name, x in state.items()}
                save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
            else:
                for path in self.weights:
                    shutil.copyfile(path, target / path.name)

    @cached_property
    def _fingerprint_of_files(self) -> str:
        return self._combine_hashes(hash_weights(self.weights))

    @property
    def _is_changed(self) -> bool:
        """Whether the weights differ from those in the files."""
        if self._trainable is None:
            return False
        return not self.weights or _version(self._trainable) != self._initial_version

    def _combine_hashes(self, weights_hash: str) -> str:
        digest = hash_with_files(f"{self.fingerprint_prefix} {weights_hash}", self.files)
        digest.update(self.fingerprint_suffix.encode())
        return digest.hexdigest()

    @contextmanager
    def _inference_mode(self) -> Iterator[Towers]:
        """Yield the towers in evaluation mode, without gradients, in the inference dtype."""
        towers = self._current_towers()
        was_training = towers.training
        towers.eval()
        try:
            with torch.inference_mode():
                yield towers
        finally:
            towers.train(was_training)

    def _current_towers(self) -> Towers:
        """Return the towers in the inference dtype, copied from the trainable ones if those have
        changed."""
        if self._trainable is not None and self.dtype == torch.float32:
            return self._trainable
        if self._trainable is not None and _version(self._trainable) != self._inference_version:
            self._inference = copy.deepcopy(self._trainable).to(self.dtype)
            self._inference_version = _version(self._trainable)
        assert self._inference is not None
        return self._inference

    def _infer_dim(self) -> int:
        """Return the length of the vectors, found by encoding one image and one text."""
        inputs = self.image_processor.preprocess(Image.new("RGB", (64, 64), "grey"))
        _, text_inputs = next(self.tokenizer.batches(["a"], 1, self.device))
        try:
            with self._inference_mode() as towers:
                pixels = self.image_processor.collate([inputs], self.device, self.dtype)
                image = towers.image_features(**pixels)
                text = towers.text_features(**text_inputs)
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            raise Mismatch(
                f'The towers of "{self.name}" do not fit its image processor or tokenizer '
                f"({error}). Choose another checkpoint."
            ) from None
        for item, vectors in {"an image": image, "a text": text}.items():
            if vectors.ndim > 2:
                raise several_vectors_error(self.name, item)
        if image.ndim != 2 or image.shape != text.shape:
            raise Mismatch(
                f'The towers of "{self.name}" return shape {tuple(image.shape[1:])} for an image '
                f"and {tuple(text.shape[1:])} for a text. Both must be vectors of the same length; "
                "choose another checkpoint."
            )
        return image.shape[1]


def unit(x: Tensor) -> Tensor:
    """Scale rows to length 1, in float32."""
    return F.normalize(x.float(), dim=-1)


def _version(module: nn.Module) -> int:
    """Return a number that grows with every in-place change of the weights, as training makes
    them."""
    return sum(x._version for x in [*module.parameters(), *module.buffers()])


def _group_by_shape(
    batch: Sequence[tuple[int, ImageInputs]],
) -> Iterator[tuple[list[int], list[ImageInputs]]]:
    """Group numbered images into batches that can be stacked."""
    groups: dict[tuple[Any, ...], list[tuple[int, ImageInputs]]] = {}
    for number, inputs in batch:
        shape = tuple(x.shape for x in inputs.values())
        groups.setdefault(shape, []).append((number, inputs))
    for group in groups.values():
        yield [number for number, _ in group], [inputs for _, inputs in group]
