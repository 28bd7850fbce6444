"""Quality of edits: regions, colors, and steering by retrieved examples.

    python -m benchmarks.editing --data DATA [--kb KB] [--json FILE] [--limit PHOTOS]

Masks were drawn by hand (`regions/`) for 38 photos of Flickr8k's dev split, on which the
thresholds were set, and for 18 photos chosen at random later, on which nothing was set except that
a dog needs a dog's class. For each set this prints how well the region of a word is found (IoU,
unclear pixels left out), how often a present word is found and an absent one refused, how far the
color of a region moves towards the one asked for, and how much changes outside of it.

With --kb, a base of images (Flickr8k's train photos, say), it also compares "like a sunset" with
retrieved examples, with random ones, and without any.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.data import DATA, read_lines
from benchmarks.reports import write_json
from ravlm import Hit, KnowledgeBase
from ravlm.data.images import load_image
from ravlm.editing.base import EditRequest
from ravlm.editing.resize import resize_map
from ravlm.editing.rule_based.editor import RuleBasedEditor
from ravlm.editing.rule_based.lexicon import COLORS
from ravlm.editing.rule_based.oklab import to_oklab
from ravlm.editing.rule_based.segmentation import Scene, Segmenter
from ravlm.editing.rule_based.starter_segmenter import StarterSegmenter
from ravlm.editing.rule_based.stuff import PARTS, WORDS
from ravlm.metrics.image import image_l1, mask_iou

Figures: TypeAlias = "dict[str, Any]"
SETS = {"set on these": "flickr8k-dev.jsonl", "held out": "flickr8k-dev-held-out.jsonl"}
STUFF = ("grass", "sea", "sand", "snow", "road", "wall", "floor", "tree")
UNCLEAR = 255
"""Label of pixels that can't be told apart by eye."""
MIN_REGION = 0.01
"""Share of the photo from which a drawn region counts."""
SKY_EDITS = {
    "make the sky like a sunset": ("sunset", 2),
    "make the sky like a clear blue sky": ("blue sky", 1),
    "make the sky like a night sky": ("night", 1),
}
"""Instruction -> the phrase in captions of photos with such a sky, and in how many captions."""
EDIT_COLORS = ("red", "blue", "green", "yellow", "purple")
_PERSON_WORDS = {"person", "shirt", "skin"}


@dataclass(frozen=True)
class AnnotatedPhoto:
    """A photo with its hand-drawn labels."""

    image: Image.Image
    labels: np.ndarray
    """Index into WORDS at each pixel, or UNCLEAR."""
    words: frozenset[str]
    """All words that the photo shows, drawn or not."""

    def mask(self, word: str) -> np.ndarray:
        return np.isin(self.labels, [WORDS.index(part) for part in PARTS.get(word, (word,))])

    def present(self) -> list[str]:
        return [word for word in WORDS[:-1] if self.mask(word).mean() >= MIN_REGION]

    def absent(self) -> list[str]:
        """Return words that the photo surely lacks; no word for people if any of them is there."""
        present = self.words | (_PERSON_WORDS if self.words & _PERSON_WORDS else set())
        return [word for word in WORDS[:-1] if word not in present]


def read_photos(path: Path, data: Path) -> Iterator[AnnotatedPhoto]:
    """Read a file of masks: polygons in percent of the sides, later ones over earlier ones."""
    for row in read_lines(path):
        image = load_image(data / row["image"])
        mask = Image.new("L", image.size, WORDS.index("other"))
        pen = ImageDraw.Draw(mask)
        for word, shape in row["shapes"]:
            points = np.array(shape).reshape(-1, 2) / 100 * image.size
            label = UNCLEAR if word == "?" else WORDS.index(word)
            pen.polygon([tuple(point) for point in points], fill=label)
        words = frozenset(row["also"]) | {word for word, _ in row["shapes"]}
        yield AnnotatedPhoto(image, np.asarray(mask), words)


