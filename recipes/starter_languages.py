"""Teach the starter encoder sixteen languages: a head on the multilingual sentence network.

    python -m recipes.starter_languages --data ../shared/data --work runs/languages --out FOLDER

`--data`: a folder with flickr8k, flickr8k_cn and multi30k. The head maps frozen features of the
multilingual network to the aligned block of the starter: it pulls each caption of a train photo,
English, Chinese or German, to its photo, and each caption that translates an English one to that
one's vector. Both towers of the starter stay as they are. Nothing uses a dev split except the
printed figures. Resumable.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ravlm.encoders.losses import softmax_contrastive
from ravlm.encoders.starter.encoder import StarterEncoder, unit
from ravlm.encoders.starter.multilingual import TokenFeatures
from ravlm.files import STARTER
from ravlm.metrics.retrieval import cross_modal_recall
from ravlm.training.config import TrainingConfig
from ravlm.training.contrastive import EncoderTrainingConfig, ProjectionHead
from ravlm.training.trainer import TrainingStep, fit_once
from recipes.starter_encoder import PHRASINGS, class_names, principal_axes

RAW_DIM = 256
GATE = (-6.0, 3.6)
"""Slope and bias of the multilingual share by agreement: 0.16 at 0.88, 0.5 at 0.6, 0.93 at 0.18.
Chosen on the captions of every second dev photo and on names of things that the captions lack."""
_SOURCES = ("en", "zh", "zh translated", "de", "de translated", "fr translated")


@dataclass(frozen=True)
class LanguagesConfig(TrainingConfig):
    """How the multilingual head is trained."""

    epochs: int = 60
    batch_size: int = 1000
    weight_decay: float = 0.05
    ema_decay: float = 0.99
    hidden_dim: int = 2048
    dropout: float = 0.4
    distillation: float = 8.0
    """Weight of the distance to the English vector beside the contrastive loss."""
    translation: float = 0.5
    """Share of the texts that are moved by the difference of a translation from its original, so
    that languages without captions are read, too."""

    example_name: ClassVar[str] = "captions"


@dataclass(frozen=True)
class CaptionSet:
    """Captions of one language."""

    photos: np.ndarray
    """(n,) numbers of the photos."""
    texts: list[str]


class LanguagesModel(nn.Module):
    """The head, and the scale of the contrastive loss."""

    def __init__(self, mean: Tensor, deviation: Tensor, config: LanguagesConfig) -> None:
        super().__init__()
        heads = EncoderTrainingConfig(
            aligned_dim=512, hidden_dim=config.hidden_dim, dropout=config.dropout
        )
        self.head = ProjectionHead(mean, deviation, heads)
        self.log_scale = nn.Parameter(torch.tensor(3.0))


class LanguagesStep(TrainingStep):
    """A batch of captions of all languages, their photos, and the English vectors they translate.

    `features` (n, 1536) of the captions; `photos` (n,), -1 for a text without a photo; `images`
    (num_photos, 512) and `english` (n, 512) aligned vectors, rows of 0 where there is none;
    `differences` (m, 1536): translations minus their originals.
    """

    model: LanguagesModel

    def __init__(
        self,
        features: np.ndarray,
        photos: np.ndarray,
        images: np.ndarray,
        english: np.ndarray,
        differences: np.ndarray,
        config: LanguagesConfig,
    ) -> None:
        self.features, self.photos, self.images = features, photos, images
        self.english, self.differences = english, differences
        self.config = config
        torch.manual_seed(config.seed)
        sample = torch.from_numpy(features[::3].astype(np.float32))
        self.model = LanguagesModel(sample.mean(0), sample.std(0) + 1e-6, config)

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        config, size = self.config, self.config.batch_size
        rows = torch.randint(len(self.features), (size,), generator=generator).numpy()
        vectors = self.model.head(self._translated(rows, generator))
        photos = torch.from_numpy(self.photos[rows])
        has_photo = photos >= 0
        images = torch.from_numpy(self.images[self.photos[rows]].astype(np.float32))[has_photo]
        same = photos[has_photo, None] == photos[None, has_photo]
        scale = self.model.log_scale.exp().clamp(max=100)
        contrast = softmax_contrastive(images, vectors[has_photo], scale, same)
        english = torch.from_numpy(self.english[rows].astype(np.float32))
        has_english = english.any(1)
        distance = (1 - F.cosine_similarity(vectors, english))[has_english].mean()
        loss = contrast + config.distillation * distance
        return {"loss": loss, "contrast": contrast, "distance": distance}

    def _translated(self, rows: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return features of texts, some moved by the difference of a translation."""
        features = torch.from_numpy(self.features[rows].astype(np.float32))
        moved = torch.randint(len(self.differences), (len(rows),), generator=generator).numpy()
        differences = torch.from_numpy(self.differences[moved].astype(np.float32))
        strength = torch.rand(len(rows), 1, generator=generator)
        is_moved = torch.rand(len(rows), 1, generator=generator) < self.config.translation
        return features + strength * is_moved * differences


