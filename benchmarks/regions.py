"""Train the model that finds sky, grass, sea and other stuff in a photo.

    python -m benchmarks.regions --data DATA [--write]

71 photos of Flickr8k's train split are labeled by hand, a letter for each of 8 x 8 places
(`regions/`). A first model learns from these alone. It then labels further train photos,
constrained by their captions: snow, sea, sand, dogs and people are only where a caption mentions
them. Places it is sure of join the training data of the second model. No dev photo is used;
`benchmarks/editing.py` measures on those. `--write` stores the weights in the package.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.data import DATA, read_lines
from ravlm.checkpoint import save_checkpoint
from ravlm.data.images import load_image
from ravlm.editing.rule_based.stuff import GRID, REGIONS, WIDTH, WORDS, StuffModel, log_softmax
from ravlm.encoders.starter.backbones import ImageBackbone

LABELS = Path(__file__).parent / "regions" / "flickr8k-train.jsonl"
LETTERS = dict(zip("sgwanrbftkhcdo", WORDS, strict=True))
CELLS = GRID // 8
"""Places per side that one letter covers."""
PEOPLE = (
    r"\bm[ae]n\b|wom[ae]n|\bboys?\b|girl|child|kid|people|person|player|baby|toddler|guy|lady"
    r"|rider|biker|skier|surfer|climber|boarder|couple|crowd|team|hiker|adult|friends|family"
    r"|runner|jogger|dancer|cyclist|soldier|worker|swimmer"
)
MENTIONS = {
    "sea": r"ocean|\bsea\b|water|lake|river|wave|pool|surf|creek|stream|pond|swim|splash|boat"
    r"|canoe|kayak",
    "sand": r"\bsand|beach|desert|dune|shore",
    "snow": r"snow|\bski|\bice|icy|sled",
    "dog": r"\bdogs?\b|pupp|hound|terrier|retriever|poodle|collie|bulldog",
    "skin": PEOPLE,
    "shirt": PEOPLE,
    "person": PEOPLE,
}
"""Words that a photo can show only if one of its five captions matches the pattern."""
MIN_PROBABILITY = 0.8
"""Probability from which a place labeled by the first model is used."""
PLACES_PER_PHOTO = 40
L2 = 0.03


def extract_features(data: Path, images: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield features (GRID, GRID, WIDTH) of photos."""
    model = StuffModel(blank_weights(), ImageBackbone())
    for image in images:
        yield model.extract(load_image(data / image))[0]


def blank_weights() -> dict[str, np.ndarray]:
    return {
        "mean": np.zeros(WIDTH, np.float32),
        "deviation": np.ones(WIDTH, np.float32),
        "weight": np.zeros((WIDTH, len(WORDS)), np.float32),
        "bias": np.zeros(len(WORDS), np.float32),
    }


def read_labeled(data: Path) -> tuple[np.ndarray, np.ndarray, set[str]]:
    """Return features and words of the labeled places, and the photos that they are from."""
    rows = read_lines(LABELS)
    images = [row["image"] for row in rows]
    x, y = [], []
    for row, features in zip(rows, extract_features(data, images), strict=True):
        letters = np.array([list(line) for line in row["rows"]]).repeat(CELLS, 0).repeat(CELLS, 1)
        has_label = letters != "."
        x.append(features[has_label])
        y.append([WORDS.index(LETTERS[letter]) for letter in letters[has_label]])
    return np.concatenate(x), np.concatenate(y), set(images)


def caption_prior(texts: Sequence[str]) -> np.ndarray:
    """Return 0 for words that a photo with these captions may show, else -inf: (len(WORDS),)."""
    captions = " ".join(texts).lower()
    excluded = [word in MENTIONS and not re.search(MENTIONS[word], captions) for word in WORDS]
    return np.where(excluded, -np.inf, 0.0)


def pseudo_label(
    model: StuffModel, data: Path, rows: Sequence[dict[str, Any]], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return features and words of places that `model` is sure of, given the captions."""
    images = [f"flickr8k/{row['image']}" for row in rows]
    x, y = [], []
    for row, grid in zip(rows, extract_features(data, images), strict=True):
        features = grid.reshape(-1, WIDTH)
        log_probs = log_softmax(model(features) + caption_prior(row["texts"]))
        confident = np.flatnonzero(log_probs.max(axis=1) > np.log(MIN_PROBABILITY))
        places = rng.permutation(confident)[:PLACES_PER_PHOTO]
        x.append(features[places])
        y.append(log_probs[places].argmax(axis=1))
    return np.concatenate(x), np.concatenate(y)


def fit(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Fit a softmax regression on standardized features, with an L2 penalty."""
    mean = x.mean(axis=0)
    deviation = x.std(axis=0) + 1e-3
    inputs = torch.from_numpy((x - mean) / deviation)
    targets = torch.from_numpy(y)
    example_weights = torch.from_numpy((weights / weights.sum()).astype(np.float32))
    weight = torch.zeros(WIDTH, len(WORDS), requires_grad=True)
    bias = torch.zeros(len(WORDS), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=150, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        losses = F.cross_entropy(inputs @ weight + bias, targets, reduction="none")
        loss = (losses * example_weights).sum() + L2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    arrays = {
        "mean": mean,
        "deviation": deviation,
        "weight": weight.detach().numpy(),
        "bias": bias.detach().numpy(),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def balance(y: np.ndarray) -> np.ndarray:
    """Return a weight per place, so that frequent words do not drown rare ones."""
    weights = 1 / np.sqrt(np.bincount(y, minlength=len(WORDS)) + 20)[y]
    return weights / weights.sum()


def count_words(y: np.ndarray) -> dict[str, int]:
    return dict(zip(WORDS, np.bincount(y, minlength=len(WORDS)).tolist(), strict=True))


def main() -> None:
    """Parse the options, train, and store the weights if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument(
        "--photos", type=int, default=1600, help="number of train photos labeled by captions"
    )
    parser.add_argument("--write", action="store_true", help="store the weights in the package")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x, y, labeled = read_labeled(options.data)
    print("labeled places:", count_words(y))
    first = StuffModel(fit(x, y, balance(y)), ImageBackbone())
    rows = [
        row
        for row in read_lines(options.data / "flickr8k" / "metadata.jsonl")
        if row["split"] == "train" and f"flickr8k/{row['image']}" not in labeled
    ]
    sample = [rows[i] for i in rng.permutation(len(rows))[: options.photos]]
    pseudo_x, pseudo_y = pseudo_label(first, options.data, sample, rng)
    print("places by captions:", count_words(pseudo_y))
    example_weights = np.concatenate([balance(y), balance(pseudo_y)])
    weights = fit(np.concatenate([x, pseudo_x]), np.concatenate([y, pseudo_y]), example_weights)
    if options.write:
        halves = {name: array.astype(np.float16) for name, array in weights.items()}
        save_checkpoint(REGIONS, {"architecture": "starter-regions", "words": list(WORDS)}, halves)
        print(f"written to {REGIONS}")


if __name__ == "__main__":
    main()