def measure_regions(photos: Sequence[AnnotatedPhoto], scenes: Sequence[Scene]) -> Figures:
    """Measure how well regions are found; the whole image as a region is the baseline."""
    predicted: dict[str, list[np.ndarray]] = {}
    annotated: dict[str, list[np.ndarray]] = {}
    baseline: dict[str, list[np.ndarray]] = {}
    is_found: list[bool] = []
    is_refused: list[bool] = []
    for photo, scene in zip(photos, scenes, strict=True):
        clear = photo.labels != UNCLEAR
        for word in photo.present():
            probability = scene.find(word)
            is_found.append(probability is not None)
            mask = np.zeros_like(clear)
            if probability is not None:
                mask = resize_map(probability, photo.image.size) > 0.5
            predicted.setdefault(word, []).append(mask & clear)
            annotated.setdefault(word, []).append(photo.mask(word))
            baseline.setdefault(word, []).append(clear)
        is_refused += [scene.find(word) is None for word in photo.absent()]
    overlap = {
        word: {
            "iou": mask_iou(predicted[word], annotated[word]).value,
            "whole_picture": mask_iou(baseline[word], annotated[word]).value,
            "n": len(predicted[word]),
        }
        for word in WORDS
        if word in predicted
    }
    stuff = [overlap[word]["iou"] for word in STUFF if word in overlap]
    return {
        "photos": len(photos),
        "regions": overlap,
        "stuff_but_sky_mean_of_means": float(np.mean(stuff)),
        "there_and_found": {"share": float(np.mean(is_found)), "n": len(is_found)},
        "not_there_and_refused": {"share": float(np.mean(is_refused)), "n": len(is_refused)},
    }


def measure_edits(photos: Sequence[AnnotatedPhoto], editor: RuleBasedEditor) -> Figures:
    """Measure "make the sky purple" and the like, inside and outside the drawn regions."""
    progress, change_outside, pixels_outside = [], [], []
    for number, photo in enumerate(photos):
        color = EDIT_COLORS[number % len(EDIT_COLORS)]
        target = to_oklab(np.array(COLORS[color], np.uint8))[1:]
        for word in (w for w in photo.present() if w not in ("skin", "person")):
            edit = editor.edit(EditRequest(photo.image, f"make the {word} {color}"))
            if edit.region is None:
                continue
            inside = photo.mask(word)
            outside = (photo.labels != UNCLEAR) & ~inside
            pixels = [np.asarray(photo.image), np.asarray(edit.image)]  # before and after
            means = [to_oklab(p[inside]).mean(axis=0)[1:] for p in pixels]
            before, after = (np.linalg.norm(mean - target) for mean in means)
            progress.append(1 - after / before)
            if outside.any():
                l1 = image_l1([edit.image], [photo.image], regions=[outside], where="inside")
                change_outside.append(l1.value)
                changed = (pixels[0] != pixels[1]).any(axis=2)
                pixels_outside.append(float(changed[outside].mean()))
    return {
        "of_the_way_to_the_colour": {"share": float(np.mean(progress)), "n": len(progress)},
        "pixels_changed_outside": {
            "share": float(np.mean(pixels_outside)),
            "n": len(pixels_outside),
        },
        "mean_change_outside": {
            "share": float(np.mean(change_outside)),
            "n": len(change_outside),
        },
    }


class CachedSegmenter(Segmenter):
    """Analyzes each image once: the same few are retrieved for every photo."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._scenes: dict[bytes, Scene] = {}

    def analyze(self, image: Image.Image) -> Scene:
        pixels = image.tobytes()
        if pixels not in self._scenes:
            self._scenes[pixels] = self._segmenter.analyze(image)
        return self._scenes[pixels]


@dataclass(frozen=True)
class Sky:
    """A photo and the mask of its sky."""

    image: Image.Image
    mask: np.ndarray

    def mean_color(self, image: Image.Image) -> np.ndarray:
        """Return the mean color of the sky's pixels in `image`, OKLab (3,)."""
        return np.asarray(to_oklab(np.asarray(image))[self.mask].mean(axis=0))


def find_skies(images: Iterable[Image.Image], segmenter: StarterSegmenter) -> list[Sky]:
    """Return the images in which a sky is found."""
    maps = ((image, segmenter.analyze(image).find("sky")) for image in images)
    return [
        Sky(image, resize_map(probability, image.size) > 0.5)
        for image, probability in maps
        if probability is not None
    ]


