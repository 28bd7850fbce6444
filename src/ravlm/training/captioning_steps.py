"""Training of a fused generator: next-token loss with evidence, then self-critical training.

A photo is encoded once for its captions. Each step samples k entries of a longer list and drops all
evidence of a share of the pictures, so that the model neither ignores nor merely copies evidence
and serves the closed book too. Knows the losses' inputs; how evidence is found is
`generator_data.py`'s business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ravlm import runtime
from ravlm.errors import InvalidInput
from ravlm.generation.captioner.modeling import CaptionerModel
from ravlm.metrics.cider import CiderFrequencies, cider
from ravlm.records import Modality
from ravlm.training.caption_dataset import GeneratorData, first_texts, sampled
from ravlm.training.trainer import LoopConfig, PartedStep, batch_rows, parts


@dataclass(frozen=True)
class GeneratorConfig:
    """How a generator is trained. `batch` pictures a step, `captions` texts of each."""

    epochs: int = 12
    batch: int = 64
    accumulate: int = 1
    """Parts that a batch is taken in, one after another: memory falls, the gradient stays."""
    captions: int = 5
    rate: float = 1e-3
    k: int = 4
    most: int = 24
    """Entries that `k` are sampled from."""
    reads: Modality = "image"
    """What evidence is found by, in training as later: see `Generator.reads`."""
    folds: int = 0
    """Found by text, by heads that were trained on the other folds of the pairs; 0: by the base,
    whose encoder must not have been trained on the pairs."""
    dropped: float = 0.25
    """The share of pictures that is shown without evidence. 1: a closed-book twin."""
    smoothing: float = 0.1
    unknown: float = 0.1
    """The share of words that the model is not told when it writes the next one."""
    unknown_id: int | None = 3
    """The token that stands for them (<unk> of our own vocabularies); None: all are told."""
    weight_decay: float = 0.01
    average: float = 0.995
    samples: int = 5
    """Texts drawn of a picture in self-critical training."""
    longest: int = 20
    """Words of a text that are written in training; a longer one is cut, so that few make many
    wait."""
    views: int = 2
    """Views of each picture, where their features are kept: as it is, mirrored, then random
    crops."""
    stage_rate: float = 0.3
    """Factor of the rate for the model's picture stage; 0 leaves it as it is."""
    seed: int = 0

    def loop(self, pictures: int) -> LoopConfig:
        """The loop's configuration for so many pictures. Raises InvalidInput when they do not fill
        a batch."""
        if pictures < self.batch:
            raise InvalidInput(
                f"A batch of {self.batch} is larger than the data ({pictures} pictures); take fewer."
            )
        parts(self.batch, self.accumulate)
        steps = self.epochs * (pictures // self.batch)
        return LoopConfig(
            steps=steps,
            rate=self.rate,
            warmup=min(200, steps // 5 + 1),
            weight_decay=self.weight_decay,
            average=self.average,
            seed=self.seed,
            save_every=max(20, steps // 10),
            log_every=max(1, steps // 60),
        )


class GeneratorStep(PartedStep):
    """Next-token loss of captions, given picture and evidence."""

    def __init__(
        self,
        model: CaptionerModel,
        data: GeneratorData,
        config: GeneratorConfig,
        held_out: GeneratorData | None = None,
    ) -> None:
        self.model = self.fused = model
        self._reads_scores = model.config.fusion.startswith("marginal")
        self.data, self.config, self.held_out = data, config, held_out
        self.device = model.device
        self.batch, self.accumulate = config.batch, config.accumulate

    def rate_of(self, name: str) -> float:
        return self.config.stage_rate if name.startswith("encoder.stage.") else 1.0

    def part(
        self, index: int, generator: torch.Generator, rows: slice
    ) -> tuple[dict[str, Tensor], float]:
        c, data = self.config, self.data
        random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        pictures = batch_rows(len(data), c.batch, index, c.seed).numpy()
        counts = np.diff(data.offsets)[pictures]
        beyond = np.arange(counts.max()) >= counts[:, None]
        shuffled = np.argsort(random.random(beyond.shape) + beyond)
        which = data.offsets[pictures][:, None] + shuffled[:, np.arange(c.captions) % counts.min()]
        labels = torch.from_numpy(data.words.padded(which.ravel(), -100))[:, : c.longest]
        hidden = torch.rand(labels.shape, generator=generator) < c.unknown
        mine = slice(rows.start * c.captions, rows.stop * c.captions)
        lengths = (labels != -100).sum(1)
        longest, weight = int(lengths[mine].max()), int(lengths[mine].sum()) / int(lengths.sum())
        with runtime.autocast(self.device):
            shown = self._shown(data, pictures, random, rows)
            return {
                "loss": self._loss(shown, labels[mine, :longest], hidden[mine, :longest])
            }, weight

    def _loss(self, shown: dict[str, Tensor], labels: Tensor, hidden: Tensor) -> Tensor:
        labels = labels.to(self.device)
        words = self.fused.shifted(labels)
        if self.config.unknown_id is not None:
            hidden[:, 0] = False
            words = words.masked_fill(
                hidden.to(self.device) & (labels != -100), self.config.unknown_id
            )
        loss = self.fused(
            **shown, labels=labels, decoder_input_ids=words, label_smoothing=self.config.smoothing
        ).loss
        assert loss is not None
        return loss

    def _shown(
        self,
        data: GeneratorData,
        pictures: np.ndarray,
        random: np.random.Generator | None = None,
        rows: slice = slice(None),
    ) -> dict[str, Tensor]:
        """The model's inputs for some rows of the pictures: in training (`random`) in any view and
        with sampled evidence, drawn for all of them, else as at inference."""
        shown = self._gathered(data, pictures, random, rows)
        return {name: value.to(self.device) for name, value in shown.items()}

    def _gathered(
        self,
        data: GeneratorData,
        pictures: np.ndarray,
        random: np.random.Generator | None,
        rows: slice,
    ) -> dict[str, Tensor]:
        views = None if random is None else random.integers(data.views, size=len(pictures))[rows]
        shown, c = data.pictures(pictures[rows], views), self.config
        if data.near is None or c.dropped >= 1 or c.k == 0:
            return shown
        texts, scores = (
            first_texts(data.near, pictures, c.k)
            if random is None
            else sampled(data.near, pictures, c.k, c.dropped, random)
        )
        texts, scores = texts[rows], scores[rows]
        if (texts < 0).all():
            return shown
        if self._reads_scores:
            shown["evidence_scores"] = torch.from_numpy(scores)
        return shown | data.evidence(texts)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The loss a word on held-out captions, with evidence and without, nothing smoothed or
        hidden."""
        data, c = self.held_out, self.config
        if data is None:
            return {}
        found: dict[str, list[float]] = {}
        for start in range(0, len(data), c.batch):
            pictures = np.arange(start, min(start + c.batch, len(data)))
            labels = torch.from_numpy(data.words.padded(data.offsets[pictures], -100)).to(
                self.device
            )
            shown = self._shown(data, pictures)
            alone = {
                name: value for name, value in shown.items() if not name.startswith("evidence")
            }
            with runtime.autocast(self.device):
                for name, given in (
                    ("held-out loss", shown),
                    ("held-out loss, closed book", alone),
                ):
                    found.setdefault(name, []).append(
                        float(self.fused(**given, labels=labels).loss)
                    )
        return {name: float(np.mean(losses)) for name, losses in found.items()}


class SelfCriticalStep(GeneratorStep):
    """Self-critical training (Rennie et al. 2017) with CIDEr as reward: several texts are drawn for
    each picture, and what is better than the mean of the others is made likelier (leave-one-out
    baseline; Luo 2020).

    Taken in parts, each part is a mean over the words that were drawn in it. `references`: the
    captions of each picture, words apart by spaces; `say`: tokens to a text of that form."""

    def __init__(
        self,
        model: CaptionerModel,
        data: GeneratorData,
        config: GeneratorConfig,
        references: Sequence[Sequence[str]],
        frequencies: CiderFrequencies,
        say: Callable[[Sequence[int]], str],
        held_out: GeneratorData | None = None,
    ) -> None:
        super().__init__(model, data, config, held_out)
        self.references, self.frequencies, self._say = references, frequencies, say

    def part(
        self, index: int, generator: torch.Generator, rows: slice
    ) -> tuple[dict[str, Tensor], float]:
        c, data = self.config, self.data
        random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        pictures = batch_rows(len(data), c.batch, index, c.seed).numpy()
        shown = self._shown(data, pictures, random, rows)
        pictures = pictures[rows]
        with runtime.autocast(self.device):
            self.fused.eval()
            drawn = self.fused.generate(
                **shown,
                do_sample=True,
                top_k=0,
                num_return_sequences=c.samples,
                max_new_tokens=c.longest,
            )[:, 1:]
            self.fused.train()
            rewards = self._rewards(drawn, pictures).reshape(-1, c.samples)
            others = (rewards.sum(1, keepdims=True) - rewards) / (c.samples - 1)
            better = torch.from_numpy((rewards - others).ravel()).to(self.device)
            counts = _counts(drawn, self.fused.generation_config.eos_token_id)
            said = self.fused(**shown, decoder_input_ids=self.fused.shifted(drawn)).logits
        likely = said.float().log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
        loss = -(better[:, None] * likely * counts).sum() / counts.sum()
        return {"loss": loss, "reward": torch.tensor(rewards.mean())}, len(pictures) / c.batch

    def _rewards(self, drawn: Tensor, pictures: np.ndarray) -> np.ndarray:
        """CIDEr (n * samples,) of what was drawn."""
        texts = [self._say(row) for row in drawn.tolist()]
        wanted = [
            self.references[picture] for picture in pictures.repeat(self.config.samples).tolist()
        ]
        return np.array(
            cider(texts, wanted, tokenize="none", frequencies=self.frequencies).items, np.float32
        )


def _counts(drawn: Tensor, end: int) -> Tensor:
    """1 for the words of a text (n, t) up to its end, that included, 0 behind it."""
    ended = (drawn == end).cumsum(1)
    return ((ended == 0) | ((ended == 1) & (drawn == end))).float()
