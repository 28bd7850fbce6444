"""What the demo asks and searches for: of its own photos, or of anybody's.

A plan is a list of steps; who carries them out and who shows them is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ravlm.demo.photos import changed_copy, package_file
from ravlm.records import Entry, ImageSource, Modality

Section = Literal["photo", "search", "questions", "talk", "absent"]
Verb = Literal["search", "ask", "caption", "tell", "chat"]


@dataclass(frozen=True)
class Step:
    """One thing that is searched for, asked or told."""

    section: Section
    verb: Verb
    label: str
    """What this shows, for a heading: "words to pictures"."""
    text: str = ""
    """The words of the search, the question, or the prompt."""
    picture: ImageSource | None = None
    find: Modality | Literal["any"] = "any"
    """What a search may match."""
    subject: str = ""
    """The id of what the picture shows, where that is known: then one can say which hits are right."""


ABSENT = "skimage/data/retina.jpg"
"""A picture that no base of the demo holds: the back of an eye."""


def own_plan(entries: Sequence[Entry]) -> list[Step]:
    """The steps for the photos that the demo brings along."""
    copies = {entry.id: changed_copy(entry.image) for entry in entries if entry.image is not None}
    cat, tower = copies["cat"], copies["temple"]
    return [
        Step("photo", "ask", "asked in English", "What is the animal in the picture?", cat),
        Step("photo", "ask", "asked in Chinese", "图片中的动物是什么？", cat),
        Step("photo", "search", "texts about this photo", "", cat, "text", subject="cat"),
        Step("photo", "caption", "caption", "", cat),
        Step("photo", "tell", "story", "Tell me about the picture.", cat),
        Step("photo", "tell", "story in Chinese", "讲讲这张图片。", cat),
        Step("search", "search", "words to pictures", "a red motorcycle in a garage", find="image"),
        Step("search", "search", "Chinese to pictures", "湖边的一座古楼", find="image"),
        Step("search", "search", "picture to pictures", "", copies["dahlia"], "image"),
        Step("search", "search", "picture and words to pictures", "a rocket", copies["astronaut"], "image"),
        Step("search", "search", "picture to texts", "", copies["coffee"], "text", subject="coffee"),
        Step("search", "search", "words to texts", "傍晚的火箭", find="text"),
        Step("questions", "ask", "with a photo", "When was the launch?", copies["rocket"]),
        Step("questions", "ask", "with a photo, in Chinese", "它的制造商是谁？", copies["motorcycle"]),
        Step("questions", "ask", "with words only", "Where were the Greek coins found?"),
        Step("talk", "chat", "first turn", "What is the building in the picture?", tower),
        Step("talk", "chat", "second turn", "And how tall is it?", tower),
        Step("absent", "ask", "a photo of something else", "What is in the picture?", package_file(ABSENT)),
        Step("absent", "ask", "words about something else", "Which language is spoken in Brazil?"),
    ]


def plan_for(entries: Sequence[Entry]) -> list[Step]:
    """The steps for anybody's pictures: `entries` are some of the base, at least one of them with a picture."""
    pictured = [entry for entry in entries if entry.image is not None]
    first, last = pictured[0], pictured[-1]
    copy, other = changed_copy(first.image), changed_copy(last.image)  # type: ignore[arg-type]
    worded = [entry for entry in entries if entry.texts]
    steps = [
        Step("photo", "ask", "asked in English", "What is in the picture?", copy),
        Step("photo", "ask", "asked in Chinese", "图片中是什么？", copy),
        Step("photo", "search", "texts about this photo", "", copy, "text"),
        Step("photo", "caption", "caption", "", copy),
        Step("photo", "tell", "story", "", copy),
        Step("search", "search", "picture to pictures", "", copy, "image"),
        Step("search", "search", "another one", "", other, "image"),
        Step("search", "search", "words to pictures", _words(worded) or name_of(first), find="image"),
        Step("search", "search", "Chinese to pictures", "绿色的草地", find="image"),
    ]
    absent = Step("absent", "ask", "a photo of something else", "What is in the picture?", package_file(ABSENT))
    if worded:
        steps += [
            Step("search", "search", "words to texts", _words(worded), find="text"),
            Step("talk", "chat", "first turn", "What is in the picture?", other),
            Step("talk", "chat", "second turn", "Tell me more about it.", other),
        ]
    return [step for step in [*steps, absent] if worded or step.find != "text"]


def name_of(entry: Entry) -> str:
    """The name of an entry's picture file in words: "red_motor-bike.jpg" is "red motor bike"."""
    stem = Path(str(entry.image)).stem if isinstance(entry.image, str | Path) else entry.id
    return " ".join(stem.replace("_", " ").replace("-", " ").split())


def _words(worded: Sequence[Entry]) -> str:
    return " ".join(worded[-1].text.split()[:12]) if worded else ""
