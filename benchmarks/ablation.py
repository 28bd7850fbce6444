"""Measure what each part of the starter encoder contributes:
python -m benchmarks.ablation --data ../shared/data [--json FILE]

Recall on the 1,000 dev photos and 5,000 captions of flickr8k for pooled heads, attention over the
grid added to its mean, two concatenated heads, trained last stages, the complete starter (its
recipe with `--seeds` seeds), the starter with a hubness correction from a bank of training captions
and photos, and a text tower trained from scratch on the training captions. Only that last row does
not depend on all-MiniLM-L6-v2, which knows Flickr30k. Everything is trained with the recipe's own
steps and cached in `--work`; a run that was stopped resumes. On two cores with bf16: half an hour
per seed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.data import DATA
from benchmarks.reports import write_json
from ravlm.checkpoint import read_weights
from ravlm.encoders.base import Encoder
from ravlm.encoders.losses import softmax_contrastive
from ravlm.encoders.starter import efficientnet_torch, minilm
from ravlm.encoders.starter.config import IMAGE_WIDTH, TEXT_WIDTH
from ravlm.metrics.retrieval import CrossModalRecall, cross_modal_recall
from ravlm.records import Pair
from ravlm.training.batches import batch_rows
from ravlm.training.contrastive import (
    ContrastiveStep,
    EncoderTrainingConfig,
    ProjectionHead,
    recall_figures,
)
from ravlm.training.features import PairFeatures, pair_features, trunk_features
from ravlm.training.trainer import TrainingStep, fit_once, last_figures
from recipes.starter_encoder import (
    StarterEncoderRecipe,
    class_words,
    read_flickr8k,
    train_starter,
)
from recipes.unfreeze_last_layers import UnfreezeStep

BANK_PHOTOS, BANK_CAPTIONS = 1000, 5000
NUM_NEAREST = 10
MAX_TOKENS = 64


class GridStage(nn.Module):
    """The last stage with four learned queries over its grid, added to the mean."""

    def __init__(self, stage: efficientnet_torch.LastStage) -> None:
        super().__init__()
        self.stage = stage.requires_grad_(False)
        self.queries = nn.Parameter(torch.randn(4, IMAGE_WIDTH) * 0.02)
        self.out = nn.Linear(4 * IMAGE_WIDTH, IMAGE_WIDTH)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, trunk: Tensor) -> Tensor:
        with torch.no_grad():
            grid = self.stage.grid(trunk).flatten(2).float()  # (n, 1280, positions)
        attention = (self.queries @ grid / IMAGE_WIDTH**0.5).softmax(-1)  # (n, 4, positions)
        return grid.mean(-1) + self.out((attention @ grid.transpose(1, 2)).flatten(1))


class ScratchTextTower(nn.Module):
    """A new text tower: two Transformer layers over tokens, and their mean."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, TEXT_WIDTH)
        self.positions = nn.Embedding(MAX_TOKENS, TEXT_WIDTH)
        layer = nn.TransformerEncoderLayer(
            TEXT_WIDTH, 6, 768, 0.1, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids) + self.positions.weight[: ids.shape[1]]
        x = self.layers(x, src_key_padding_mask=mask == 0)
        return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class ScratchStep(TrainingStep):
    """Contrastive training of a head on pooled image features and of a new text tower."""

    def __init__(
        self,
        features: PairFeatures,
        held_out: PairFeatures,
        train_texts: Sequence[str],
        held_out_texts: Sequence[str],
        config: EncoderTrainingConfig,
    ) -> None:
        self.features = features
        self.held_out = held_out
        self.config = config
        tokenizer = minilm.load_tokenizer(minilm.model_folder())
        self._train_ids = _token_ids(tokenizer, train_texts)
        self._held_out_ids = _token_ids(tokenizer, held_out_texts)
        torch.manual_seed(config.seed)
        images = torch.from_numpy(np.asarray(features.images[0]))
        self.text = ScratchTextTower(tokenizer.get_vocab_size())
        self.image = ProjectionHead(images.mean(0), images.std(0) + 1e-3, config)
        self.out = nn.Linear(TEXT_WIDTH, config.aligned_dim)
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.model = nn.ModuleDict({"text": self.text, "image": self.image, "out": self.out})
        self.model.register_parameter("scale", self.scale)

    def _encode_texts(self, token_ids: Sequence[list[int]]) -> Tensor:
        ids, mask = minilm.pad(token_ids)
        states = self.text(torch.from_numpy(ids), torch.from_numpy(mask))
        return F.normalize(self.out(states), dim=-1)

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        features, size = self.features, self.config.batch_size
        num_images = len(features.offsets) - 1
        rows = batch_rows(num_images, size, index, self.config.seed).numpy()
        views = torch.randint(len(features.images), (size,), generator=generator).numpy()
        fractions = torch.rand(size, generator=generator).numpy()
        num_texts = np.diff(features.offsets)[rows]
        texts = features.offsets[rows] + (fractions * num_texts).astype(np.int64)
        image_vectors = self.image(torch.from_numpy(features.images[views, rows]))
        text_vectors = self._encode_texts([self._train_ids[text] for text in texts])
        scale = self.scale.exp().clamp(max=100)
        return {"loss": softmax_contrastive(image_vectors, text_vectors, scale)}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        images = self.image(torch.from_numpy(np.asarray(self.held_out.images[0]))).numpy()
        texts = [
            self._encode_texts(self._held_out_ids[start : start + 500])
            for start in range(0, len(self._held_out_ids), 500)
        ]
        recall = cross_modal_recall(images, torch.cat(texts).numpy(), self.held_out.owner)
        return recall_figures(recall)


