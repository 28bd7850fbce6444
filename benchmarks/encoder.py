"""Measure the quality of an encoder on dev splits of real images:
python -m benchmarks.encoder --data ../shared/data

Prints and writes as JSON: retrieval on 1,000 photos of flickr8k with 5,000 captions; retrieval of
the same photos by 100 manually translated Chinese captions; nearest neighbors between images,
compared with the raw image backbone; between captions, compared with the raw text backbone; naming
things that are not in the training captions. The starter's text backbone, all-MiniLM-L6-v2, lists
Flickr30k among its training data, which contains these photos' captions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.data import DATA, images_of, photos, read_lines
from benchmarks.reports import write_json
from ravlm.data.readers import read_entries
from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Encoder
from ravlm.encoders.starter.backbones import ImageBackbone, TextBackbone
from ravlm.encoders.starter.preprocessing import load_pixels
from ravlm.metrics.retrieval import cross_modal_recall
from ravlm.records import Entry, ImageSource

CHINESE = Path(__file__).parent / "chinese_captions.jsonl"
THINGS = {  # photos that come with scikit-image and scikit-learn
    "skimage/data/chelsea.png": "a cat",
    "skimage/data/coffee.png": "a cup of coffee",
    "skimage/data/rocket.jpg": "a rocket",
    "skimage/data/astronaut.png": "an astronaut",
    "skimage/data/coins.png": "old coins",
    "skimage/data/motorcycle_left.png": "a motorcycle in a garage",
    "skimage/data/moon.png": "the surface of the moon",
    "skimage/data/hubble_deep_field.jpg": "galaxies in space",
    "skimage/data/horse.png": "the silhouette of a horse",
    "skimage/data/clock_motion.png": "a clock",
    "skimage/data/text.png": "printed text",
    "skimage/data/brick.png": "a brick wall",
    "skimage/data/grass.png": "grass",
    "skimage/data/gravel.png": "gravel",
    "sklearn/datasets/images/china.jpg": "a Chinese temple",
    "sklearn/datasets/images/flower.jpg": "a flower",
}


LABELS = {
    "grocery_store": "entity",
    "leeds_butterflies": "scientific_name",
    "ikea_products": "type",
}
"""Image set -> the fact that is its label."""


def nearest_accuracy(queries: np.ndarray, labels: Sequence[object] | np.ndarray) -> float:
    """Return the percentage of rows whose nearest other row has the same label."""
    scores = queries @ queries.T
    np.fill_diagonal(scores, -np.inf)
    return accuracy(labels, [labels[i] for i in scores.argmax(1)])


def accuracy(expected: Iterable[object], predicted: Iterable[object]) -> float:
    """Return the percentage of equal labels."""
    return 100 * float(np.mean([a == b for a, b in zip(expected, predicted, strict=True)]))


def ranks_of(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the rank of the target of each row, from 0."""
    target_scores = scores[np.arange(len(targets)), targets][:, None]
    return (scores >= target_scores).sum(1) - 1


def measure_retrieval(
    encoder: Encoder, data: Path, limit: int | None = None
) -> dict[str, list[float]]:
    """Photos and captions of flickr8k's dev split."""
    dev = photos(data, "dev")[:limit]
    captions = [text for entry in dev for text in entry.texts]
    images = encoder.encode_images(images_of(dev))
    texts = encoder.encode_texts(captions)
    owner = np.repeat(np.arange(len(dev)), [len(entry.texts) for entry in dev])
    queries = encoder.encode_texts(captions, role="query")
    by_text = cross_modal_recall(images, queries, owner).text_to_image
    by_image = cross_modal_recall(images, texts, owner).image_to_text
    raw = TextBackbone().pooled(captions)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    return {
        "text to image R@1/5/10": list(by_text.values()),
        "image to text R@1/5/10": list(by_image.values()),
        "Chinese captions R@10, English originals": chinese_recall(encoder, dev, images),
        "caption to caption 1-NN, same photo; raw MiniLM": [
            nearest_accuracy(vectors, owner) for vectors in (texts, raw)
        ],
    }