def compare_examples(
    instruction: str,
    skies: Sequence[Sky],
    targets: np.ndarray,
    base: KnowledgeBase,
    segmenter: Segmenter,
) -> Figures:
    """Measure how near `instruction` brings skies to the colors `targets` (n, 3).

    With retrieved examples, random ones, and none. Distances are in OKLab, from the mean of the
    edited sky to each target, averaged.
    """
    editor = RuleBasedEditor(segmenter)
    query = editor.retrieval_query(instruction)
    retrieved = tuple(base.search(text=query, k=8, modality="image"))
    all_hits = base.search(text="a photo", k=base.count(), modality="image")
    rng = np.random.default_rng(0)
    arms: dict[str, Callable[[], tuple[Hit, ...]]] = {
        "retrieved": lambda: retrieved,
        "random": lambda: tuple(all_hits[i] for i in rng.permutation(len(all_hits))[:8]),
        "none": lambda: (),
    }
    figures: Figures = {"wanted": len(targets), "n": len(skies)}
    for name, evidence in arms.items():
        edits = [editor.edit(EditRequest(sky.image, instruction, evidence())) for sky in skies]
        distances = [
            np.linalg.norm(targets - sky.mean_color(edit.image), axis=1).mean()
            for edit, sky in zip(edits, skies, strict=True)
        ]
        figures[name] = {
            "distance": float(np.mean(distances)),
            "edited": sum(edit.region is not None for edit in edits),
        }
    return figures


def measure_examples(
    data: Path, kb: Path, skies: Sequence[Sky], segmenter: StarterSegmenter
) -> Figures:
    """Compare each of `SKY_EDITS` with dev photos whose captions mention such a sky."""
    rows = [
        row for row in read_lines(data / "flickr8k" / "metadata.jsonl") if row["split"] == "dev"
    ]
    figures: Figures = {}
    with KnowledgeBase.open(kb) as base:
        for instruction, (phrase, min_captions) in SKY_EDITS.items():
            matching = [
                row
                for row in rows
                if sum(phrase in text.lower() for text in row["texts"]) >= min_captions
            ]
            photos = (load_image(data / "flickr8k" / row["image"]) for row in matching[:25])
            examples = find_skies(photos, segmenter)
            targets = np.stack([sky.mean_color(sky.image) for sky in examples])
            cached = CachedSegmenter(segmenter)
            figures[instruction] = compare_examples(instruction, skies, targets, base, cached)
    return figures


def show(figures: Figures, indent: str = "") -> None:
    """Print figures, those of one measurement on one line."""
    for name, value in figures.items():
        if not isinstance(value, dict):
            print(f"{indent}{name}: {_short(value)}")
        elif any(isinstance(inner, dict) for inner in value.values()):
            print(f"{indent}{name}")
            show(value, indent + "  ")
        else:
            print(f"{indent}{name:<28} " + "  ".join(f"{k} {_short(v)}" for k, v in value.items()))


def _short(value: float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--kb", type=Path, help="base of example images")
    parser.add_argument(
        "--skies", type=int, default=12, help="number of photos whose sky is edited by example"
    )
    parser.add_argument("--limit", type=int, help="photos of each set, for a short run")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    segmenter = StarterSegmenter()
    figures: Figures = {}
    all_photos: list[AnnotatedPhoto] = []
    for name, file in SETS.items():
        rows = read_photos(Path(__file__).parent / "regions" / file, options.data)
        photos = list(islice(rows, options.limit))
        scenes = [segmenter.analyze(photo.image) for photo in photos]
        editor = RuleBasedEditor(segmenter)
        figures[name] = {**measure_regions(photos, scenes), **measure_edits(photos, editor)}
        show({name: figures[name]})
        all_photos += photos
    if options.kb:
        images = [photo.image for photo in all_photos if "sky" in photo.present()]
        skies = find_skies(images, segmenter)[: options.skies]
        figures["like an example"] = measure_examples(options.data, options.kb, skies, segmenter)
        show({"like an example": figures["like an example"]})
    write_json(figures, options.json)


if __name__ == "__main__":
    main()
