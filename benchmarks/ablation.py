"""What each part of the starter encoder brings: python benchmarks/ablation.py --data ../shared/data
[--json FILE]

Recall on the 1,000 dev photos and 5,000 captions of flickr8k for pooled heads, for attention over
the grid beside its mean, for two heads side by side, for opened last stages, for the whole starter
(its recipe with `--seeds` seeds), with the hubness correction of a bank of training captions and
photos, and with a text tower trained from scratch on the training captions alone: the one row that
owes nothing to all-MiniLM-L6-v2, which knows Flickr30k. Everything is trained by the recipe's own
steps and kept in `--work`; a run that was stopped goes on. On two cores with bf16: half an hour a
seed."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from recipes.starter_encoder import Recipe, class_words, train_starter
from recipes.unfreeze_last_layers import OpenedStep
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm.checkpoint import read_weights
from ravlm.data.readers import read_pairs
from ravlm.encoders.base import Encoder
from ravlm.encoders.losses import softmax_contrastive
from ravlm.encoders.starter import efficientnet, minilm
from ravlm.encoders.starter.config import IMAGE_WIDTH
from ravlm.metrics.retrieval import CrossModalRecall, cross_modal_recall
from ravlm.records import Pair
from ravlm.training.contrastive import ContrastiveConfig, ContrastiveStep, Head, recall_figures
from ravlm.training.features import PairFeatures, pair_features, trunk_features
from ravlm.training.trainer import Step, batch_rows, fit_once, last_figures

Row = dict[str, object]
_BANK = (1000, 5000)
_NEAREST = 10


class GridStage(nn.Module):
    """The last stage with four learnt queries over its grid, added to the mean."""

    def __init__(self, stage: efficientnet.LastStage) -> None:
        super().__init__()
        self.stage = stage.requires_grad_(False)
        self.queries = nn.Parameter(torch.randn(4, IMAGE_WIDTH) * 0.02)
        self.out = nn.Linear(4 * IMAGE_WIDTH, IMAGE_WIDTH)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, trunk: Tensor) -> Tensor:
        with torch.no_grad():
            grid = self.stage.grid(trunk).flatten(2).float()  # (n, 1280, places)
        shares = (self.queries @ grid / IMAGE_WIDTH**0.5).softmax(-1)
        return grid.mean(-1) + self.out((shares @ grid.transpose(1, 2)).flatten(1))


class ScratchText(nn.Module):
    """A text tower of its own: two Transformer layers over word pieces, and their mean."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(pieces, 384), nn.Embedding(64, 384)
        layer = nn.TransformerEncoderLayer(384, 6, 768, 0.1, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids) + self.places.weight[: ids.shape[1]]
        x = self.layers(x, src_key_padding_mask=mask == 0)
        return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class ScratchStep(Step):
    """Contrastive training of a head on pooled image features and a text tower from nothing."""

    def __init__(
        self,
        features: PairFeatures,
        held_out: PairFeatures,
        texts: list[list[str]],
        config: ContrastiveConfig,
    ) -> None:
        self.features, self.held_out, self.config = features, held_out, config
        tokenizer = minilm.load_tokenizer(minilm.model_folder())
        self._ids = [[e.ids[:64] for e in tokenizer.encode_batch(some)] for some in texts]
        torch.manual_seed(config.seed)
        images = torch.from_numpy(np.asarray(features.images[0]))
        self.text = ScratchText(tokenizer.get_vocab_size())
        self.image = Head(images.mean(0), images.std(0) + 1e-3, config)
        self.out, self.scale = nn.Linear(384, config.aligned_dim), nn.Parameter(torch.tensor(3.0))
        self.model = nn.ModuleDict({"text": self.text, "image": self.image, "out": self.out})
        self.model.register_parameter("scale", self.scale)

    def _texts(self, rows: np.ndarray, split: int) -> Tensor:
        ids, mask = minilm.pad([self._ids[split][row] for row in rows])
        return F.normalize(
            self.out(self.text(torch.from_numpy(ids), torch.from_numpy(mask))), dim=-1
        )

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        f, c = self.features, self.config
        chosen = batch_rows(len(f.offsets) - 1, c.batch, index, c.seed).numpy()
        view = torch.randint(len(f.images), (c.batch,), generator=generator).numpy()
        share = torch.rand(c.batch, generator=generator).numpy()
        texts = f.offsets[chosen] + (share * np.diff(f.offsets)[chosen]).astype(np.int64)
        images = self.image(torch.from_numpy(f.images[view, chosen]))
        return {
            "loss": softmax_contrastive(
                images, self._texts(texts, 0), self.scale.exp().clamp(max=100)
            )
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        f = self.held_out
        images = self.image(torch.from_numpy(np.asarray(f.images[0]))).numpy()
        texts = [
            self._texts(np.arange(i, min(i + 500, f.offsets[-1])), 1)
            for i in range(0, f.offsets[-1], 500)
        ]
        return recall_figures(cross_modal_recall(images, torch.cat(texts).numpy(), f.owner))


def figures(recall: CrossModalRecall) -> list[float]:
    return [*recall.text_to_image.values(), *recall.image_to_text.values()]


def corrected(
    texts: np.ndarray, images: np.ndarray, encoder: Encoder, train: list[Pair]
) -> np.ndarray:
    """Scores (texts, images) less how near each image is to training captions, and each text to
    training photos.

    CSLS (Conneau et al. 2018) with a bank of training data, as QB-Norm (Bogolin et al. 2022) asks:
    no other query is seen."""
    photos, captions = _BANK
    rng = np.random.default_rng(0)
    some = [train[i] for i in rng.permutation(len(train))]
    known_photos = encoder.encode_images([pair.image for pair in some[:photos]])
    known_texts = encoder.encode_texts([text for pair in some for text in pair.texts][:captions])

    def hub(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.sort(rows @ others.T, axis=1)[:, -_NEAREST:].mean(1)

    return (
        2 * texts @ images.T - hub(images, known_texts)[None, :] - hub(texts, known_photos)[:, None]
    )


class Ablation:
    """The runs of all seeds, and the rows made of them."""

    def __init__(self, data: Path, work: Path, seeds: int) -> None:
        self.works = [work / (f"seed-{2 * n}" if n else "starter") for n in range(seeds)]
        self.recipe, self.rows = Recipe(), dict[str, list[list[float]]]()
        pairs = list(read_pairs(data / "flickr8k" / "metadata.jsonl"))
        self.train, self.dev = (
            [p for p in pairs if p.metadata["split"] == split] for split in ("train", "dev")
        )
        self.encoders = [
            train_starter(
                data, folder / "encoder", folder, replace(self.recipe, seed=2 * n), self.works[0]
            )
            for n, folder in enumerate(self.works)
        ]
        first, size = self.works[0], self.recipe.layout.image_size
        self.features = pair_features(
            self.train, size, self.recipe.heads.views, first / "features-train"
        )
        self.held_out = pair_features(self.dev, size, 1, first / "features-dev")
        self.words = class_words(efficientnet.load_network(efficientnet.weights_file()))

    def logged(self, name: str, folder: Path) -> None:
        """The figures at the end of a training's log."""
        self.rows.setdefault(name, []).append(
            [value for key, value in last_figures(folder).items() if "R@" in key]
        )

    def heads(self, folder: Path) -> ContrastiveStep:
        """Heads that were trained."""
        step = ContrastiveStep(self.features, self.recipe.heads, self.words, self.held_out)
        arrays = read_weights(folder / "trained")
        step.model.load_state_dict(
            {name: torch.from_numpy(array) for name, array in arrays.items()}
        )
        step.model.eval()
        return step

    def members(self) -> None:
        """Each member before and after its last stages were opened, and two heads side by side."""
        for work in self.works:
            sides = []
            for member in range(2):
                self.logged("pooled heads", work / f"heads-{member}")
                self.logged("opened last stages", work / f"member-{member}")
                heads = self.heads(work / f"heads-{member}").heads
                with torch.no_grad():
                    images = heads.image(torch.from_numpy(np.asarray(self.held_out.images[0])))
                    texts = heads.text(torch.from_numpy(np.asarray(self.held_out.texts)))
                sides.append((images.numpy(), texts.numpy()))
            images, texts = (np.concatenate(side, 1) / 2**0.5 for side in zip(*sides, strict=True))
            self.add("two pooled heads", images, texts)

    def grid(self) -> None:
        """Attention over the grid, from trained heads, the stages as they were."""
        first, size = self.works[0], self.recipe.layout.image_size
        trunk = trunk_features(self.train, size, self.recipe.views, first / "trunk-train")
        unseen = trunk_features(self.dev, size, 1, first / "trunk-dev")
        step = OpenedStep(
            trunk, self.heads(first / "heads-0").heads, self.recipe.members, self.words, unseen
        )
        step.member.image_stage = GridStage(step.member.image_stage)  # type: ignore[assignment]
        step.member.text_stage.requires_grad_(False)
        fit_once(step, self.recipe.members.loop(len(self.train)), first / "grid")
        self.logged("attention over the grid, one head", first / "grid")

    def scratch(self) -> None:
        """A text tower from nothing."""
        config = replace(self.recipe.heads, batch=1000, epochs=30, rate=1e-3)
        texts = [[text for pair in some for text in pair.texts] for some in (self.train, self.dev)]
        step = ScratchStep(self.features, self.held_out, texts, config)
        fit_once(step, config.loop(len(self.train)), self.works[0] / "scratch")
        self.logged("text tower from scratch, pooled image head", self.works[0] / "scratch")

    def whole(self) -> None:
        """The starter of each seed, and the first with the hubness correction."""
        for encoder in self.encoders:
            images = encoder.encode_images([pair.image for pair in self.dev])
            texts = encoder.encode_texts([text for pair in self.dev for text in pair.texts])
            self.add("the starter: two opened members, class words", images, texts)
            if encoder is self.encoders[0]:
                scores = corrected(texts, images, encoder, self.train)
                self.rows["the starter, hubness corrected"] = [
                    recall_of(scores, self.held_out.owner)
                ]

    def add(self, name: str, images: np.ndarray, texts: np.ndarray) -> None:
        self.rows.setdefault(name, []).append(
            figures(cross_modal_recall(images, texts, self.held_out.owner))
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs"),
        help="a folder a seed: starter, seed-2, seed-4 ...",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    ablation = Ablation(given.data, given.work, given.seeds)
    for part in (ablation.members, ablation.whole, ablation.grid, ablation.scratch):
        part()
        report(ablation.rows, given.json)  # after each: a run that is stopped leaves what it has


def recall_of(scores: np.ndarray, owner: np.ndarray) -> list[float]:
    """Recall from scores (texts, images)."""
    order = (-scores).argsort(1)
    ranks = (order == owner[:, None]).argmax(1)
    back = np.array(
        [np.flatnonzero(owner[o] == i)[0] for i, o in enumerate((-scores.T).argsort(1))]
    )
    return [100 * float(np.mean(r < k)) for r in (ranks, back) for k in (1, 5, 10)]


def report(rows: dict[str, list[list[float]]], path: Path | None) -> None:
    """The table so far, means over seeds with their spread."""
    found: list[Row] = []
    for name, runs in rows.items():
        mean, spread = np.mean(runs, 0), np.std(runs, 0, ddof=1) if len(runs) > 1 else np.zeros(6)
        row: Row = {
            "row": name,
            "runs": len(runs),
            "mean": mean.round(2).tolist(),
            "spread": spread.round(2).tolist(),
        }
        found.append(row)
        cells = " ".join(f"{m:5.1f}±{s:3.1f}" for m, s in zip(mean, spread, strict=True))
        print(f"{name:58} n {len(runs)}  t2i, i2t R@1/5/10  {cells}")
    if path:
        path.write_text(
            json.dumps({"dev photos": 1000, "rows": found}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