def read_captions(data: Path) -> tuple[list[str], np.ndarray, dict[str, CaptionSet]]:
    """Return the photos, which of them are for training, and the captions of each source."""
    rows = _read_lines(data / "flickr8k" / "metadata.jsonl")
    photos = [row["image"] for row in rows]
    is_train = np.array([row["split"] == "train" for row in rows])
    number = {Path(photo).name: i for i, photo in enumerate(photos)}
    english = [(i, text) for i, row in enumerate(rows) for text in row["texts"]]
    chinese = _read_lines(data / "flickr8k_cn" / "captions.jsonl")
    several = _read_lines(data / "multi30k" / "captions.jsonl")

    def captions(
        rows: Sequence[dict[str, Any]], texts: Callable[[dict[str, Any]], list[str]]
    ) -> CaptionSet:
        pairs = [(number[Path(row["image"]).name], text) for row in rows for text in texts(row)]
        pairs.sort(key=lambda pair: pair[0])  # translations stand in the order of their originals
        return CaptionSet(np.array([i for i, _ in pairs]), [text for _, text in pairs])

    sets = {
        "en": CaptionSet(np.array([i for i, _ in english]), [text for _, text in english]),
        "zh": captions(chinese, lambda row: row["texts"]),
        "zh translated": captions(chinese, lambda row: row["machine_translated"]),
        "de": captions(several, lambda row: row["german"]),
    }
    translated = [row for row in several if row.get("translated")]
    for language in ("en", "de", "fr"):
        name = f"{language} translated"
        sets[name] = captions(translated, partial(_translation, language))
    return photos, is_train, sets


