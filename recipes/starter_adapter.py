"""Teach the starter's English network to read the multilingual network's tokens.

    python -m recipes.starter_adapter --data ../shared/data --work runs/languages --out FOLDER

`--data`: a folder with flickr8k, flickr8k_cn, multi30k and squad. A small map of token features to
word embeddings is trained under the frozen English network: a translation gets the vectors of its
original, a caption by a native speaker those of its photo, and English prose its own. Some texts
lose tokens or have them in another order, as other languages do. Then the banks of captions and
photos are chosen that correct hubness. Uses the features that `recipes.starter_languages`, which
comes first, left in `--work`. Nothing uses a dev split except the printed figures. Resumable.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ravlm import runtime
from ravlm.data.text import split_sentences
from ravlm.encoders.starter import hubness, minilm
from ravlm.encoders.starter.config import STAGE_PREFIX
from ravlm.encoders.starter.encoder import StarterEncoder, unit
from ravlm.encoders.starter.hubness import bank_cosines
from ravlm.encoders.starter.multilingual import WIDTH
from ravlm.files import STARTER
from ravlm.training.config import TrainingConfig
from ravlm.training.contrastive import ProjectionHead
from ravlm.training.fingerprint import fingerprint
from ravlm.training.trainer import TrainingStep, fit_once
from recipes.reading_data import read_examples
from recipes.starter_encoder import PHRASINGS, class_names
from recipes.starter_languages import RAW_DIM, LanguagesData
from recipes.unfreeze_last_layers import TextStage

GATE = (-12.0, 7.5)
"""Slope and bias of the multilingual share by agreement: 0.04 at 0.88, 0.5 at 0.63, 0.99 at 0.2.
Chosen on the names of groceries, butterflies and furniture."""
LEAST_SHARES = (0.15, 0.8, 0.5)
"""Least shares of the multilingual reading: see `token_adapter.adapter_shapes`. Chosen on the
captions of every second dev photo."""
_MAX_TOKENS = 48
"""Tokens of a training text that count."""
_SHARES = {
    "en": 0.06, "zh": 0.25, "zh translated": 0.22, "de": 0.19, "de translated": 0.07,
    "fr translated": 0.07, "prose": 0.11, "names": 0.03,
}  # fmt: skip
"""Source -> share of a batch."""
_BRANCH_SHARES = (0.4, 0.4, 0.2)
"""Shares of the steps in which the vector of the first member, that of the second, and the mean
state of the original layers are trained: one at a time, which costs half."""
_ORIGINALS = {
    "en": "en",
    "zh translated": "en",
    "de translated": "en translated",
    "fr translated": "en translated",
}
"""Source -> the source of the English captions that it translates."""


@dataclass(frozen=True)
class AdapterConfig(TrainingConfig):
    """How the adapter is trained."""

    epochs: int = 2
    batch_size: int = 256
    learning_rate: float = 1e-3
    ema_decay: float = 0.995
    hidden_dim: int = 1024
    chunk_size: int = 128
    """Texts that are computed at once."""
    distillation: float = 8.0
    """Weight of the distance to the English vectors beside the contrastive loss."""
    other_order: float = 0.2
    """Share of the texts whose tokens are in another order."""
    fewer_tokens: float = 0.3
    """Share of the texts that lose every tenth token."""

    example_name: ClassVar[str] = "texts"
    saves_per_run: ClassVar[int] = 8


@dataclass(frozen=True)
class TokenTexts:
    """Texts of one source: the features of their tokens, and what their vectors should be."""

    tokens: np.ndarray
    """(all tokens, 512) float16."""
    offsets: np.ndarray
    """(n + 1,) first token of each text."""
    photos: np.ndarray
    """(n,) number of the photo that a text describes, -1 for none."""
    targets: np.ndarray | None
    """(n, 896) float16: vectors of both members and mean state; None where there is no English."""

    def text(self, row: int) -> np.ndarray:
        """Return the features (tokens, 512) of a text, float32."""
        return np.array(self.tokens[slice(*self.offsets[row : row + 2])], np.float32)


class AdaptedNetwork(nn.Module):
    """The adapter, and the frozen network above it."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: StarterEncoder, config: AdapterConfig, dtype: torch.dtype) -> None:
        super().__init__()
        from transformers import BertModel

        self.linear = nn.Linear(WIDTH, minilm.WIDTH)
        self.inner = nn.Linear(WIDTH, config.hidden_dim)
        self.outer = nn.Linear(config.hidden_dim, minilm.WIDTH, bias=False)
        nn.init.zeros_(self.outer.weight)
        self.log_scale = nn.Parameter(torch.tensor(3.4))
        bert: Any = BertModel.from_pretrained(
            str(minilm.model_folder()), local_files_only=True, attn_implementation="eager"
        )
        table = bert.embeddings.word_embeddings.weight.detach()
        self.edges = nn.Parameter(table[list(minilm.special_ids(0))].clone())
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("deviation", torch.ones(WIDTH))
        self.dtype = dtype
        stages = [_member_stage(encoder, 0), _member_stage(encoder, 1), TextStage()]
        heads = [ProjectionHead.from_arrays(encoder.weights, f"text.{i}", 0.0) for i in range(2)]
        for module in (bert, *stages):
            module.to(dtype)
        for module in (bert, *stages, *heads):
            module.requires_grad_(False).eval()
        # in a tuple, so that the frozen network is not a part of the model
        self._frozen: tuple[Any, ...] = (bert, stages, heads)

    def forward(self, tokens: Tensor, mask: Tensor, branch: int) -> Tensor:
        """Map token features (n, t, 512) and a mask (n, t) to unit vectors: of 256 dimensions for
        a member, of 384 for the mean state (branch 2)."""
        bert, stages, heads = self._frozen
        x, mask = self._with_edges(tokens, mask)
        positions = bert.embeddings.position_embeddings.weight[: x.shape[1]]
        token_type = bert.embeddings.token_type_embeddings.weight[0]
        x = bert.embeddings.LayerNorm(x.to(self.dtype) + positions + token_type)
        attention_bias = ((1 - mask[:, None, None, :]) * -1e4).to(self.dtype)
        for layer in bert.encoder.layer[: minilm.TRUNK_LAYERS]:
            x = layer(x, attention_bias)
        pooled = stages[branch](x, mask)
        return F.normalize(pooled, dim=-1) if branch == 2 else heads[branch](pooled)

    def _with_edges(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return word embeddings (n, t + 2, 384) with those of the special tokens, and their
        mask."""
        with runtime.autocast(torch.device("cpu"), self.dtype):
            x = (tokens - self.mean) / self.deviation
            words = self.linear(x) + self.outer(F.gelu(self.inner(x)))
        num_tokens = mask.shape[1] + 2
        is_last = F.one_hot(mask.sum(1).long() + 1, num_tokens).float()
        is_first = F.one_hot(torch.zeros(len(mask), dtype=torch.long), num_tokens).float()
        words = F.pad(words.float() * mask[..., None], (0, 0, 1, 1))
        words = words + is_first[..., None] * self.edges[0] + is_last[..., None] * self.edges[1]
        return words, F.pad(mask, (1, 1)) + is_first + is_last

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of a checkpoint (see `token_adapter.adapter_shapes`)."""
        table = minilm.load_weights(minilm.model_folder())["embeddings.word_embeddings.weight"]
        first, last = minilm.special_ids(0)
        tensors = {
            "mean": self.mean,
            "deviation": self.deviation,
            "linear": self.linear.weight.T,
            "inner": self.inner.weight.T,
            "inner_bias": self.inner.bias,
            "outer": self.outer.weight.T,
            "outer_bias": self.linear.bias - torch.from_numpy(table[0]),
            "edges": self.edges - torch.from_numpy(table[[first, last]]),
            "least_shares": torch.tensor(LEAST_SHARES),
        }
        return {f"adapter.{name}": t.detach().numpy() for name, t in tensors.items()}

    @torch.no_grad()
    def start(self, sample: np.ndarray, words: np.ndarray, ids: np.ndarray) -> None:
        """Standardize the features like `sample` (n, 512), and set the linear part by ridge
        regression from English words (m, 512) to their embeddings."""
        mean, deviation = sample.mean(0), sample.std(0) + 1e-6
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.copy_(torch.from_numpy(deviation))
        x = np.c_[(words - mean) / deviation, np.ones(len(words))]
        y = minilm.load_weights(minilm.model_folder())["embeddings.word_embeddings.weight"][ids]
        matrix = np.linalg.solve(x.T @ x + 0.05 * len(x) * np.eye(WIDTH + 1), x.T @ y)
        self.linear.weight.copy_(torch.from_numpy(matrix[:WIDTH].T))
        self.linear.bias.copy_(torch.from_numpy(matrix[WIDTH]))


def _member_stage(encoder: StarterEncoder, member: int) -> TextStage:
    """Return a member's trained copy of the last layers."""
    prefix = f"text.{member}.{STAGE_PREFIX}.encoder.layer."
    state = {}
    for name, array in encoder.weights.items():
        if name.startswith(prefix):
            number, parameter = name.removeprefix(prefix).split(".", 1)
            state[f"{int(number) - minilm.TRUNK_LAYERS}.{parameter}"] = torch.from_numpy(array)
    stage = TextStage()
    stage.layers.load_state_dict(state)
    return stage


class AdapterStep(TrainingStep):
    """A batch of texts of all sources, compared with their English vectors and their photos.

    `images` (photos, 512) are the aligned vectors of the train photos: each native caption is to
    find its own among all of them.
    """

    model: AdaptedNetwork

    def __init__(
        self,
        model: AdaptedNetwork,
        sources: dict[str, TokenTexts],
        images: np.ndarray,
        config: AdapterConfig,
    ) -> None:
        self.model, self.config = model, config
        self._sources = sources
        self._images = torch.from_numpy(images)

    def fingerprint(self) -> str:
        arrays = {
            f"{name} {key}": getattr(texts, key)
            for name, texts in self._sources.items()
            for key in ("offsets", "photos", "targets")
            if getattr(texts, key) is not None
        }
        return fingerprint({**arrays, "images": self._images.numpy()})

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        raise TypeError("the adapter is trained with `backward`, chunk by chunk")

    def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
        config = self.config
        rng = np.random.default_rng([config.seed, index])
        branch = int(rng.choice(3, p=_BRANCH_SHARES))
        rows = sorted(self._batch(rng, branch), key=lambda row: len(row[0]))
        num_targets = max(1, sum(target is not None for _, _, target in rows))
        totals = {"contrast": 0.0, "distance": 0.0}
        for first in range(0, len(rows), config.chunk_size):
            chunk = rows[first : first + config.chunk_size]
            vectors = self.model(*_padded([tokens for tokens, _, _ in chunk]), branch)
            contrast = self._contrast(vectors, [photo for _, photo, _ in chunk], branch) / len(rows)
            distance = _distance(vectors, [target for _, _, target in chunk]) / num_targets
            (contrast + config.distillation * distance).backward()
            totals["contrast"] += float(contrast.detach())
            totals["distance"] += float(distance.detach())
        loss = totals["contrast"] + config.distillation * totals["distance"]
        return {"loss": loss, **totals}

    def _batch(
        self, rng: np.random.Generator, branch: int
    ) -> Iterator[tuple[np.ndarray, int, np.ndarray | None]]:
        """Yield tokens, photo (-1 for none) and target (None for none) of each text of a batch."""
        span = (slice(0, 256), slice(256, 512), slice(512, None))[branch]
        names = [n for n in self._sources if branch < 2 or self._sources[n].targets is not None]
        shares = np.array([_SHARES[name] for name in names])
        for number in rng.choice(len(names), self.config.batch_size, p=shares / shares.sum()):
            texts = self._sources[names[number]]
            row = int(rng.integers(len(texts.photos)))
            tokens = self._changed(texts.text(row), rng)
            if not len(tokens):
                continue
            target = None if texts.targets is None else texts.targets[row, span].astype(np.float32)
            yield tokens, int(texts.photos[row]) if branch < 2 else -1, target

    def _changed(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the tokens, sometimes fewer or in another order."""
        if len(tokens) > 3 and rng.random() < self.config.other_order:
            if rng.random() < 0.5:
                tokens = np.roll(tokens, int(rng.integers(1, len(tokens))), axis=0)
            else:
                order = np.arange(len(tokens)) + 5 * rng.random(len(tokens))
                tokens = tokens[np.argsort(order)]
        if len(tokens) > 4 and rng.random() < self.config.fewer_tokens:
            tokens = tokens[rng.random(len(tokens)) > 0.1]
        return tokens

    def _contrast(self, vectors: Tensor, photos: Sequence[int], branch: int) -> Tensor:
        """Return the summed cross-entropy of finding each text's photo among all."""
        owner = torch.tensor(photos)
        has_photo = owner >= 0
        if not has_photo.any():
            return vectors.new_zeros(())
        images = F.normalize(self._images[:, 256 * branch : 256 * branch + 256], dim=1)
        logits = vectors[has_photo] @ images.T * self.model.log_scale.exp().clamp(max=60)
        return F.cross_entropy(logits, owner[has_photo], reduction="sum")


def _distance(vectors: Tensor, targets: Sequence[np.ndarray | None]) -> Tensor:
    """Return the summed cosine distance of the vectors to their targets."""
    pairs = [(row, target) for row, target in enumerate(targets) if target is not None]
    if not pairs:
        return vectors.new_zeros(())
    rows = [row for row, _ in pairs]
    expected = torch.from_numpy(np.stack([target for _, target in pairs]))
    return (1 - F.cosine_similarity(vectors[rows], expected, dim=1)).sum()


def _padded(sequences: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Pad sequences (tokens, 512) to a common length, a multiple of 4; return their mask, too."""
    length = -(-max(map(len, sequences)) // 4) * 4
    padded = np.zeros((len(sequences), length, WIDTH), np.float32)
    mask = np.zeros((len(sequences), length), np.float32)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return torch.from_numpy(padded), torch.from_numpy(mask)


class AdapterData:
    """Token features and targets of all texts, computed once into `work`."""

    def __init__(self, data: Path, work: Path, encoder: StarterEncoder) -> None:
        self.languages = LanguagesData(data, work, encoder)
        self.data, self.work, self.encoder = data, work, encoder

    def sources(self) -> dict[str, TokenTexts]:
        """Return the texts of train photos, prose of train articles, and names of things."""
        is_train = self.languages.is_train
        number = np.cumsum(is_train) - 1  # among the train photos
        sources = {}
        for name in _SHARES:
            original: str | None = name
            if name in self.languages.sets:
                texts = self.train_texts(name)
                photos = self.languages.sets[name].photos
                photos = number[photos[is_train[photos]]]
                original = _ORIGINALS.get(name)
            else:
                texts = self._prose() if name == "prose" else self._names()
                photos = np.full(len(texts), -1)
            targets = None if original is None else self._targets(original, texts)
            tokens, offsets = self._tokens(name, texts)
            sources[name] = TokenTexts(tokens, offsets, photos, targets)
        return sources

    def train_texts(self, name: str) -> list[str]:
        """Return the captions of train photos of a source."""
        captions = self.languages.sets[name]
        rows = np.flatnonzero(self.languages.is_train[captions.photos])
        return [captions.texts[row] for row in rows.tolist()]

    def _prose(self) -> list[str]:
        """Return sentences and questions of squad's train articles."""
        examples = read_examples(self.data / "squad", "train")
        passages = dict.fromkeys(example.passage for example in examples)
        sentences = [sentence for text in passages for sentence in split_sentences(text)]
        short = [sentence for sentence in sentences if len(sentence) < 200]
        return short + [example.question for example in examples]

    def _names(self) -> list[str]:
        """Return names of classes in a few phrasings, and the words of the English vocabulary."""
        names = [phrasing.format(name) for phrasing in PHRASINGS for name in class_names()]
        return names + list(self.words()[0])

    def words(self) -> tuple[list[str], np.ndarray]:
        """Return the whole words of the English network's vocabulary and their ids."""
        vocabulary = self.encoder.text_backbone.ranks
        words = [word for word in vocabulary if word.isalpha() and word.isascii() and len(word) > 1]
        return words, np.array([vocabulary[word] for word in words])

    def _tokens(self, name: str, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the token features of texts, and the first token of each."""
        paths = [
            self.work / f"{kind}-{name.replace(' ', '-')}.npy" for kind in ("tokens", "offsets")
        ]
        if not paths[1].exists():
            sequences: list[np.ndarray] = [np.zeros((0, WIDTH), np.float16)] * len(texts)
            for rows, features in self.languages.network.tokens(texts):
                for row, sequence in zip(rows, features[:, :_MAX_TOKENS], strict=True):
                    sequences[row] = sequence.astype(np.float16)
            np.save(paths[0], np.concatenate(sequences))
            np.save(paths[1], np.cumsum([0, *map(len, sequences)]))
        return np.load(paths[0], mmap_mode="r"), np.load(paths[1])

    def _targets(self, name: str, texts: Sequence[str]) -> np.ndarray:
        """Return what the English network makes of texts, or of the captions that they translate,
        (n, 896): see `TokenTexts.targets`."""

        def encode() -> np.ndarray:
            english = self.train_texts(name) if name in self.languages.sets else texts
            pooled, *stages = self.encoder.text_backbone.features(english)
            aligned = self.encoder.text_vectors(pooled, *stages)[:, :512]
            return np.concatenate([aligned, unit(pooled)], axis=1)

        return self.languages.stored(f"targets-{name}", encode)


def hubness_banks(
    encoder: StarterEncoder, captions: Sequence[str], photos: np.ndarray, size: int
) -> dict[str, np.ndarray]:
    """Return the arrays that correct hubness, from English captions and the aligned vectors of
    photos (n, 512), both of the train split."""
    rng = np.random.default_rng(0)
    texts = [captions[row] for row in rng.permutation(len(captions))[: 2 * size]]
    vectors = unit(encoder.encode_texts(texts)[:, : encoder.config.aligned_dim])
    images = photos[rng.permutation(len(photos))[: 2 * size]]
    means = [
        bank_cosines(images[size:], vectors[:size]).mean(),
        bank_cosines(vectors[size:], images[:size]).mean(),
    ]
    return {
        "hubness.captions": vectors[:size],
        "hubness.photos": images[:size],
        "hubness.means": np.array(means, np.float32),
    }


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/languages"))
    parser.add_argument("--out", type=Path, required=True, help="folder of the new encoder")
    parser.add_argument("--bank", type=int, default=2000, help="captions and photos of the banks")
    options = parser.parse_args()
    starter = StarterEncoder.from_folder(STARTER, "starter")
    data = AdapterData(options.data, options.work, starter.without_sentences())
    config = AdapterConfig()
    sources = data.sources()
    model = initial_model(data, sources, config)
    images = data.languages.images()[data.languages.is_train].astype(np.float32)
    step = AdapterStep(model, sources, images, config)
    num_texts = sum(len(texts.photos) for texts in sources.values())
    fit_once(step, config.loop(num_texts), options.work / "adapter")
    axes = RAW_DIM - hubness.DIM  # of the sentence vectors, so that the vector is as long as before
    layout = replace(starter.config, adapter_hidden_dim=config.hidden_dim, raw_sentence_dim=axes)
    gate = {"multilingual.gate": np.array(GATE, np.float32)}
    weights = {k: array for k, array in starter.weights.items() if not k.startswith("hubness.")}
    weights |= gate | model.arrays()
    weights["sentence.raw"] = weights["sentence.raw"][:, :axes]
    encoder = StarterEncoder(replace(layout, hubness_bank=0), weights)
    banks = hubness_banks(encoder, data.train_texts("en"), unit(images), options.bank)
    encoder = StarterEncoder(replace(layout, hubness_bank=options.bank), {**weights, **banks})
    encoder.save(options.out)
    print(encoder.fingerprint)


def initial_model(
    data: AdapterData, sources: dict[str, TokenTexts], config: AdapterConfig
) -> AdaptedNetwork:
    """Return the network before its training: English words are mapped to their embeddings."""
    torch.manual_seed(config.seed)
    model = AdaptedNetwork(data.encoder, config, runtime.inference_dtype(torch.device("cpu")))
    words, ids = data.words()
    names = sources["names"]
    first = len(names.photos) - len(words)
    means = np.stack([names.text(first + row).mean(0) for row in range(len(words))])
    samples = [np.array(texts.tokens[::37], np.float32) for texts in sources.values()]
    model.start(np.concatenate(samples), means, ids)
    return model


if __name__ == "__main__":
    main()
