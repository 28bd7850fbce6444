"""The starter encoder: two frozen backbones from packages, small trained heads, a vector in blocks.

    image = [aligned | raw image | 0        | 0            | class words | hubness]
    text  = [aligned | 0         | raw text | raw sentence | words       | hubness]

Image-text similarity depends on the aligned and the word blocks; image-image and text-text
similarity mostly keep the backbones' own similarity. A second text network knows sixteen languages
(multilingual.py): its sentence vectors are a block of their own, and a head maps them to the
aligned block. The less this agrees with what the English network reads, the more it counts, and the
English network reads the text again by its multilingual tokens (token_adapter.py). The last block
corrects hubness (hubness.py). `recipes.starter_encoder`, `recipes.starter_languages` and
`recipes.starter_adapter` train the parts, in this order.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ravlm.checkpoint import check_shapes, read_checkpoint_config, read_weights, save_checkpoint
from ravlm.data.parallel import batched, parallel_map
from ravlm.data.stemming import is_english
from ravlm.data.text import split_words
from ravlm.encoders.base import Encoder, Role, check_finite, check_role
from ravlm.encoders.starter import multilingual
from ravlm.encoders.starter.backbones import ImageBackbone, TextBackbone
from ravlm.encoders.starter.config import STAGE_PREFIX, StarterConfig
from ravlm.encoders.starter.gloss import Glosser, starter_glosser
from ravlm.encoders.starter.hubness import hubness_block
from ravlm.encoders.starter.preprocessing import load_pixels, squash
from ravlm.encoders.starter.token_adapter import MAX_TOKENS, adapt
from ravlm.records import ImageSource

_FORMER_IMAGE_SIZE = 260
"""Of the encoder that the first bases were built with."""
_BATCHES_PER_HEAD_CALL = 32
"""Image batches whose features go through the heads together: the heads' matrices are read once for
many images, and their threads do not compete with the network's."""
_ADAPTED_SHARE = 0.2
"""Share of the multilingual reading above which the adapter reads a text."""
_TEXTS_AT_ONCE = 1024
"""Texts whose embeddings, some kilobytes per token, are in memory at a time."""
_MEMBER_ARRAY = re.compile(r"(image|text)\.\d+\.")


def head(x: np.ndarray, weights: Mapping[str, np.ndarray], prefix: str) -> np.ndarray:
    """Map backbone features (n, width) to unit vectors (n, dim): a linear map plus two layers with
    ReLU.

    `prefix` is the prefix of the member's arrays in `weights`, for example "image.0".
    """

    def w(name: str) -> np.ndarray:
        return weights[f"{prefix}.{name}"]

    x = (x - w("mean")) / w("deviation")
    inner = np.maximum(x @ w("inner") + w("inner_bias"), 0)
    return unit(x @ w("linear") + inner @ w("outer") + w("outer_bias"))


