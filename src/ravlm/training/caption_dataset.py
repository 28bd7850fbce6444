"""What a captioner is trained on: images, captions as tokens, and evidence.

`StarterCaptionDataset` holds features of the starter's backbones, `ImageCaptionDataset` images that
the processor of a Transformers checkpoint reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravlm.generation.captioner.generator import CaptionerGenerator
from ravlm.generation.captioner.processing import StarterProcessor, TransformersProcessor
from ravlm.records import ImageSource, Pair
from ravlm.training.evidence import (
    EvidenceCandidates,
    EvidenceStates,
    EvidenceTexts,
    evidence_states,
)
from ravlm.training.features import trunk_features
from ravlm.training.positives import text_offsets


@dataclass(frozen=True)
class TokenSequences:
    """Concatenated token sequences: text t has the ids[spans[t] : spans[t + 1]]."""

    ids: np.ndarray
    spans: np.ndarray

    def __len__(self) -> int:
        return len(self.spans) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each text, (n,)."""
        return np.diff(self.spans)

    @classmethod
    def tokenize(cls, texts: Sequence[str], tokenizer: Any) -> TokenSequences:
        """Tokenize texts with the tokenizer's own special tokens."""
        return cls._concatenate([tokenizer(text, truncation=True)["input_ids"] for text in texts])

    @classmethod
    def tokenize_targets(
        cls, texts: Sequence[str], tokenizer: Any, end_token: int
    ) -> TokenSequences:
        """Tokenize texts as targets of a decoder: `end_token` after each, no start token."""
        return cls._concatenate(
            [
                [
                    *tokenizer(text, add_special_tokens=False, truncation=True)["input_ids"],
                    end_token,
                ]
                for text in texts
            ]
        )

    @classmethod
    def _concatenate(cls, sequences: list[list[int]]) -> TokenSequences:
        ids = np.array([token for sequence in sequences for token in sequence], np.int64)
        return cls(ids, np.cumsum([0, *map(len, sequences)]))

    def pad(self, texts: np.ndarray, padding: int) -> np.ndarray:
        """Return the tokens of some texts, (n, max_length), filled up with `padding`."""
        lengths = self.lengths[texts]
        padded = np.full((len(texts), lengths.max()), padding, np.int64)
        for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
            padded[row, :length] = self.ids[self.spans[text] : self.spans[text] + length]
        return padded


@dataclass(frozen=True)
class CaptionDataset(ABC):
    """Images, their captions as tokens, and their evidence."""

    captions: TokenSequences
    """As `TokenSequences.tokenize_targets` returns them."""
    offsets: np.ndarray
    """Image i has the captions offsets[i] to offsets[i + 1]."""
    neighbors: EvidenceCandidates | None
    """None for a model that never gets evidence."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_views(self) -> int:
        """Number of views of each image."""
        return 1

    @abstractmethod
    def image_inputs(
        self, images: np.ndarray, views: np.ndarray | None = None
    ) -> dict[str, Tensor]:
        """Return the model's inputs for some images; `views` (n,) chooses a view of each, None the
        unchanged images."""

    @abstractmethod
    def evidence_inputs(self, texts: np.ndarray) -> dict[str, Tensor]:
        """Return the model's inputs for texts (n, k) of evidence, -1 for none."""


@dataclass(frozen=True)
class StarterCaptionDataset(CaptionDataset):
    """Images as inputs of the starter's last image stage, evidence as token states."""

    grids: Sequence[np.ndarray]
    """One array for each view: (num_images, 208, g, g) in half precision."""

    @property
    def num_views(self) -> int:
        return len(self.grids)

    def image_inputs(
        self, images: np.ndarray, views: np.ndarray | None = None
    ) -> dict[str, Tensor]:
        views = np.zeros(len(images), int) if views is None else views
        grids = [self.grids[view][image] for view, image in zip(views, images, strict=True)]
        states = torch.from_numpy(np.stack(grids)).float()  # (n, 208, g, g)
        return {"image_states": states.flatten(2).transpose(1, 2)}

    def evidence_inputs(self, texts: np.ndarray) -> dict[str, Tensor]:
        assert isinstance(self.neighbors, EvidenceStates)
        states, mask = self.neighbors.pad(texts)
        return {
            "evidence_states": torch.from_numpy(states),
            "evidence_mask": torch.from_numpy(mask),
        }


@dataclass(frozen=True)
class ImageCaptionDataset(CaptionDataset):
    """Images that are loaded in every step."""

    images: Sequence[ImageSource]
    processor: TransformersProcessor
    max_evidence_tokens: int = 160
    """Tokens of evidence per image."""

    def image_inputs(
        self, images: np.ndarray, views: np.ndarray | None = None
    ) -> dict[str, Tensor]:
        return self.processor.image_inputs([self.images[image] for image in images])

    def evidence_inputs(self, texts: np.ndarray) -> dict[str, Tensor]:
        assert isinstance(self.neighbors, EvidenceTexts)
        rows = [[self.neighbors.texts[text] for text in row if text >= 0] for row in texts]
        return self.processor.evidence_inputs(rows, self.max_evidence_tokens)


def caption_dataset(
    generator: CaptionerGenerator,
    pairs: Sequence[Pair],
    evidence: EvidenceTexts | None,
    folder: Path,
    views: int = 1,
) -> CaptionDataset:
    """Return the dataset of `pairs` that suits the generator. Features are cached in `folder`."""
    end_token = generator.model.generation_config.eos_token_id
    texts = [text for pair in pairs for text in pair.texts]
    captions = TokenSequences.tokenize_targets(texts, generator.tokenizer, end_token)
    offsets = text_offsets(pairs)
    processor = generator.processor
    if isinstance(processor, StarterProcessor):
        trunk = trunk_features(pairs, processor.image_size, views, folder)
        states = evidence_states(evidence, processor) if evidence is not None else None
        return StarterCaptionDataset(captions, offsets, states, trunk.grids)
    assert isinstance(processor, TransformersProcessor)
    images = [pair.image for pair in pairs]
    max_tokens = generator.settings.max_evidence_tokens
    return ImageCaptionDataset(captions, offsets, evidence, images, processor, max_tokens)
