"""What the demo asks and searches for: of its own photos, or of anybody's.

A plan is a list of steps; who carries them out and who shows them is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

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
    """The id of what the picture shows, where that is known: then one can say which hits are
    right."""


@dataclass(frozen=True)
class Plan:
    """What to show, in order; `photo` is the picture that the steps of the section "photo" are
    about."""

    photo: Image.Image
    steps: tuple[Step, ...]


ABSENT = "skimage/data/retina.jpg"
"""A picture that no base of the demo holds: the back of an eye."""


def own_plan(entries: Sequence[Entry]) -> Plan:
    """The steps for the photos that the demo brings along."""
    copies = {entry.id: changed_copy(entry.image) for entry in entries if entry.image is not None}
    cat, tower = copies["cat"], copies["temple"]
    steps = [
        Step("photo", "ask", "asked in English", "What is the animal in the picture?", cat),
        Step("photo", "ask", "asked in Chinese", "图片中的动物是什么？", cat),
        Step("photo", "search", "texts about this photo", "", cat, "text", subject="cat"),
        Step("photo", "caption", "caption", "", cat),
        Step("photo", "tell", "story", "Tell me about the picture.", cat),
        Step("photo", "tell", "story in Chinese", "讲讲这张图片。", cat),
        Step("search", "search", "words to pictures", "a red motorcycle in a garage", find="image"),
        Step("search", "search", "Chinese to pictures", "湖边的高塔", find="image"),
        Step("search", "search", "picture to pictures", "", copies["dahlia"], "image"),
        Step(
            "search",
            "search",
            "picture and words to pictures",
            "a flower in a garden",
            tower,
            "image",
        ),
        Step(
            "search", "search", "picture to texts", "", copies["coffee"], "text", subject="coffee"
        ),
        Step("search", "search", "words to texts", "傍晚的火箭", find="text"),
        Step("questions", "ask", "with a photo", "When was the launch?", copies["rocket"]),
        Step(
            "questions", "ask", "with a photo, in Chinese", "它的制造商是谁？", copies["motorcycle"]
        ),
        Step("questions", "ask", "with words only", "Where were the Greek coins found?"),
        Step("talk", "chat", "first turn", "What is the building in the picture?", tower),
        Step("talk", "chat", "second turn", "And how tall is it?", tower),
        Step(
            "absent",
            "ask",
            "a photo of something else",
            "What is in the picture?",
            package_file(ABSENT),
        ),
        Step("absent", "ask", "words about something else", "Which language is spoken in Brazil?"),
    ]
    return Plan(cat, tuple(steps))


def plan_for(entries: Sequence[Entry]) -> Plan:
    """The steps for anybody's pictures: `entries` are some of the base, at least one of them with a
    picture."""
    pictured = [entry for entry in entries if entry.image is not None]
    worded = [entry for entry in entries if entry.texts]
    copy, other = (
        changed_copy(entry.image)
        for entry in (pictured[0], pictured[-1])
        if entry.image is not None
    )
    steps = (
        _asked(copy)
        if worded
        else [Step("photo", "search", "pictures like this one", "", copy, "image")]
    )
    words = " ".join(worded[-1].text.split()[:12]) if worded else "a photo taken outdoors"
    steps += [
        Step("search", "search", "picture to pictures", "", other, "image"),
        Step("search", "search", "words to pictures", words, find="image"),
        Step("search", "search", "Chinese to pictures", "绿色的草地", find="image"),
    ]
    if worded:
        steps += [
            Step("search", "search", "words to texts", words, find="text"),
            Step("talk", "chat", "first turn", "What is in the picture?", other),
            Step("talk", "chat", "second turn", "Tell me more about it.", other),
            Step(
                "absent",
                "ask",
                "a photo of something else",
                "What is in the picture?",
                package_file(ABSENT),
            ),
        ]
    return Plan(copy, tuple(steps))


def _asked(photo: Image.Image) -> list[Step]:
    return [
        Step("photo", "ask", "asked in English", "What is in the picture?", photo),
        Step("photo", "ask", "asked in Chinese", "图片中是什么？", photo),
        Step("photo", "search", "texts about this photo", "", photo, "text"),
        Step("photo", "caption", "caption", "", photo),
        Step("photo", "tell", "story", "", photo),
    ]
