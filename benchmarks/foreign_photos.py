"""Measure captions of photos from other sources: do they name the main thing, name a wrong thing,
or decline?

    python -m benchmarks.foreign_photos --work runs/foreign [--data FOLDER]
        [--generator NAME] [--verb tell] [--half odd] [--json FILE]

The base holds the train photos of Flickr8k with their captions; it is built in `--work` (resumable)
unless it exists. `foreign_photos.jsonl` lists the 300 photos that `choose_photos` selects, with
nouns for their main thing, written by hand after looking at each photo. An output is
right if one of them occurs in it as a word, singular or plural; a Chinese output if it contains one
of the Chinese words. The odd lines are for choosing, the even ones are reported. "Invented" counts
outputs that name a person or an animal where none is, whether they are right or wrong otherwise.

Intervals are 95 % bootstrap intervals by photo. The outputs are written to a text file in `--work`.
It also measures how many photos of Flickr8k's dev split are declined."""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from benchmarks.captions import BATCH_SIZE, normalize
from benchmarks.data import DATA, read_lines
from benchmarks.data import photos as flickr_photos
from benchmarks.reports import interval_values, write_json
from ravlm import Answer, KnowledgeBase, RetrievalAugmentedVLM, Score
from ravlm.data.text import is_chinese
from ravlm.generation.base import VerbName
from ravlm.metrics.statistics import Interval, PairedScores

ANNOTATION = Path(__file__).with_suffix(".jsonl")
SEED = 19
NUM_DEV = 100
PACKAGE_PREFIX = "package:"
QUOTAS = {
    "ikea_products": ("type", 120),
    "grocery_store": ("entity", 90),
    "daquar": ("", 40),
    "leeds_butterflies": ("entity", 30),
}
"""Data set -> the fact that tells its kinds apart (none: every n-th photo), number of photos."""
PACKAGE_PHOTOS = {
    "skimage/data": (
        "astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png",
        "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
        "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
    ),
    "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
    "matplotlib/mpl-data/sample_data": ("grace_hopper.jpg",),
}  # fmt: skip
"""All photos (not drawings, masks or plots) that are in the environment's packages."""
PROMPTS = {"en": None, "zh": "讲一讲这张照片。"}
"""Language -> the prompt of a story."""
OUTCOMES = ("right", "declined", "right or declined", "wrong", "invented", "marked")
LIVING = (
    "adult", "baby", "bear", "biker", "bird", "boy", "cat", "child", "children", "climber", "cow",
    "crowd", "cyclist", "dog", "female", "girl", "guy", "horse", "human", "infant", "kid", "kitten",
    "lady", "male", "man", "monkey", "people", "person", "puppy", "sheep", "skateboarder", "skier",
    "snowboarder", "someone", "surfer", "swimmer", "teenager", "toddler", "woman",
)  # fmt: skip
LIVING_ZH = ("人", "男", "女", "孩", "宝宝", "狗", "猫", "鸟", "马")
"""Persons and animals that captions invent; most of the photos show none."""


@dataclass(frozen=True)
class Photo:
    """A photo of another source and the nouns that name its main thing."""

    location: str
    """Path below the data folder, or "package:" and a path below site-packages."""
    accepted: tuple[str, ...]
    accepted_zh: tuple[str, ...]
    visible: tuple[str, ...] = ()
    """Words for persons and animals that are visible but not the main thing (a hand: "person")."""

    @property
    def source(self) -> str:
        """The data set, or "packages"."""
        if self.location.startswith(PACKAGE_PREFIX):
            return PACKAGE_PREFIX[:-1] + "s"
        return self.location.split("/")[0]

    def path(self, data: Path) -> Path:
        """Return the file. Raises FileNotFoundError if its package is not installed."""
        if not self.location.startswith(PACKAGE_PREFIX):
            return data / self.location
        package, _, rest = self.location.removeprefix(PACKAGE_PREFIX).partition("/")
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(f'{self.location} needs the package "{package}".')
        return Path(spec.submodule_search_locations[0]) / rest


@dataclass(frozen=True)
class Output:
    """What a verb returned for a photo."""

    text: str
    declined: bool
    marked: bool
    """Written without evidence, and marked so (only without `base_only`)."""

    @classmethod
    def from_answer(cls, answer: Answer) -> Output:
        marked = bool(answer.trace.get("closed_book")) and not answer.abstained
        return cls(answer.text, answer.abstained, marked)