def _translation(language: str, row: dict[str, Any]) -> list[str]:
    return [row["translated"][language]]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def principal_sentences(features: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays of the raw sentence block: the first axes of the sentence vectors."""
    rows = features.astype(np.float32)
    mean = rows.mean(0)
    return {"sentence.raw_mean": mean, "sentence.raw": principal_axes(rows - mean, RAW_DIM)}


class LanguagesData:
    """Features and vectors of all captions and photos, computed once into `work`."""

    def __init__(self, data: Path, work: Path, encoder: StarterEncoder) -> None:
        self.data, self.work, self.encoder = data, work, encoder
        self.photos, self.is_train, self.sets = read_captions(data)
        self.network = TokenFeatures()

    def features(self, name: str) -> np.ndarray:
        """Return the features of a source's captions, float16 (n, 1536)."""
        return self.stored(f"features-{name}", lambda: self.network.texts(self.sets[name].texts))

    def english(self, name: str) -> np.ndarray:
        """Return the aligned English vectors of a source's captions, float16 (n, 512)."""

        def encode() -> np.ndarray:
            vectors = self.encoder.encode_texts(self.sets[name].texts)
            return unit(vectors[:, : self.encoder.config.aligned_dim])

        return self.stored(f"english-{name}", encode)

    def images(self) -> np.ndarray:
        """Return the aligned vectors of the photos, float16 (n, 512)."""

        def encode() -> np.ndarray:
            paths = [self.data / "flickr8k" / photo for photo in self.photos]
            return unit(self.encoder.encode_images(paths)[:, : self.encoder.config.aligned_dim])

        return self.stored("images", encode)

    def step(self, config: LanguagesConfig) -> LanguagesStep:
        """Return the training step over the captions of train photos and the class names."""
        targets = {name: self.english("en") for name in ("en", "zh translated")}
        targets |= {f"{n} translated": self.english("en translated") for n in ("de", "fr")}
        features, photos, english = [], [], []
        for name in _SOURCES:
            rows = self.is_train[self.sets[name].photos]
            features.append(self.features(name)[rows])
            photos.append(self.sets[name].photos[rows])
            none = np.zeros((int(rows.sum()), 512), np.float16)
            english.append(targets[name][rows] if name in targets else none)
        names = [phrasing.format(name) for phrasing in PHRASINGS for name in class_names()]
        features.append(self.network.texts(names).astype(np.float16))
        photos.append(np.full(len(names), -1))
        vectors = self.encoder.encode_texts(names)[:, : self.encoder.config.aligned_dim]
        english.append(unit(vectors).astype(np.float16))
        return LanguagesStep(
            np.concatenate(features),
            np.concatenate(photos),
            self.images(),
            np.concatenate(english),
            np.concatenate(list(self._differences())),
            config,
        )

    def _differences(self) -> Iterator[np.ndarray]:
        pairs = [("zh translated", "en")]
        pairs += [(f"{name} translated", "en translated") for name in ("de", "fr")]
        for translated, original in pairs:
            rows = self.is_train[self.sets[original].photos]
            yield self.features(translated)[rows] - self.features(original)[rows]

    def report(self, encoder: StarterEncoder) -> None:
        """Print the recall of dev photos by the captions of each source."""
        dev = np.flatnonzero(~self.is_train)
        paths = [self.data / "flickr8k" / self.photos[i] for i in dev]
        images = encoder.encode_images(paths)
        for name, captions in self.sets.items():
            rows = np.flatnonzero(~self.is_train[captions.photos])
            texts = encoder.encode_texts([captions.texts[row] for row in rows])
            owner = np.searchsorted(dev, captions.photos[rows])
            recall = cross_modal_recall(images, texts, owner).text_to_image
            print(name, {k: round(100 * value, 1) for k, value in recall.items()}, flush=True)

    def stored(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return an array of `work`, float16; compute and store it the first time."""
        path = self.work / f"{name.replace(' ', '-')}.npy"
        if not path.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            np.save(path, compute().astype(np.float16))
        return np.load(path)


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/languages"))
    parser.add_argument("--out", type=Path, required=True, help="folder of the new encoder")
    parser.add_argument("--report", action="store_true", help="print the recall of dev photos")
    options = parser.parse_args()
    encoder = StarterEncoder.from_folder(STARTER, "starter").without_sentences()
    data = LanguagesData(options.data, options.work, encoder)
    config = LanguagesConfig()
    step = data.step(config)
    fit_once(step, config.loop(len(step.features) // 4), options.work)
    sentences = np.concatenate([data.features(name)[::3, :512] for name in _SOURCES])
    arrays = {
        **encoder.weights,
        **step.model.head.arrays("multilingual"),
        **principal_sentences(sentences),
        "multilingual.gate": np.array(GATE, np.float32),
    }
    layout = replace(
        encoder.config, multilingual_hidden_dim=config.hidden_dim, raw_sentence_dim=RAW_DIM
    )
    encoder = StarterEncoder(layout, arrays)
    encoder.save(options.out)
    print(encoder.fingerprint)
    if options.report:
        data.report(encoder)


if __name__ == "__main__":
    main()
