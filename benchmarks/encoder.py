"""How good an encoder is, on dev splits of the real pictures: python benchmarks/encoder.py --data
../shared/data

Prints and writes as JSON: retrieval on 1,000 photos of flickr8k with 5,000 captions; the same
photos found by 100 captions put into Chinese by hand; nearest neighbours between pictures beside
the raw backbone; between captions beside the raw text backbone; names of things that the training
captions lack. All-MiniLM-L6-v2, the starter's text backbone, lists Flickr30k, which contains these
photos' captions, among its training data."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from ravlm.data.images import load_image
from ravlm.data.readers import read_entries
from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Encoder
from ravlm.encoders.starter.backbones import ImageBackbone, TextBackbone
from ravlm.metrics.retrieval import cross_modal_recall
from ravlm.records import Entry

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


def entries(data: Path, name: str) -> list[Entry]:
    return list(read_entries(data / name / "metadata.jsonl"))


def nearest(queries: np.ndarray, base: np.ndarray, wanted: list, labels: list, same: bool) -> float:
    """Percent of queries whose nearest row of the base has the wanted label; `same`: a row is not
    its own neighbour."""
    scores = queries @ base.T
    if same:
        np.fill_diagonal(scores, -np.inf)
    return float(
        100 * np.mean([labels[i] == w for i, w in zip(scores.argmax(1), wanted, strict=True)])
    )


def rank_of(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (scores >= scores[np.arange(len(right)), right][:, None]).sum(1) - 1


def photos_and_captions(encoder: Encoder, data: Path) -> dict[str, object]:
    dev = [e for e in entries(data, "flickr8k") if e.metadata["split"] == "dev"]
    place = {e.id: i for i, e in enumerate(dev)}
    images = encoder.encode_images([e.image for e in dev])
    captions = [t for e in dev for t in e.texts]
    texts = encoder.encode_texts(captions)
    owner = np.repeat(np.arange(len(dev)), [len(e.texts) for e in dev])
    recall = cross_modal_recall(images, texts, owner)
    by_hand = [json.loads(line) for line in CHINESE.read_text(encoding="utf-8").splitlines()]
    right = np.array([place[row["id"]] for row in by_hand])
    originals = [dev[i].texts[row["caption"]] for i, row in zip(right, by_hand, strict=True)]
    english = rank_of(encoder.encode_texts(originals) @ images.T, right)
    chinese = rank_of(encoder.encode_texts([row["text"] for row in by_hand]) @ images.T, right)
    raw = TextBackbone().pooled(captions)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    return {
        "text to image R@1/5/10": list(recall.text_to_image.values()),
        "image to text R@1/5/10": list(recall.image_to_text.values()),
        "Chinese captions R@10, English originals": [
            100 * float(np.mean(r < 10)) for r in (chinese, english)
        ],
        "caption to caption 1-NN, same photo; raw MiniLM": [
            nearest(v, v, list(owner), list(owner), same=True) for v in (texts, raw)
        ],
    }


def pictures(encoder: Encoder, data: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    label = {
        "grocery_store": "entity",
        "leeds_butterflies": "scientific_name",
        "ikea_products": "type",
    }
    for name, key in label.items():
        rows = entries(data, name)
        labels = [e.metadata["facts"][key] for e in rows]
        raw = raw_images([e.image for e in rows], encoder.image_size)
        base = [i for i, e in enumerate(rows) if e.metadata["split"] == "train"]
        query = [i for i, e in enumerate(rows) if e.metadata["split"] != "train"] or base
        vectors = encoder.encode_images([e.image for e in rows])
        found[f"{name} 1-NN; raw backbone"] = [
            nearest(
                v[query],
                v[base],
                [labels[i] for i in query],
                [labels[i] for i in base],
                query is base,
            )
            for v in (vectors, raw)
        ]
        kinds = sorted(set(labels))
        names = encoder.encode_texts([f"a photo of {kind}" for kind in kinds])
        named = [
            kinds[i] == label
            for i, label in zip((vectors @ names.T).argmax(1), labels, strict=True)
        ]
        found[f"{name} named among {len(kinds)}, by chance"] = [
            100 * float(np.mean(named)),
            100 / len(kinds),
        ]
    return found


def raw_images(images: list, size: int) -> np.ndarray:
    backbone = ImageBackbone()
    rows = [
        backbone.pooled(
            np.asarray(load_image(image, edge=size).resize((size, size), resample=3))[None]
        )
        for image in images
    ]
    pooled = np.concatenate(rows)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def things(encoder: Encoder) -> dict[str, object]:
    import skimage

    home = Path(skimage.__file__).parent.parent
    scores = (
        encoder.encode_images([home / path for path in THINGS])
        @ encoder.encode_texts(list(THINGS.values())).T
    )
    right = np.arange(len(THINGS))
    return {
        f"{len(THINGS)} things, photo to name, name to photo": [
            100 * float(np.mean(s.argmax(1) == right)) for s in (scores, scores.T)
        ]
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--encoder", default="starter")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    encoder = DualEncoder.load(given.encoder)
    figures = (
        photos_and_captions(encoder, given.data) | pictures(encoder, given.data) | things(encoder)
    )
    for name, values in figures.items():
        print(f"{name:55} {' / '.join(f'{v:.1f}' for v in values)}")
    if given.json:
        report = {"encoder": encoder.name, "fingerprint": encoder.fingerprint, "figures": figures}
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
