"""Contrastive training with the backbones' last stages opened.

Of the image network the last block and head, of the text network the last two layers: a copy of
each is trained with a pair of heads. What lies below is frozen and computed once.

Knows the torch form of both stages and gradient caching; `contrastive.py` trains the heads alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ravlm import runtime
from ravlm.encoders.losses import softmax_contrastive
from ravlm.encoders.starter import efficientnet, minilm
from ravlm.metrics.retrieval import cross_modal_recall
from ravlm.training.contrastive import ClassWords, Heads, recall_figures
from ravlm.training.features import TrunkFeatures
from ravlm.training.grad_cache import cached_backward
from ravlm.training.trainer import LoopConfig, Step, batch_rows


@dataclass(frozen=True)
class OpenedConfig:
    """How a member is trained from heads that are trained already."""

    epochs: int = 16
    batch: int = 1000
    chunk: int = 100
    """Pictures, or texts, that go through a stage at once: memory grows with it, not with the
    batch."""
    rate: float = 1e-3
    stage_rates: tuple[float, float] = (0.3, 0.08)
    """Factors of the rate for the image stage and for the text stage."""
    dropout: float = 0.4
    class_words: int = 120
    average: float = 0.95
    weight_decay: float = 1e-3
    seed: int = 0

    def loop(self, pairs: int) -> LoopConfig:
        """The loop's configuration for so many pictures."""
        steps = self.epochs * (pairs // self.batch)
        return LoopConfig(
            steps=steps,
            rate=self.rate,
            warmup=30,
            weight_decay=self.weight_decay,
            average=self.average,
            seed=self.seed,
            save_every=max(10, steps // 6),
            log_every=max(1, steps // 40),
        )


class TextStage(nn.Module):
    """The last layers of the text network: token states (n, pieces, 384) and mask -> their mean (n,
    384)."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertModel

        # eager: the backward of torch's fused attention is six times slower in bf16 on a CPU
        folder = str(minilm.model_folder())
        model = BertModel.from_pretrained(
            folder, local_files_only=True, attn_implementation="eager"
        )
        self.layers = nn.ModuleList(model.encoder.layer[minilm.TRUNK_LAYERS :])
        for module in self.layers.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        hidden = (1 - mask[:, None, None, :]) * -1e4
        for layer in self.layers:
            states = layer(states, hidden.to(states.dtype))
        return (states.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class Member(nn.Module):
    """A copy of both stages with a pair of heads."""

    def __init__(
        self, heads: Heads, network: efficientnet.EfficientNetLite2, dropout: float
    ) -> None:
        super().__init__()
        self.image_stage, self.text_stage = efficientnet.LastStage(network), TextStage()
        self.heads = copy.deepcopy(heads)
        self.heads.image.dropout = self.heads.text.dropout = dropout

    def arrays(self, member: int) -> dict[str, np.ndarray]:
        """All weights as the starter names them."""
        image = {
            f"image.{member}.opened.{k}": v.numpy()
            for k, v in self.image_stage.state_dict().items()
        }
        text: dict[str, np.ndarray] = {}
        for name, value in self.text_stage.layers.state_dict().items():
            number, rest = name.split(".", 1)
            layer = minilm.TRUNK_LAYERS + int(number)
            text[f"text.{member}.opened.encoder.layer.{layer}.{rest}"] = value.numpy()
        heads = self.heads.image.arrays(f"image.{member}") | self.heads.text.arrays(
            f"text.{member}"
        )
        return image | text | heads


class OpenedStep(Step):
    """Each step: `batch` pictures, one view and one text of each, and some class words, by gradient
    caching."""

    def __init__(
        self,
        features: TrunkFeatures,
        heads: Heads,
        config: OpenedConfig,
        class_words: ClassWords,
        held_out: TrunkFeatures | None = None,
    ) -> None:
        self.features, self.config, self.class_words, self.held_out = (
            features,
            config,
            class_words,
            held_out,
        )
        torch.manual_seed(config.seed)
        network = efficientnet.load_network(efficientnet.weights_file())
        self.model = self.member = Member(heads, network, config.dropout)
        self.dtype = runtime.inference_dtype(torch.device("cpu"))

    def rate_of(self, name: str) -> float:
        image, text = self.config.stage_rates
        return (
            image
            if name.startswith("image_stage.")
            else text
            if name.startswith("text_stage.")
            else 1.0
        )

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        raise TypeError("an opened member is trained by `backward`, chunk by chunk")

    def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
        c, f = self.config, self.features
        chosen = batch_rows(len(f.offsets) - 1, c.batch, index, c.seed).numpy()
        view = torch.randint(len(f.grids), (c.batch,), generator=generator).numpy()
        share = torch.rand(c.batch, generator=generator).numpy()
        texts = f.offsets[chosen] + (share * np.diff(f.offsets)[chosen]).astype(np.int64)
        by_length = np.argsort(np.diff(f.spans)[texts], kind="stable")  # little padding in a chunk
        chosen, view, texts = chosen[by_length], view[by_length], texts[by_length]
        photos = torch.from_numpy(np.array(f.pooled_images))
        moved, names = self.class_words.draw(photos, c.class_words, generator)
        heads, words = (
            self.member.heads,
            np.zeros(0, np.int64),
        )  # an empty chunk stands for the class words

        def images(r: np.ndarray) -> Tensor:
            return self._image(f, view[r], chosen[r]) if len(r) else heads.image(moved)

        def captions(r: np.ndarray) -> Tensor:
            return self._text(f, texts[r]) if len(r) else heads.text(names)

        def loss_of(a: Tensor, b: Tensor) -> Tensor:
            return softmax_contrastive(a, b, heads.log_scale.exp().clamp(max=100))

        chunks = [*_chunks(c.batch, c.chunk), words]
        return {"loss": float(cached_backward([(images, chunks), (captions, chunks)], loss_of))}

    def _image(self, f: TrunkFeatures, view: np.ndarray, rows: np.ndarray) -> Tensor:
        grids = torch.from_numpy(
            np.stack([f.grids[v][r] for v, r in zip(view, rows, strict=True)])
        ).float()
        grids = grids.contiguous(memory_format=torch.channels_last)
        with runtime.autocast(torch.device("cpu"), self.dtype):
            pooled = self.member.image_stage(grids)
        return self.member.heads.image(pooled)

    def _text(self, f: TrunkFeatures, texts: np.ndarray) -> Tensor:
        states, mask = f.token_states(texts)
        with runtime.autocast(torch.device("cpu"), self.dtype):
            pooled = self.member.text_stage(
                torch.from_numpy(states).float(), torch.from_numpy(mask)
            )
        return self.member.heads.text(pooled)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        f = self.held_out
        if f is None:
            return {}
        n, texts = len(f.offsets) - 1, f.offsets[-1]
        view = np.zeros(self.config.chunk, np.int64)
        images = [self._image(f, view[: len(r)], r) for r in _chunks(n, self.config.chunk)]
        captions = [self._text(f, r) for r in _chunks(texts, self.config.chunk)]
        recall = cross_modal_recall(torch.cat(images).numpy(), torch.cat(captions).numpy(), f.owner)
        return recall_figures(recall)


def _chunks(n: int, size: int) -> Sequence[np.ndarray]:
    return [np.arange(i, min(i + size, n)) for i in range(0, n, size)]