def chinese_recall(encoder: Encoder, dev: list[Entry], images: np.ndarray) -> list[float]:
    """Return the recall at 10 of the Chinese captions, and of their English originals."""
    number_of = {entry.id: i for i, entry in enumerate(dev)}
    rows = [row for row in read_lines(CHINESE) if row["id"] in number_of]
    targets = np.array([number_of[row["id"]] for row in rows])
    originals = [dev[i].texts[row["caption"]] for i, row in zip(targets, rows, strict=True)]
    return [
        100 * float(np.mean(ranks_of(queries @ images.T, targets) < 10))
        for queries in (
            encoder.encode_texts(texts, role="query")
            for texts in ([row["text"] for row in rows], originals)
        )
    ]


def measure_image_sets(
    encoder: Encoder, data: Path, limit: int | None = None
) -> dict[str, list[float]]:
    """Nearest images with the same label, and zero-shot classification, for each image set."""
    figures: dict[str, list[float]] = {}
    for name, key in LABELS.items():
        entries = list(read_entries(data / name / "metadata.jsonl"))
        entries = entries[:: len(entries) // limit] if limit else entries
        labels = np.array([entry.metadata["facts"][key] for entry in entries])
        is_base = np.array([entry.metadata["split"] == "train" for entry in entries])
        images = images_of(entries)
        vectors = encoder.encode_images(images)
        raw = raw_vectors(images, encoder.image_size)
        figures[f"{name} 1-NN; raw backbone"] = [
            split_accuracy(rows, labels, is_base) for rows in (vectors, raw)
        ]
        classes = sorted(set(labels))
        prompts = encoder.encode_texts([f"a photo of {label}" for label in classes])
        predicted = [classes[i] for i in (vectors @ prompts.T).argmax(1)]
        figures[f"{name} named among {len(classes)}, by chance"] = [
            accuracy(labels, predicted),
            100 / len(classes),
        ]
    return figures


def split_accuracy(vectors: np.ndarray, labels: np.ndarray, is_base: np.ndarray) -> float:
    """Return how often the nearest base image has the label of a query; if all images are in the
    base, they are the queries too."""
    if is_base.all():
        return nearest_accuracy(vectors, labels)
    nearest = (vectors[~is_base] @ vectors[is_base].T).argmax(1)
    return accuracy(labels[~is_base], labels[is_base][nearest])


def raw_vectors(images: Sequence[ImageSource], size: int) -> np.ndarray:
    """Return unit vectors of the bare image backbone."""
    backbone = ImageBackbone()
    pooled = np.concatenate([backbone.pooled(load_pixels(image, size)[None]) for image in images])
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def measure_things(encoder: Encoder) -> dict[str, list[float]]:
    """Match photos of scikit-image and scikit-learn with their names."""
    import skimage

    packages = Path(skimage.__file__).parent.parent
    images = encoder.encode_images([packages / path for path in THINGS])
    scores = images @ encoder.encode_texts(list(THINGS.values())).T
    targets = np.arange(len(THINGS))
    return {
        f"{len(THINGS)} things, photo to name, name to photo": [
            accuracy(targets, rows.argmax(1)) for rows in (scores, scores.T)
        ]
    }


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--encoder", default="starter")
    parser.add_argument("--limit", type=int, help="images of each set, for a short run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    encoder = DualEncoder.load(options.encoder)
    figures = measure_retrieval(encoder, options.data, options.limit)
    figures |= measure_image_sets(encoder, options.data, options.limit)
    figures |= measure_things(encoder)
    for name, values in figures.items():
        print(f"{name:55} {' / '.join(f'{value:.1f}' for value in values)}")
    report = {"encoder": encoder.name, "fingerprint": encoder.fingerprint, "figures": figures}
    write_json(report, options.json)


if __name__ == "__main__":
    main()
