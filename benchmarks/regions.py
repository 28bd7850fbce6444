"""Trains the model that finds sky, grass, sea ... in a photo: python benchmarks/regions.py --data
DATA [--write]

71 photos of Flickr8k's train split are labelled by hand, a letter for each of 8 x 8 places
(`regions/`). A first model learns from these alone. It then reads further train photos, held to
their captions: snow, sea, sand, dogs and people are only where a caption speaks of them; places
that it is sure of join what the second model learns from. No dev photo is looked at;
`benchmarks/editing.py` measures on those. `--write` keeps the weights in the package."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ravlm.checkpoint import save_checkpoint
from ravlm.data.images import load_image
from ravlm.editing.rule_based.stuff import GRID, REGIONS, WIDTH, WORDS, StuffModel, log_shares
from ravlm.encoders.starter.backbones import ImageBackbone

LABELS = Path(__file__).parent / "regions" / "flickr8k-train.jsonl"
LETTERS = dict(zip("sgwanrbftkhcdo", WORDS, strict=True))
CELLS = GRID // 8
"""Places a side of one letter."""
PEOPLE = (
    r"\bm[ae]n\b|wom[ae]n|\bboys?\b|girl|child|kid|people|person|player|baby|toddler|guy|lady|rider|biker|skier|surfer"
    r"|climber|boarder|couple|crowd|team|hiker|adult|friends|family|runner|jogger|dancer|cyclist|soldier|worker|swimmer"
)
SPOKEN = {
    "sea": r"ocean|\bsea\b|water|lake|river|wave|pool|surf|creek|stream|pond|swim|splash|boat|canoe|kayak",
    "sand": r"\bsand|beach|desert|dune|shore",
    "snow": r"snow|\bski|\bice|icy|sled",
    "dog": r"\bdogs?\b|pupp|hound|terrier|retriever|poodle|collie|bulldog",
    "skin": PEOPLE,
    "shirt": PEOPLE,
    "person": PEOPLE,
}
"""What is in a photo only if one of its five captions speaks of it."""
SURE, PLACES, L2 = 0.8, 40, 0.03


def looked_at(data: Path, images: Sequence[str]) -> Iterator[np.ndarray]:
    """Features (GRID, GRID, WIDTH) of photos."""
    looking = StuffModel(blank(), ImageBackbone())
    for image in images:
        yield looking.look(load_image(data / image))[0]


def blank() -> dict[str, np.ndarray]:
    return {
        "mean": np.zeros(WIDTH, np.float32),
        "deviation": np.ones(WIDTH, np.float32),
        "weight": np.zeros((WIDTH, len(WORDS)), np.float32),
        "bias": np.zeros(len(WORDS), np.float32),
    }


def labelled(data: Path) -> tuple[np.ndarray, np.ndarray, set[str]]:
    """Features and words of the places that have a letter, and the photos they are of."""
    rows = [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]
    images = [row["image"] for row in rows]
    x, y = [], []
    for row, places in zip(rows, looked_at(data, images), strict=True):
        letters = np.array([list(line) for line in row["rows"]]).repeat(CELLS, 0).repeat(CELLS, 1)
        known = letters != "."
        x.append(places[known])
        y.append([WORDS.index(LETTERS[letter]) for letter in letters[known]])
    return np.concatenate(x), np.concatenate(y), set(images)


def spoken_of(texts: Sequence[str]) -> np.ndarray:
    """Which words a photo with these captions may show, (len(WORDS),) of 0 and minus infinity."""
    said = " ".join(texts).lower()
    silent = [word in SPOKEN and not re.search(SPOKEN[word], said) for word in WORDS]
    return np.where(silent, -np.inf, 0.0)


def sure_places(
    model: StuffModel, data: Path, rows: Sequence[dict[str, Any]], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Places of photos with captions that `model` is sure of, and what it takes them for."""
    x, y = [], []
    for row, places in zip(
        rows, looked_at(data, [f"flickr8k/{row['image']}" for row in rows]), strict=True
    ):
        places = places.reshape(-1, WIDTH)
        shares = log_shares(model(places) + spoken_of(row["texts"]))
        sure = rng.permutation(np.flatnonzero(shares.max(axis=1) > np.log(SURE)))[:PLACES]
        x.append(places[sure])
        y.append(shares[sure].argmax(axis=1))
    return np.concatenate(x), np.concatenate(y)


def fit(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Softmax regression with a penalty on the weights of standardised features."""
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-3
    inputs, right = torch.from_numpy((x - mean) / deviation), torch.from_numpy(y)
    each = torch.from_numpy((weights / weights.sum()).astype(np.float32))
    weight = torch.zeros(WIDTH, len(WORDS), requires_grad=True)
    bias = torch.zeros(len(WORDS), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=150, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = (F.cross_entropy(inputs @ weight + bias, right, reduction="none") * each).sum()
        loss = loss + L2 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    found = {
        "mean": mean,
        "deviation": deviation,
        "weight": weight.detach().numpy(),
        "bias": bias.detach().numpy(),
    }
    return {name: array.astype(np.float32) for name, array in found.items()}


def evened(y: np.ndarray) -> np.ndarray:
    """A weight for each place, so that common words do not drown rare ones."""
    weights = 1 / np.sqrt(np.bincount(y, minlength=len(WORDS)) + 20)[y]
    return weights / weights.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds flickr8k/")
    parser.add_argument(
        "--photos", type=int, default=1600, help="train photos that are read with their captions"
    )
    parser.add_argument("--write", action="store_true", help="keep the weights in the package")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x, y, used = labelled(options.data)
    print("labelled places:", dict(zip(WORDS, np.bincount(y).tolist(), strict=True)))
    first = StuffModel(fit(x, y, evened(y)), ImageBackbone())
    lines = (options.data / "flickr8k" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [
        r
        for r in map(json.loads, lines)
        if r["split"] == "train" and f"flickr8k/{r['image']}" not in used
    ]
    some = [rows[i] for i in rng.permutation(len(rows))[: options.photos]]
    more, read = sure_places(first, options.data, some, rng)
    print(
        "places by captions:",
        dict(zip(WORDS, np.bincount(read, minlength=len(WORDS)).tolist(), strict=True)),
    )
    both = np.concatenate([evened(y), evened(read)])
    weights = fit(np.concatenate([x, more]), np.concatenate([y, read]), both)
    if options.write:
        halves = {name: array.astype(np.float16) for name, array in weights.items()}
        save_checkpoint(REGIONS, {"architecture": "starter-regions", "words": list(WORDS)}, halves)
        print(f"written to {REGIONS}")


if __name__ == "__main__":
    main()