def _token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids[:MAX_TOKENS] for encoding in tokenizer.encode_batch(list(texts))]


def texts_of(pairs: Sequence[Pair]) -> list[str]:
    return [text for pair in pairs for text in pair.texts]


def hubness_corrected(
    texts: np.ndarray, images: np.ndarray, encoder: Encoder, train: list[Pair]
) -> np.ndarray:
    """Return scores (texts, images) minus how near each image is to training captions, and each
    text to training photos.

    CSLS (Conneau et al. 2018) with a bank of training data, as QB-Norm (Bogolin et al. 2022)
    requires: no other query is used.
    """
    order = np.random.default_rng(0).permutation(len(train))
    shuffled = [train[i] for i in order]
    photos = encoder.encode_images([pair.image for pair in shuffled[:BANK_PHOTOS]])
    captions = encoder.encode_texts(texts_of(shuffled)[:BANK_CAPTIONS])

    def hubness(rows: np.ndarray, bank: np.ndarray) -> np.ndarray:
        return np.sort(rows @ bank.T, axis=1)[:, -NUM_NEAREST:].mean(1)

    image_hubness = hubness(images, captions)[None, :]
    text_hubness = hubness(texts, photos)[:, None]
    return 2 * texts @ images.T - image_hubness - text_hubness


