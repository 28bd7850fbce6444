"""How well pictures are edited: python benchmarks/editing.py --data DATA [--kb KB]

Masks were drawn by hand for 38 photos of Flickr8k's dev split, on which the thresholds were set, and for 18 chosen at
random later, on which nothing was set (`regions/`). Printed for each set: how well a word's region is found (IoU, "?"
left out), how often what is there is found and what is not there refused; how far a region's colour comes toward the
one that was asked for, and what becomes of the rest of the picture. With --kb, a base of pictures (Flickr8k's train
photos, say): "like a sunset" with what is retrieved, with random entries, and without any.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ravlm import Edit, Hit, KnowledgeBase
from ravlm.data.images import load_image
from ravlm.editing.base import EditRequest
from ravlm.editing.colours import to_oklab
from ravlm.editing.edges import resized
from ravlm.editing.lexicon import COLOURS
from ravlm.editing.local import LocalEditor
from ravlm.editing.regions import Scene, StarterSegmenter
from ravlm.editing.stuff import PARTS, WORDS

SETS = {"set on these": "flickr8k-dev.jsonl", "held out": "flickr8k-dev-held-out.jsonl"}
STUFF = ("grass", "sea", "sand", "snow", "road", "wall", "floor", "tree")
UNCLEAR = 255
SMALLEST = 0.01
"""Share of the photo from which a drawn region counts."""
WISHED_SKIES = {
    "make the sky like a sunset": ("sunset", 2),
    "make the sky like a clear blue sky": ("blue sky", 1),
    "make the sky like a night sky": ("night", 1),
}
"""What is asked for, the words that captions of photos with such a sky have, and how many captions must have them."""
WISHES = ("red", "blue", "green", "yellow", "purple")


@dataclass(frozen=True)
class Drawn:
    """A photo and what it shows where."""

    image: Image.Image
    places: np.ndarray
    """The number of a word at each pixel, or UNCLEAR."""
    named: frozenset[str]
    """Words that the photo shows, drawn or not."""

    def mask(self, word: str) -> np.ndarray:
        return np.isin(self.places, [WORDS.index(part) for part in PARTS.get(word, (word,))])

    def present(self) -> list[str]:
        return [word for word in WORDS[:-1] if self.mask(word).mean() >= SMALLEST]

    def absent(self) -> list[str]:
        """Words that are surely not there: of people none, if any part of one is."""
        people = {"person", "shirt", "skin"}
        shown = self.named | (people if self.named & people else set())
        return [word for word in WORDS[:-1] if word not in shown]


def read(path: Path, data: Path) -> Iterator[Drawn]:
    """The photos of a file of masks: shapes in percent of the sides, later ones over earlier ones."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        image = load_image(data / row["image"])
        mask = Image.new("L", image.size, WORDS.index("other"))
        pen = ImageDraw.Draw(mask)
        for word, shape in row["shapes"]:
            points = np.array(shape).reshape(-1, 2) / 100 * image.size
            pen.polygon([tuple(p) for p in points], fill=UNCLEAR if word == "?" else WORDS.index(word))
        yield Drawn(image, np.asarray(mask), frozenset(row["also"]) | {word for word, _ in row["shapes"]})


def regions(drawn: Sequence[Drawn], scenes: Sequence[Scene]) -> None:
    """Print how well regions are found, and what is refused."""
    overlap: dict[str, list[float]] = {}
    found, refused = [], []
    for photo, scene in zip(drawn, scenes, strict=True):
        clear = photo.places != UNCLEAR
        for word in photo.present():
            share = scene.find(word)
            found.append(share is not None)
            ours = np.zeros_like(clear) if share is None else resized(share, photo.image.size) > 0.5
            theirs = photo.mask(word)
            union = ((ours | theirs) & clear).sum()
            overlap.setdefault(word, []).append(float((ours & theirs & clear).sum() / union))
        refused += [scene.find(word) is None for word in photo.absent()]
    for word in WORDS:
        if word in overlap:
            print(f"  {word:<8} IoU {np.mean(overlap[word]):.2f}  n {len(overlap[word])}")
    means = [np.mean(overlap[word]) for word in STUFF if word in overlap]
    print(f"  the stuff words but sky, mean of their means: {np.mean(means):.2f}")
    print(f"  there and found: {np.mean(found):.1%} of {len(found)}")
    print(f"  not there and refused: {np.mean(refused):.1%} of {len(refused)}")