def unit(x: np.ndarray) -> np.ndarray:
    """Scale rows to length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


class StarterEncoder(Encoder):
    """See the module's docstring. The networks are loaded on first use."""

    glosses = ("zh",)

    def __init__(
        self, config: StarterConfig, weights: Mapping[str, np.ndarray], name: str = "starter"
    ) -> None:
        check_shapes(weights, config.shapes(), name)
        self.config = config
        self.name = name
        self.dim = config.dim
        self.image_size = config.image_size
        self.asymmetric = ("text",) if config.adapter_hidden_dim else ()
        self.languages = multilingual.LANGUAGES if config.multilingual_hidden_dim else ("en",)
        self._weights = {
            key: array.astype(np.float32, copy=False) for key, array in weights.items()
        }

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> StarterEncoder:
        """Load a checkpoint folder. `name` is the name under which it can be loaded again."""
        values = read_checkpoint_config(folder)
        config = StarterConfig.from_mapping(values, f"{folder}/config.json")
        encoder = cls(config, read_weights(folder), name)
        if config.reads_sentences and not multilingual.is_available():
            warnings.warn(
                f'The encoder "{name}" reads English alone: {multilingual.MISSING}.', stacklevel=2
            )
            return encoder.without_sentences()
        return encoder

    def with_heads(
        self, config: StarterConfig, heads: Mapping[str, np.ndarray], name: str
    ) -> StarterEncoder:
        """Return a copy with other members: arrays such as "image.0.linear", with the sizes in
        `config`. The multilingual head and the banks fit the former members alone and are left
        out."""
        config = replace(config, multilingual_hidden_dim=0, adapter_hidden_dim=0, hubness_bank=0)
        shared = {k: array for k, array in self._weights.items() if not _MEMBER_ARRAY.match(k)}
        return StarterEncoder(config, _known({**shared, **heads}, config), name)

    def without_sentences(self) -> StarterEncoder:
        """Return the encoder as it was before it had the second text network: it reads English,
        and Chinese by its glosses, and smaller images."""
        config = replace(
            self.config,
            image_size=_FORMER_IMAGE_SIZE,
            multilingual_hidden_dim=0,
            raw_sentence_dim=0,
            adapter_hidden_dim=0,
            hubness_bank=0,
        )
        return StarterEncoder(config, _known(self._weights, config), self.name)

    @cached_property
    def short_text_encoder(self) -> StarterEncoder:
        """The English network alone: sentence vectors tell single words apart less well."""
        return self.without_sentences() if self.config.reads_sentences else self

    def former(self, fingerprint: str) -> StarterEncoder | None:
        if not self.config.reads_sentences:
            return None
        encoder = self.short_text_encoder
        return encoder if encoder.fingerprint == fingerprint else None

    def with_name(self, name: str) -> StarterEncoder:
        """Return a copy that can be loaded again under another name."""
        return StarterEncoder(self.config, self._weights, name)

    @property
    def weights(self) -> Mapping[str, np.ndarray]:
        """All arrays of the checkpoint, in float32."""
        return self._weights

    def save(self, folder: str | Path) -> None:
        save_checkpoint(folder, *self.checkpoint())

    def checkpoint(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the configuration and the arrays (half precision) of a checkpoint."""
        weights = {key: array.astype(np.float16) for key, array in self._weights.items()}
        return self.config.to_mapping(), weights

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Hash of backbones, heads, layout and glossary."""
        digest = hashlib.sha256(json.dumps(self.config.to_mapping(), sort_keys=True).encode())
        for key in sorted(self._weights):
            digest.update(key.encode() + self._weights[key].astype(np.float16).tobytes())
        parts = [
            self.image_backbone.source,
            self.text_backbone.source,
            self._glosser.fingerprint,
        ]
        if self.config.reads_sentences:
            parts.append(self._sentences.source)
        for part in parts:
            digest.update(part.encode())
        return digest.hexdigest()

    @cached_property
    def image_backbone(self) -> ImageBackbone:
        """The image network, with the trained last stage of each member."""
        return ImageBackbone(self._stages("image"))

    @cached_property
    def text_backbone(self) -> TextBackbone:
        """The text network, with the trained last stage of each member."""
        return TextBackbone(self._stages("text"))

    def _stages(self, tower: str) -> list[dict[str, np.ndarray]]:
        """Return the trained last stages of a tower, one for each member."""
        if not self.config.has_trained_stages:
            return []
        prefixes = [f"{tower}.{i}.{STAGE_PREFIX}." for i in range(self.config.members)]
        return [
            {k.removeprefix(prefix): v for k, v in self._weights.items() if k.startswith(prefix)}
            for prefix in prefixes
        ]

    @cached_property
    def _sentences(self) -> multilingual.TokenFeatures:
        return multilingual.TokenFeatures()

    @cached_property
    def _glosser(self) -> Glosser:
        return starter_glosser(self.text_backbone.ranks)

    def gloss(self, text: str) -> str:
        return self._glosser.gloss(text)

    def passages(self, text: str) -> list[str]:
        return self.text_backbone.passages(text, self.gloss)

    def prepare(self, image: Image.Image) -> Image.Image:
        return squash(image, self.image_size)

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 8, role: Role = "document"
    ) -> np.ndarray:
        check_role(role)

        def load(image: ImageSource) -> np.ndarray:
            return load_pixels(image, self.image_size)

        pixels = parallel_map(load, images, workers=2, lookahead=2 * batch_size)
        features = (
            self.image_backbone.features(np.stack(batch)) for batch in batched(pixels, batch_size)
        )
        vectors = []
        for batches in batched(features, _BATCHES_PER_HEAD_CALL):
            pooled, *stages = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
            vectors.append(self.image_vectors(pooled, *stages))
        return np.concatenate(vectors or [np.zeros((0, self.dim), np.float32)])

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: Role = "document"
    ) -> np.ndarray:
        check_role(role)
        glossed = [self.gloss(text) for text in texts]
        pooled, *stages = self.text_backbone.features(glossed, batch_size)
        aligned = self._aligned("text", pooled, stages)
        if not self.config.reads_sentences:
            return self._text_blocks(pooled, aligned)
        sentences = self._sentences.texts(texts)
        if self.config.multilingual_hidden_dim:
            is_glossed = np.array([a != b for a, b in zip(texts, glossed, strict=True)], bool)
            pooled, aligned = self._mixed(texts, is_glossed, role, pooled, aligned, sentences)
        return self._text_blocks(pooled, aligned, sentences)

    def image_vectors(self, pooled: np.ndarray, *stages: np.ndarray) -> np.ndarray:
        """Map the backbone's pooled features (n, 1280), and those of each trained stage, to vectors
        (n, dim)."""
        weights = self._weights
        logits = pooled @ weights["classifier.weight"] + weights["classifier.bias"]
        logits -= logits.max(axis=1, keepdims=True)
        probabilities = np.exp(self.config.class_sharpness * logits)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        words = unit(probabilities @ weights["words.classes"])
        balanced = unit(np.sqrt(pooled))  # the root evens out the channels
        raw = unit((balanced - weights["image.raw_mean"]) @ weights["image.raw"])
        aligned = self._aligned("image", pooled, stages)
        hubness = self._hubness("image", aligned)
        return self._concatenate(aligned, words, hubness, raw_image=raw)

    def text_vectors(self, pooled: np.ndarray, *stages: np.ndarray) -> np.ndarray:
        """Map the backbone's pooled features (n, 384), and those of each trained stage, to vectors
        (n, dim), without the multilingual network."""
        return self._text_blocks(pooled, self._aligned("text", pooled, stages))

    def _text_blocks(
        self, pooled: np.ndarray, aligned: np.ndarray, sentences: np.ndarray | None = None
    ) -> np.ndarray:
        weights = self._weights
        normalized = unit(pooled)
        words = unit(normalized @ weights["words.projection"] - weights["words.mean"])
        raw = unit(normalized @ weights["text.raw"])
        raw_sentence = None
        if self.config.raw_sentence_dim and sentences is not None:
            centered = sentences[:, : multilingual.WIDTH] - weights["sentence.raw_mean"]
            raw_sentence = unit(centered @ weights["sentence.raw"])
        hubness = self._hubness("text", aligned)
        return self._concatenate(aligned, words, hubness, raw_text=raw, raw_sentence=raw_sentence)

    def _hubness(self, side: Literal["image", "text"], aligned: np.ndarray) -> np.ndarray:
        """Return the block that corrects hubness, (n, 2), or (n, 0) without banks."""
        if not self.config.hubness_bank:
            return np.zeros((len(aligned), 0), np.float32)
        number = ("image", "text").index(side)
        bank = self._weights[("hubness.captions", "hubness.photos")[number]]
        return hubness_block(side, aligned, bank, float(self._weights["hubness.means"][number]))

    def _mixed(
        self,
        texts: Sequence[str],
        is_glossed: np.ndarray,
        role: Role,
        pooled: np.ndarray,
        aligned: np.ndarray,
        sentences: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mix what the English network read, pooled states and aligned vectors, with what the
        multilingual network and the adapter read.

        The less they agree, the less the English network can have read, unless the text is English
        without doubt. Texts that are glossed (n,), and queries, have a least share. The adapter,
        which costs most, reads the texts where the share is large.
        """
        vectors = head(sentences, self._weights, "multilingual")
        slope, bias = self._weights["multilingual.gate"]
        share = 1 / (1 + np.exp(-(slope * np.sum(aligned * vectors, axis=1) + bias)))
        share[[is_english(split_words(text)) for text in texts]] = 0
        states, state_share = unit(pooled), share
        if self.config.adapter_hidden_dim:
            of_document, of_glossed, of_query = self._weights["adapter.least_shares"]
            state_share = np.maximum(share, of_glossed * is_glossed)
            share = np.maximum(state_share, of_query if role == "query" else of_document)
        is_adapted = (share > _ADAPTED_SHARE) & bool(self.config.adapter_hidden_dim)
        for part in batched(np.flatnonzero(is_adapted).tolist(), _TEXTS_AT_ONCE):
            adapted_states, *stages = self._adapted_features([texts[row] for row in part])
            vectors[part] = unit(vectors[part] + 2 * self._aligned("text", adapted_states, stages))
            states[part] += state_share[part, None] * (unit(adapted_states) - states[part])
        return states, unit((1 - share[:, None]) * aligned + share[:, None] * vectors)

    def _adapted_features(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the backbone's features of texts whose tokens it reads by the adapter."""
        embeddings: list[np.ndarray] = [np.zeros(0)] * len(texts)
        for rows, tokens in self._sentences.tokens(texts):
            sequences = adapt(tokens[:, :MAX_TOKENS], self._weights)
            for row, sequence in zip(rows, sequences, strict=True):
                embeddings[row] = sequence
        return self.text_backbone.embedded_features(embeddings)

    def _aligned(self, tower: str, pooled: np.ndarray, stages: Sequence[np.ndarray]) -> np.ndarray:
        """Concatenate the members' vectors to (n, aligned_dim) of length 1. The dot product is the
        members' mean."""
        inputs = stages or [pooled] * self.config.members
        parts = [head(x, self._weights, f"{tower}.{member}") for member, x in enumerate(inputs)]
        return np.concatenate(parts, axis=1) / np.sqrt(len(parts))

    def _concatenate(
        self,
        aligned: np.ndarray,
        words: np.ndarray,
        hubness: np.ndarray,
        raw_image: np.ndarray | None = None,
        raw_text: np.ndarray | None = None,
        raw_sentence: np.ndarray | None = None,
    ) -> np.ndarray:
        """Put the blocks together; a block that is None is 0."""
        config = self.config
        sentence_share = 0.0 if raw_sentence is None else config.sentence_share
        blocks = (
            (aligned, config.aligned_dim, config.aligned_share),
            (raw_image, config.raw_image_dim, config.raw_share),
            (raw_text, config.raw_text_dim, config.raw_share * (1 - sentence_share)),
            (raw_sentence, config.raw_sentence_dim, config.raw_share * sentence_share),
            (words, config.words_dim, config.words_share),
            (hubness, hubness.shape[1], config.aligned_share),
        )
        arrays = [
            np.zeros((len(aligned), dim), np.float32) if block is None else np.sqrt(share) * block
            for block, dim, share in blocks
        ]
        return check_finite(unit(np.concatenate(arrays, axis=1)).astype(np.float32), self.name)


def _known(weights: Mapping[str, np.ndarray], config: StarterConfig) -> dict[str, np.ndarray]:
    """Return the arrays that an encoder of this configuration has."""
    return {key: weights[key] for key in config.shapes() if key in weights}
