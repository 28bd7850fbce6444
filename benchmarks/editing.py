"""How well pictures are edited: python benchmarks/editing.py --data DATA [--kb KB] [--json FILE]

Masks were drawn by hand for 38 photos of Flickr8k's dev split, on which the thresholds were set,
and for 18 chosen at random later, on which nothing was set but that a dog needs a dog's class
(`regions/`). Printed for each set: how well a word's region is found (IoU, "?" left out), how often
what is there is found and what is not there refused; how far a region's colour comes toward the one
that was asked for, and what becomes of the rest of the picture. With --kb, a base of pictures
(Flickr8k's train photos, say): "like a sunset" with what is retrieved, with random entries, and
with none."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from ravlm import Hit, KnowledgeBase
from ravlm.data.images import load_image
from ravlm.editing.base import EditRequest
from ravlm.editing.rule_based.editor import LocalEditor
from ravlm.editing.rule_based.lexicon import COLOURS
from ravlm.editing.rule_based.mask_refinement import resized
from ravlm.editing.rule_based.oklab import to_oklab
from ravlm.editing.rule_based.stuff import PARTS, WORDS
from ravlm.editing.segmentation import Scene, Segmenter, StarterSegmenter
from ravlm.metrics.image import image_l1, mask_iou

Figures: TypeAlias = "dict[str, Any]"
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
"""What is asked for, the words that captions of photos with such a sky have, and how many captions
must have them."""
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
    """The photos of a file of masks: shapes in percent of the sides, later ones over earlier
    ones."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        image = load_image(data / row["image"])
        mask = Image.new("L", image.size, WORDS.index("other"))
        pen = ImageDraw.Draw(mask)
        for word, shape in row["shapes"]:
            points = np.array(shape).reshape(-1, 2) / 100 * image.size
            pen.polygon(
                [tuple(p) for p in points], fill=UNCLEAR if word == "?" else WORDS.index(word)
            )
        yield Drawn(
            image, np.asarray(mask), frozenset(row["also"]) | {word for word, _ in row["shapes"]}
        )


def regions(drawn: Sequence[Drawn], scenes: Sequence[Scene]) -> Figures:
    """How well regions are found, and what is refused; beside it how well the whole picture would
    do as a region."""
    ours: dict[str, list[np.ndarray]] = {}
    theirs: dict[str, list[np.ndarray]] = {}
    whole: dict[str, list[np.ndarray]] = {}
    found, refused = [], []
    for photo, scene in zip(drawn, scenes, strict=True):
        clear = photo.places != UNCLEAR
        for word in photo.present():
            share = scene.find(word)
            found.append(share is not None)
            mask = np.zeros_like(clear) if share is None else resized(share, photo.image.size) > 0.5
            ours.setdefault(word, []).append(mask & clear)
            theirs.setdefault(word, []).append(photo.mask(word))
            whole.setdefault(word, []).append(clear)
        refused += [scene.find(word) is None for word in photo.absent()]
    overlap = {
        word: {
            "iou": mask_iou(ours[word], theirs[word]).value,
            "whole_picture": mask_iou(whole[word], theirs[word]).value,
            "n": len(ours[word]),
        }
        for word in WORDS
        if word in ours
    }
    return {
        "photos": len(drawn),
        "regions": overlap,
        "stuff_but_sky_mean_of_means": float(
            np.mean([overlap[word]["iou"] for word in STUFF if word in overlap])
        ),
        "there_and_found": {"share": float(np.mean(found)), "n": len(found)},
        "not_there_and_refused": {"share": float(np.mean(refused)), "n": len(refused)},
    }


def edits(drawn: Sequence[Drawn], editor: LocalEditor) -> Figures:
    """How far "make the sky purple" and the like come, inside and outside the drawn regions."""
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
            far = [
                np.linalg.norm(to_oklab(p[inside]).mean(axis=0)[1:] - wanted)
                for p in (before, after)
            ]
            toward.append(1 - far[1] / far[0])
            if rest.any():
                outside.append(
                    image_l1([edit.image], [photo.image], regions=[rest], where="inside").value
                )
                touched.append(float((before != after).any(axis=2)[rest].mean()))
    return {
        "of_the_way_to_the_colour": {"share": float(np.mean(toward)), "n": len(toward)},
        "pixels_changed_outside": {"share": float(np.mean(touched)), "n": len(touched)},
        "mean_change_outside": {"share": float(np.mean(outside)), "n": len(outside)},
    }