def edits(drawn: Sequence[Drawn], editor: LocalEditor) -> None:
    """Print how far "make the sky purple" and the like come, inside and outside the drawn regions."""
    toward, outside, touched = [], [], []
    for number, photo in enumerate(drawn):
        for word in (w for w in photo.present() if w not in ("skin", "person")):
            wish = WISHES[number % len(WISHES)]
            edit = editor.edit(EditRequest(photo.image, f"make the {word} {wish}"))
            if edit.region is None:
                continue
            before, after = np.asarray(photo.image), np.asarray(edit.image)
            inside = photo.mask(word)
            rest = (photo.places != UNCLEAR) & ~inside
            wanted = to_oklab(np.array(COLOURS[wish], np.uint8))[1:]
            far = [np.linalg.norm(to_oklab(p[inside]).mean(axis=0)[1:] - wanted) for p in (before, after)]
            toward.append(1 - far[1] / far[0])
            if rest.any():
                difference = np.abs(before.astype(int) - after).max(axis=2)
                outside.append(float(difference[rest].mean()) / 255)
                touched.append(float((difference[rest] > 0).mean()))
    print(f"  colour asked for: {np.mean(toward):.0%} of the way there inside the drawn region, n {len(toward)}")
    print(
        f"  outside it: {np.mean(touched):.1%} of the pixels changed, by {np.mean(outside):.4f} of the range on average"
    )


def examples(wish: str, daylight: Sequence[Image.Image], wanted: np.ndarray, base: KnowledgeBase) -> None:
    """Print how near `wish` brings the skies of photos to the colours `wanted` (n, 3)."""
    segmenter = StarterSegmenter()
    editor = LocalEditor(segmenter)
    retrieved = tuple(base.search(text=editor.wanted(wish), k=8, modality="image"))
    every = base.search(text="a photo", k=base.count(), modality="image")
    draw = np.random.default_rng(0)
    arms: dict[str, Callable[[], tuple[Hit, ...]]] = {
        "retrieved": lambda: retrieved,
        "random": lambda: tuple(every[place] for place in draw.permutation(len(every))[:16]),
        "none": lambda: (),
    }
    for name, evidence in arms.items():
        made = [editor.edit(EditRequest(image, wish, evidence())) for image in daylight]
        near = [distance(edit, image, wanted, segmenter) for edit, image in zip(made, daylight, strict=True)]
        done = sum(edit.region is not None for edit in made)
        print(f"  {name:<10} distance {np.mean(near):.3f}, n {len(near)}, of them edited {done}")


def sky(image: Image.Image, segmenter: StarterSegmenter) -> np.ndarray | None:
    """The mean colour of a photo's sky in OKLab, (3,)."""
    share = segmenter.look(image).find("sky")
    return None if share is None else to_oklab(np.asarray(image))[resized(share, image.size) > 0.5].mean(axis=0)


def distance(edit: Edit, image: Image.Image, wanted: np.ndarray, segmenter: StarterSegmenter) -> float:
    """Mean distance in OKLab from the sky as it is now to the skies `wanted`; the region is found before."""
    share = segmenter.look(image).find("sky")
    assert share is not None
    colour = to_oklab(np.asarray(edit.image))[resized(share, image.size) > 0.5].mean(axis=0)
    return float(np.linalg.norm(wanted - colour, axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds flickr8k/")
    parser.add_argument("--kb", type=Path, help="a base whose pictures steer edits")
    parser.add_argument("--skies", type=int, default=10, help="photos whose sky is changed like an example")
    options = parser.parse_args()
    segmenter = StarterSegmenter()
    both: list[Drawn] = []
    for name, file in SETS.items():
        drawn = list(read(Path(__file__).parent / "regions" / file, options.data))
        print(f"{name}: {len(drawn)} photos")
        regions(drawn, [segmenter.look(photo.image) for photo in drawn])
        edits(drawn, LocalEditor(segmenter))
        both += drawn
    if options.kb:
        lines = (options.data / "flickr8k" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [r for r in map(json.loads, lines) if r["split"] == "dev"]
        daylight = [photo.image for photo in both if "sky" in photo.present()][: options.skies]
        with KnowledgeBase.open(options.kb) as base:
            for wish, (said, least) in WISHED_SKIES.items():
                spoken = [r for r in rows if sum(said in text.lower() for text in r["texts"]) >= least]
                photos = [load_image(options.data / "flickr8k" / r["image"]) for r in spoken[:25]]
                skies = [colour for photo in photos if (colour := sky(photo, segmenter)) is not None]
                print(f'"{wish}", against the skies of {len(skies)} dev photos of which "{said}" is said')
                examples(wish, daylight, np.stack(skies), base)


if __name__ == "__main__":
    main()
