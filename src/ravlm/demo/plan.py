"""The plan of the demo: what it searches and asks, for the bundled photos or for any images."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ravlm.data.facts import free_sentences
from ravlm.demo.photos import package_file, transformed_copy
from ravlm.demo.records import DemoPlan, DemoStep
from ravlm.records import Entry

UNKNOWN_IMAGE = "skimage/data/retina.jpg"
"""An image that no base of the demo contains: the back of an eye."""


def bundled_plan(entries: Sequence[Entry]) -> DemoPlan:
    """Return the steps for the bundled photos."""
    photos = {entry.id: transformed_copy(entry.image) for entry in entries if entry.image}
    steps = [
        *_bundled_photo_steps(photos["cat"]),
        *_bundled_search_steps(photos),
        *_bundled_question_steps(photos),
    ]
    return DemoPlan(photos["cat"], steps)


def _bundled_photo_steps(cat: Image.Image) -> list[DemoStep]:
    return [
        DemoStep("photo", "ask", "question", "What is the animal in the picture?", cat),
        DemoStep("photo", "ask", "question in Chinese", "图片中的动物是什么？", cat),
        DemoStep("photo", "search", "matching texts", "", cat, "text", subject="cat"),
        DemoStep("photo", "caption", "caption", "", cat),
        DemoStep("photo", "tell", "story", "Tell me about the picture.", cat),
        DemoStep("photo", "tell", "story in Chinese", "讲讲这张图片。", cat),
    ]


def _bundled_search_steps(photos: dict[str, Image.Image]) -> list[DemoStep]:
    dahlia, temple, coffee = photos["dahlia"], photos["temple"], photos["coffee"]
    motorcycle = "a red motorcycle in a garage"
    flower = "a flower in a garden"
    return [
        DemoStep("search", "search", "text to image", motorcycle, modality="image"),
        DemoStep("search", "search", "Chinese text to image", "湖边的高塔", modality="image"),
        DemoStep("search", "search", "image to image", "", dahlia, "image"),
        DemoStep("search", "search", "image and text to image", flower, temple, "image"),
        DemoStep("search", "search", "image to text", "", coffee, "text", subject="coffee"),
        DemoStep("search", "search", "text to text", "傍晚的火箭", modality="text"),
    ]


def _bundled_question_steps(photos: dict[str, Image.Image]) -> list[DemoStep]:
    rocket, motorcycle, temple = photos["rocket"], photos["motorcycle"], photos["temple"]
    building = "What is the building in the picture?"
    unknown = package_file(UNKNOWN_IMAGE)
    return [
        DemoStep("questions", "ask", "about a photo", "When was the launch?", rocket),
        DemoStep("questions", "ask", "about a photo, in Chinese", "它的制造商是谁？", motorcycle),
        DemoStep("questions", "ask", "text only", "Where were the Greek coins found?"),
        DemoStep("chat", "chat", "first turn", building, temple),
        DemoStep("chat", "chat", "second turn", "And how tall is it?", temple),
        DemoStep("abstention", "ask", "unknown photo", "What is in the picture?", unknown),
        DemoStep("abstention", "ask", "unknown topic", "Which language is spoken in Brazil?"),
    ]


def folder_plan(entries: Sequence[Entry]) -> DemoPlan:
    """Return the steps for a user's images; at least one of `entries` has an image.

    Photos with texts are shown first, then photos, then pages. Without texts in the base, the plan
    only searches."""
    ranks = {entry.id: _rank(entry) for entry in entries if entry.image is not None}
    best = min(ranks.values())
    shown = [entry for entry in entries if ranks.get(entry.id) == best]
    images = [entry.image for entry in shown if entry.image is not None]
    texts = [text for entry in [*entries, *shown] for text in entry.texts]
    photo = transformed_copy(images[0])
    other_photo = transformed_copy(images[-1])
    query = _query(texts[-1]) if texts else "a photo taken outdoors"
    steps = [
        DemoStep("search", "search", "image to image", "", other_photo, "image"),
        DemoStep("search", "search", "text to image", query, modality="image"),
        DemoStep("search", "search", "Chinese text to image", "绿色的草地", modality="image"),
    ]
    if not texts:
        first = DemoStep("photo", "search", "similar images", "", photo, "image")
        return DemoPlan(photo, [first, *steps])
    unknown = package_file(UNKNOWN_IMAGE)
    steps += [
        DemoStep("search", "search", "text to text", query, modality="text"),
        DemoStep("chat", "chat", "first turn", "What is in the picture?", other_photo),
        DemoStep("chat", "chat", "second turn", "Tell me more about it.", other_photo),
        DemoStep("abstention", "ask", "unknown photo", "What is in the picture?", unknown),
    ]
    return DemoPlan(photo, [*_photo_steps(photo), *steps])


def _rank(entry: Entry) -> int:
    """Return 0 for a photo with texts, 1 for one without, and 2 for a page."""
    return 2 if entry.regions else 0 if entry.texts else 1


def _query(text: str) -> str:
    """Return the first sentence of a text, or its beginning if it has none."""
    sentences = free_sentences(text) or [text.replace("#", " ").replace("|", " ")]
    return " ".join(sentences[0].split()[:12])


def _photo_steps(photo: Image.Image) -> list[DemoStep]:
    return [
        DemoStep("photo", "ask", "question", "What is in the picture?", photo),
        DemoStep("photo", "ask", "question in Chinese", "图片中是什么？", photo),
        DemoStep("photo", "search", "matching texts", "", photo, "text"),
        DemoStep("photo", "caption", "caption", "", photo),
        DemoStep("photo", "tell", "story", "", photo),
    ]
