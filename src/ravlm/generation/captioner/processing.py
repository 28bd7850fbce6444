"""Pictures and texts as the fused model takes them: through the starter's backbones, or a
checkpoint's processors.

Siblings have the verbs `pictures` and `evidence`. Knows no knowledge base.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravlm import runtime
from ravlm.data.images import load_image
from ravlm.data.parallel import parallel_map
from ravlm.encoders.starter.backbones import ImageBackbone, TextBackbone
from ravlm.encoders.starter.config import StarterConfig
from ravlm.encoders.starter.gloss import Glosser, read_glossary
from ravlm.files import STARTER
from ravlm.generation.token_budget import fair_share
from ravlm.records import ImageSource

_KEPT = 20_000
"""Texts whose states are remembered; a caption's are some 10 kB in half precision."""


class SourceReader(ABC):
    """Makes the model's inputs."""

    @abstractmethod
    def pictures(self, images: Sequence[ImageSource]) -> dict[str, Tensor]:
        """Inputs that show n pictures."""

    @abstractmethod
    def evidence(self, texts: Sequence[Sequence[str]], budget: int) -> dict[str, Tensor]:
        """Inputs that hold the texts of each request's entries, at most `budget` tokens a request;
        {} for none."""


class StarterSources(SourceReader):
    """What the last stage of the starter's image network reads, and token states, by ONNX Runtime.

    States of texts are kept in a bounded memory that can be thrown away at any time.
    """

    def __init__(self, size: int = StarterConfig().image_size, kept: int = _KEPT) -> None:
        self.size, self._kept = size, kept
        self._memory: OrderedDict[str, np.ndarray] = OrderedDict()

    @cached_property
    def _image(self) -> ImageBackbone:
        return ImageBackbone()

    @cached_property
    def _text(self) -> TextBackbone:
        return TextBackbone()

    @cached_property
    def _glosser(self) -> Glosser:
        return Glosser(read_glossary(STARTER / "glossary.tsv"), self._text.ranks)

    def pictures(self, images: Sequence[ImageSource]) -> dict[str, Tensor]:
        def pixels(image: ImageSource) -> np.ndarray:
            loaded = load_image(image, edge=self.size)
            return np.asarray(
                loaded.resize((self.size, self.size), resample=3)
            )  # squashed, bicubic

        ready = np.stack(
            list(
                parallel_map(
                    pixels, images, workers=runtime.cpu_count(), lookahead=2 * runtime.cpu_count()
                )
            )
        )
        run = self._image.session.run
        trunk = np.concatenate(
            [run(["trunk"], {"pixels": ready[i : i + 8]})[0] for i in range(0, len(ready), 8)]
        )
        return {"image_states": torch.from_numpy(trunk).flatten(2).transpose(1, 2)}

    def evidence(self, texts: Sequence[Sequence[str]], budget: int) -> dict[str, Tensor]:
        if not any(texts):
            return {}
        states = iter(self.states([text for some in texts for text in some]))
        rows = [[next(states) for _ in some] for some in texts]
        return packed(
            [
                [s[:n] for s, n in zip(r, fair_share([len(s) for s in r], budget), strict=True)]
                for r in rows
            ]
        )

    def states(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The last token states of each text, (pieces, 384) in half precision."""
        missing = list(dict.fromkeys(text for text in texts if text not in self._memory))
        if missing:
            lengths = self._text.lengths(glossed := [self._glosser.gloss(text) for text in missing])
            for rows, (values,) in self._text.run(glossed, ["states"]):
                for row, value in zip(rows, values, strict=True):
                    self._memory[missing[row]] = value[: lengths[row]].astype(np.float16)
        found = [self._memory[text] for text in texts]
        for text in texts:
            self._memory.move_to_end(text)
        while len(self._memory) > self._kept:
            self._memory.popitem(last=False)
        return found


class ProcessorSources(SourceReader):
    """Pixels by a checkpoint's image processor, tokens by the tokenizer of its text tower
    (`reading`), or else by that of its decoder."""

    def __init__(self, image_processor: Any, tokenizer: Any, reading: Any = None) -> None:
        self.image_processor, self.reading = image_processor, reading
        self._tokenizer = tokenizer if reading is None else reading

    def pictures(self, images: Sequence[ImageSource]) -> dict[str, Tensor]:
        loaded = list(
            parallel_map(
                load_image, images, workers=runtime.cpu_count(), lookahead=2 * runtime.cpu_count()
            )
        )
        return {
            "pixel_values": self.image_processor(images=loaded, return_tensors="pt")["pixel_values"]
        }

    def evidence(self, texts: Sequence[Sequence[str]], budget: int) -> dict[str, Tensor]:
        if not any(texts):
            return {}
        rows = [
            [self._tokenizer(text, truncation=True)["input_ids"] for text in some] for some in texts
        ]
        cut = [
            [ids[:n] for ids, n in zip(r, fair_share([len(i) for i in r], budget), strict=True)]
            for r in rows
        ]
        given = packed([[np.array(ids)[:, None] for ids in row] for row in cut])
        return {
            "evidence_ids": given["evidence_states"][..., 0].long(),
            "evidence_mask": given["evidence_mask"],
        }


def packed(rows: Sequence[Sequence[np.ndarray]]) -> dict[str, Tensor]:
    """States (pieces, width) of each entry of each request as one tensor (n, k, longest, width), 0
    where there is nothing, and the mask (n, k, longest)."""
    k = max(len(row) for row in rows)
    longest = max((len(states) for row in rows for states in row), default=1)
    width = next(states.shape[1] for row in rows for states in row)
    found = np.zeros((len(rows), k, max(longest, 1), width), np.float32)
    mask = np.zeros(found.shape[:3], bool)
    for i, row in enumerate(rows):
        for j, states in enumerate(row):
            found[i, j, : len(states)], mask[i, j, : len(states)] = states, True
    return {"evidence_states": torch.from_numpy(found), "evidence_mask": torch.from_numpy(mask)}