class Ablation:
    """The runs of all seeds, and the rows of the table."""

    def __init__(self, data: Path, work: Path, seeds: int) -> None:
        self.folders = [work / (f"seed-{2 * n}" if n else "starter") for n in range(seeds)]
        self.recipe = StarterEncoderRecipe()
        self.rows: dict[str, list[list[float]]] = {}
        self.train, self.dev = read_flickr8k(data)
        first = self.folders[0]
        self.encoders = [
            train_starter(
                data, folder / "encoder", folder, replace(self.recipe, seed=2 * n), cache=first
            )
            for n, folder in enumerate(self.folders)
        ]
        size, views = self.recipe.layout.image_size, self.recipe.heads.views
        self.features = pair_features(self.train, size, views, first / "features-train")
        self.held_out = pair_features(self.dev, size, 1, first / "features-dev")
        self.words = class_words(efficientnet_torch.load_network())

    def add_logged(self, name: str, folder: Path) -> None:
        """Add the figures at the end of a training log."""
        figures = last_figures(folder)
        self.rows.setdefault(name, []).append([v for key, v in figures.items() if "R@" in key])

    def add(self, name: str, images: np.ndarray, texts: np.ndarray) -> None:
        recall = cross_modal_recall(images, texts, self.held_out.owner)
        self.rows.setdefault(name, []).append(recall_values(recall))

    def load_heads(self, folder: Path) -> ContrastiveStep:
        """Load trained heads."""
        step = ContrastiveStep(self.features, self.recipe.heads, self.words, self.held_out)
        weights = read_weights(folder / "trained")
        state = {name: torch.from_numpy(array) for name, array in weights.items()}
        step.model.load_state_dict(state)
        step.model.eval()
        return step

    def measure_members(self) -> None:
        """Each member with and without trained last stages, and two concatenated heads."""
        for folder in self.folders:
            images, texts = [], []
            for member in range(2):
                self.add_logged("pooled heads", folder / f"heads-{member}")
                self.add_logged("trained last stages", folder / f"member-{member}")
                heads = self.load_heads(folder / f"heads-{member}").heads
                with torch.no_grad():
                    pooled = torch.from_numpy(np.asarray(self.held_out.images[0]))
                    images.append(heads.image(pooled).numpy())
                    texts.append(heads.text(torch.from_numpy(self.held_out.texts)).numpy())
            scale = 2**0.5
            self.add(
                "two pooled heads",
                np.concatenate(images, 1) / scale,
                np.concatenate(texts, 1) / scale,
            )

    def measure_grid(self) -> None:
        """Attention over the grid, from trained heads, with untrained stages."""
        first, size = self.folders[0], self.recipe.layout.image_size
        trunk = trunk_features(self.train, size, self.recipe.views, first / "trunk-train")
        dev_trunk = trunk_features(self.dev, size, 1, first / "trunk-dev")
        heads = self.load_heads(first / "heads-0").heads
        step = UnfreezeStep(trunk, heads, self.recipe.members, self.words, dev_trunk)
        step.member.image_stage = GridStage(step.member.image_stage)  # type: ignore[assignment]
        step.member.text_stage.requires_grad_(False)
        fit_once(step, self.recipe.members.loop(len(self.train)), first / "grid")
        self.add_logged("attention over the grid, one head", first / "grid")

    def measure_scratch(self) -> None:
        """A text tower trained from scratch."""
        config = replace(self.recipe.heads, batch_size=1000, epochs=30, learning_rate=1e-3)
        step = ScratchStep(
            self.features, self.held_out, texts_of(self.train), texts_of(self.dev), config
        )
        folder = self.folders[0] / "scratch"
        fit_once(step, config.loop(len(self.train)), folder)
        self.add_logged("text tower from scratch, pooled image head", folder)

    def measure_starter(self) -> None:
        """The starter of each seed, and the first with the hubness correction."""
        for encoder in self.encoders:
            images = encoder.encode_images([pair.image for pair in self.dev])
            texts = encoder.encode_texts(texts_of(self.dev))
            self.add("the starter: two trained members, class words", images, texts)
            if encoder is self.encoders[0]:
                scores = hubness_corrected(texts, images, encoder, self.train)
                self.rows["the starter, hubness corrected"] = [
                    recall_of_scores(scores, self.held_out.owner)
                ]


def recall_values(recall: CrossModalRecall) -> list[float]:
    return [*recall.text_to_image.values(), *recall.image_to_text.values()]


def recall_of_scores(scores: np.ndarray, owner: np.ndarray) -> list[float]:
    """Return the recall in both directions from scores (texts, images)."""
    text_ranks = ((-scores).argsort(1) == owner[:, None]).argmax(1)
    image_ranks = np.array(
        [
            np.flatnonzero(owner[order] == image)[0]
            for image, order in enumerate((-scores.T).argsort(1))
        ]
    )
    return [
        100 * float(np.mean(ranks < k)) for ranks in (text_ranks, image_ranks) for k in (1, 5, 10)
    ]


def report(rows: dict[str, list[list[float]]], path: Path | None) -> None:
    """Print and write the table so far: means over seeds with standard deviations."""
    table: list[dict[str, object]] = []
    for name, runs in rows.items():
        mean = np.mean(runs, 0)
        deviation = np.std(runs, 0, ddof=1) if len(runs) > 1 else np.zeros(6)
        table.append(
            {
                "row": name,
                "runs": len(runs),
                "mean": mean.round(2).tolist(),
                "spread": deviation.round(2).tolist(),
            }
        )
        cells = " ".join(f"{m:5.1f}±{s:3.1f}" for m, s in zip(mean, deviation, strict=True))
        print(f"{name:58} n {len(runs)}  t2i, i2t R@1/5/10  {cells}")
    write_json({"dev photos": 1000, "rows": table}, path)


def main() -> None:
    """Parse the options and measure all rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs"),
        help="contains a folder for each seed: starter, seed-2, seed-4 ...",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ablation = Ablation(options.data, options.work, options.seeds)
    for measure in (
        ablation.measure_members,
        ablation.measure_starter,
        ablation.measure_grid,
        ablation.measure_scratch,
    ):
        measure()
        report(ablation.rows, options.json)  # after each, so that a stopped run leaves its results


if __name__ == "__main__":
    main()