def choose_photos(data: Path) -> Iterator[str]:
    """Yield the locations of the 300 photos.

    The rows of a set are shuffled; the first photo of each kind comes before the second of any.
    """
    for name, (fact, number) in QUOTAS.items():
        rows = read_lines(data / name / "metadata.jsonl")
        chosen = _one_per_kind(rows, fact, number) if fact else _every_nth(rows, number)
        yield from (f"{name}/{row['image']}" for row in chosen)
    for folder, names in PACKAGE_PHOTOS.items():
        yield from (f"{PACKAGE_PREFIX}{folder}/{name}" for name in names)


def _every_nth(rows: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Return rows at equal distances, in the order of the numbers in their file names."""
    rows = sorted(rows, key=lambda row: int(re.findall(r"\d+", row["image"])[0]))
    return [rows[i * len(rows) // number] for i in range(number)]


def _one_per_kind(rows: list[dict[str, Any]], fact: str, number: int) -> list[dict[str, Any]]:
    """Return shuffled rows, in rounds of one per kind; a kind ends at the first comma."""
    random.Random(SEED).shuffle(rows)
    counts: dict[str, int] = {}
    rounds = []
    for index, row in enumerate(rows):
        kind = row["facts"][fact].split(",")[0].lower()
        counts[kind] = counts.get(kind, 0) + 1
        rounds.append((counts[kind], index))
    return [rows[index] for _, index in sorted(rounds)[:number]]


def read_annotation(half: str = "both") -> list[Photo]:
    """Return the photos of a half: the odd lines, the even ones, or both."""
    rows = read_lines(ANNOTATION)
    rows = {"odd": rows[::2], "even": rows[1::2], "both": rows}[half]
    return [Photo(row["photo"], tuple(row["accepted"]), tuple(row["accepted_zh"])) for row in rows]


def is_named(text: str, accepted: Sequence[str], accepted_zh: Sequence[str] = ()) -> bool:
    """Return whether one of the accepted nouns occurs in `text` as a word or words.

    In a Chinese text the Chinese words are looked for, anywhere.

    >>> is_named("Two loaves of bread on shelves.", ["shelf"])
    True
    """
    if is_chinese(text):
        return any(word in text for word in accepted_zh)
    words = f" {normalize(text)} "
    return any(f" {form} " in words for noun in accepted for form in noun_forms(noun))


def is_invented(text: str, photo: Photo) -> bool:
    """Return whether `text` names a person or an animal that is not in the photo."""
    if is_chinese(text):
        known_zh = "".join(photo.accepted_zh) + ("人" if photo.visible else "")
        return any(word in text and word not in known_zh for word in LIVING_ZH)
    known = {form for noun in (*photo.accepted, *photo.visible) for form in noun_forms(noun)}
    return is_named(text, [word for word in LIVING if word not in known])


def noun_forms(noun: str) -> tuple[str, ...]:
    """Return a noun and its regular plurals; of several words, the last is inflected."""
    forms = [noun, f"{noun}s", f"{noun}es"]
    if noun.endswith("y"):
        forms.append(f"{noun[:-1]}ies")
    for ending in ("f", "fe"):
        if noun.endswith(ending):
            forms.append(f"{noun.removesuffix(ending)}ves")
    if noun.endswith("man"):
        forms.append(f"{noun[:-3]}men")
    return tuple(forms)


def outcome_of(photo: Photo, output: Output) -> Literal["right", "declined", "wrong"]:
    """Return whether an output names the main thing of its photo, declines, or does neither."""
    if output.declined:
        return "declined"
    named = is_named(output.text, photo.accepted, photo.accepted_zh)
    return "right" if named else "wrong"


def outcome_items(photos: Sequence[Photo], outputs: Sequence[Output]) -> dict[str, list[float]]:
    """Return 0 or 1 for each outcome and photo."""
    items: dict[str, list[float]] = {name: [] for name in OUTCOMES}
    for photo, output in zip(photos, outputs, strict=True):
        outcome = outcome_of(photo, output)
        items["right"].append(outcome == "right")
        items["declined"].append(outcome == "declined")
        items["right or declined"].append(outcome != "wrong")
        items["wrong"].append(outcome == "wrong")
        items["invented"].append(not output.declined and is_invented(output.text, photo))
        items["marked"].append(output.marked)
    return items


def intervals(items: dict[str, list[float]]) -> dict[str, Interval]:
    """Return the share of each outcome with its 95 % bootstrap interval."""
    scores = [
        Score(sum(values) / len(values), tuple(map(float, values)), "share")
        for values in items.values()
    ]
    paired = PairedScores(scores)
    return {name: paired.interval(arm) for arm, name in enumerate(items)}


def outputs_for(
    model: RetrievalAugmentedVLM, images: Sequence[str], verb: VerbName, prompt: str | None
) -> list[Output]:
    """Return the output of a verb for each image."""
    outputs: list[Output] = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = list(images[start : start + BATCH_SIZE])
        answers = model.answer(verb, None if prompt is None else [prompt] * len(batch), batch)
        outputs += [Output.from_answer(answer) for answer in answers]
        print(f"{len(outputs)} of {len(images)} photos", file=sys.stderr, flush=True)
    return outputs


def measure(
    photos: Sequence[Photo], outputs: Sequence[Output], dev: Sequence[Output]
) -> dict[str, dict[str, Any]]:
    """Return the rows of the report: all photos, each source, and the dev photos."""
    groups = {"all": list(range(len(photos)))}
    for index, photo in enumerate(photos):
        groups.setdefault(photo.source, []).append(index)
    rows = {
        name: _row(
            intervals(outcome_items([photos[i] for i in group], [outputs[i] for i in group])),
            len(group),
        )
        for name, group in groups.items()
    }
    if dev:
        items: dict[str, list[float]] = {
            "declined": [o.declined for o in dev],
            "marked": [o.marked for o in dev],
        }
        rows["flickr8k dev"] = _row(intervals(items), len(dev))
    return rows


def _row(shares: dict[str, Interval], number: int) -> dict[str, Any]:
    values = {name: interval_values(share, digits=4) for name, share in shares.items()}
    return {"photos": number, **values}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the rows as text, in percent."""
    lines = [f"{'':<20}{'n':>5}" + "".join(f"{name:>22}" for name in OUTCOMES)]
    for name, row in rows.items():
        cells = [
            "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * value for value in row[outcome]))
            if outcome in row
            else ""
            for outcome in OUTCOMES
        ]
        lines.append(f"{name:<20}{row['photos']:>5}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


def outputs_text(photos: Sequence[Photo], outputs: Sequence[Output]) -> str:
    """Return a line for each photo: outcome, location, output."""
    lines = []
    for photo, output in zip(photos, outputs, strict=True):
        lines.append(
            f"{outcome_of(photo, output):<9}{photo.location}\t{' '.join(output.text.split())}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the options, describe the photos, measure and print."""
    options = parse_options()
    chosen = read_annotation(options.half)
    chosen = chosen[:: len(chosen) // options.photos] if options.photos else chosen
    dev = flickr_photos(options.data, "dev")
    step = len(dev) // NUM_DEV
    dev = dev[step // 2 if options.half == "even" else 0 :: step][: options.dev]
    kb_path = options.work / "flickr"
    with KnowledgeBase.build(kb_path, flickr_photos(options.data, "train")) as kb:
        generator = {} if options.generator is None else {"generator": options.generator}
        model = RetrievalAugmentedVLM(kb, base_only=options.base_only, **generator)
        prompt = PROMPTS[options.language] if options.verb == "tell" else None
        paths = [str(photo.path(options.data)) for photo in chosen]
        outputs = outputs_for(model, paths, options.verb, prompt)
        dev_paths = [str(entry.image) for entry in dev]
        dev_outputs = outputs_for(model, dev_paths, options.verb, prompt)
        name = Path(model.generator.name).name
    rows = measure(chosen, outputs, dev_outputs)
    print(table(rows))
    label = f"{options.verb}-{name}-{options.half}-{options.language}"
    text_path = options.work / f"{label}.txt"
    text_path.write_text(outputs_text(chosen, outputs), encoding="utf-8")
    print(f"The outputs are in {text_path}.")
    settings = {key: getattr(options, key) for key in ("verb", "half", "language", "base_only")}
    write_json({"generator": name, **settings, "rows": rows}, options.json)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, required=True, help="folder of the base and outputs")
    parser.add_argument("--generator", help="the package's default if not given")
    parser.add_argument("--verb", choices=("caption", "tell"), default="caption")
    parser.add_argument("--language", choices=PROMPTS, default="en", help="language of a story")
    parser.add_argument("--half", choices=("odd", "even", "both"), default="both")
    parser.add_argument("--base-only", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--photos", type=int, help="number of photos, for a short run")
    parser.add_argument("--dev", type=int, default=NUM_DEV, help="number of dev photos")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