class Remembering(Segmenter):
    """Looks at each picture once: the same few are retrieved for every photo."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._scenes: dict[bytes, Scene] = {}

    def look(self, image: Image.Image) -> Scene:
        pixels = image.tobytes()
        if pixels not in self._scenes:
            self._scenes[pixels] = self._segmenter.look(image)
        return self._scenes[pixels]


def examples(
    wish: str,
    daylight: Sequence[Sky],
    wanted: np.ndarray,
    base: KnowledgeBase,
    segmenter: Segmenter,
) -> Figures:
    """How near `wish` brings skies to the colours `wanted` (n, 3), with retrieved pictures, random
    ones, and none.

    Distances are in OKLab, from the mean of the sky as it is then to each of `wanted`, averaged."""
    editor = LocalEditor(segmenter)
    retrieved = tuple(base.search(text=editor.wanted(wish), k=8, modality="image"))
    every = base.search(text="a photo", k=base.count(), modality="image")
    draw = np.random.default_rng(0)
    arms: dict[str, Callable[[], tuple[Hit, ...]]] = {
        "retrieved": lambda: retrieved,
        "random": lambda: tuple(every[place] for place in draw.permutation(len(every))[:8]),
        "none": lambda: (),
    }
    figures: Figures = {"wanted": len(wanted), "n": len(daylight)}
    for name, evidence in arms.items():
        made = [editor.edit(EditRequest(sky.image, wish, evidence())) for sky in daylight]
        colours = [
            to_oklab(np.asarray(e.image))[sky.mask].mean(axis=0)
            for e, sky in zip(made, daylight, strict=True)
        ]
        figures[name] = {
            "distance": float(
                np.mean([np.linalg.norm(wanted - colour, axis=1).mean() for colour in colours])
            ),
            "edited": sum(edit.region is not None for edit in made),
        }
    return figures


@dataclass(frozen=True)
class Sky:
    """A photo and where its sky is."""

    image: Image.Image
    mask: np.ndarray

    @property
    def colour(self) -> np.ndarray:
        """Its mean in OKLab, (3,)."""
        return np.asarray(to_oklab(np.asarray(self.image))[self.mask].mean(axis=0))


def skies(images: Iterable[Image.Image], segmenter: StarterSegmenter) -> list[Sky]:
    """Those of `images` in which a sky is found."""
    looked = ((image, segmenter.look(image).find("sky")) for image in images)
    return [
        Sky(image, resized(share, image.size) > 0.5) for image, share in looked if share is not None
    ]


def steered(data: Path, kb: Path, daylight: Sequence[Sky], segmenter: StarterSegmenter) -> Figures:
    """`examples` for each of `WISHED_SKIES`, against dev photos whose captions speak of such a
    sky."""
    lines = (data / "flickr8k" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "dev"]
    figures: Figures = {}
    with KnowledgeBase.open(kb) as base:
        for wish, (said, least) in WISHED_SKIES.items():
            spoken = [
                row for row in rows if sum(said in text.lower() for text in row["texts"]) >= least
            ]
            photos = (load_image(data / "flickr8k" / row["image"]) for row in spoken[:25])
            wanted = np.stack([sky.colour for sky in skies(photos, segmenter)])
            figures[wish] = examples(wish, daylight, wanted, base, Remembering(segmenter))
    return figures


def show(figures: Figures, indent: str = "") -> None:
    """Print figures, those of one thing on one line."""
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
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds flickr8k/")
    parser.add_argument("--kb", type=Path, help="a base whose pictures steer edits")
    parser.add_argument(
        "--skies", type=int, default=12, help="photos whose sky is changed like an example"
    )
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    segmenter, figures, both = StarterSegmenter(), {}, []
    for name, file in SETS.items():
        drawn = list(read(Path(__file__).parent / "regions" / file, options.data))
        looked = [segmenter.look(photo.image) for photo in drawn]
        figures[name] = {**regions(drawn, looked), **edits(drawn, LocalEditor(segmenter))}
        show({name: figures[name]})
        both += drawn
    if options.kb:
        daylight = skies([photo.image for photo in both if "sky" in photo.present()], segmenter)[
            : options.skies
        ]
        figures["like an example"] = steered(options.data, options.kb, daylight, segmenter)
        show({"like an example": figures["like an example"]})
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
