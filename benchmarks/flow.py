"""Follow a request through the code: `python -m benchmarks.structure --flow [--source FOLDER]`.

It builds a base of five birds with the starter encoder and the extractive generator, and counts for
a warm `model.ask` how often the flow comes to the model's and the retriever's file from another
file, and the files of ravlm that it goes through; and for a conversation of three turns the
searches.

Run by itself it measures the `ravlm` that Python finds."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

from PIL import Image

MODEL_FILES = ("ravlm/model.py",)
RETRIEVER_FILES = ("ravlm/retrieval/retriever.py", "ravlm/generation/finding.py")
"""Of this and of earlier layouts."""
BIRDS = {
    "Ruby Finch": ((220, 30, 30), "Peru", "12 cm"),
    "Leaf Parrot": ((30, 200, 40), "Brazil", "30 cm"),
    "Sea Heron": ((30, 40, 220), "Norway", "90 cm"),
    "Snow Owl": ((235, 235, 235), "Canada", "60 cm"),
    "Coal Crow": ((25, 25, 25), "Spain", "45 cm"),
}
TURNS = ("What is the country of the Snow Owl?", "And what is its length?", "Is it tame?")


def trace_files(call: Callable[[], Any]) -> list[str]:
    """Return the file of each function of ravlm that is called, in order.

    Comprehensions and lambdas belong to the function around them and are left out.
    """
    files: list[str] = []

    def on_event(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and "/ravlm/" in code.co_filename and code.co_name[0] != "<":
            files.append(code.co_filename)

    sys.setprofile(on_event)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files


def count_visits(files: list[str], endings: tuple[str, ...]) -> int:
    """Count how often the flow comes to a file that ends so, from another file."""
    visits = [path for path, _ in groupby(files)]
    return sum(path.endswith(endings) for path in visits)


def count_searches(kb_class: Any, call: Callable[[], Any]) -> int:
    """Count the calls of `KnowledgeBase.search` and `.search_many`, nested ones once."""
    search_many = kb_class.search_many
    count = 0

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        return search_many(self, *args, **options)

    kb_class.search_many = counted  # `search` calls it too
    try:
        call()
    finally:
        kb_class.search_many = search_many
    return count


def measure(folder: Path) -> dict[str, int]:
    """Build the base and the model, and return the counts."""
    import ravlm
    from ravlm.knowledge.base import KnowledgeBase

    entries = []
    for name, (color, country, length) in BIRDS.items():
        path = folder / f"{name}.png"
        Image.new("RGB", (64, 48), color).save(path)
        text = f"Name: {name}\nCountry: {country}\nLength: {length}\nTame: no"
        entries.append(ravlm.Entry(name, str(path), (text,)))
    encoder = ravlm.DualEncoder.load("starter")
    counts: dict[str, int] = {}
    with KnowledgeBase.build(folder / "kb", entries, encoder=encoder) as kb:
        model = ravlm.RetrievalAugmentedVLM(kb)
        questions = {
            "ask": ("What is the country of the Sea Heron?", None),
            "ask about an image": ("What is its name?", entries[0].image),
        }
        for label, (question, image) in questions.items():
            model.ask("What is the length of the Coal Crow?", image)
            files = trace_files(partial(model.ask, question, image))
            counts[f"{label}: visits to the model"] = count_visits(files, MODEL_FILES)
            counts[f"{label}: visits to the retriever"] = count_visits(files, RETRIEVER_FILES)
            counts[f"{label}: files of ravlm"] = len(set(files))
        counts["three-turn chat: searches"] = count_searches(KnowledgeBase, lambda: talk(model))
    return counts


def talk(model: Any) -> None:
    """Hold the conversation."""
    messages = []
    for turn in TURNS:
        messages.append({"role": "user", "content": turn})
        messages.append({"role": "assistant", "content": model.chat(messages).text})


def main() -> None:
    """Print the counts as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder))))


if __name__ == "__main__":
    main()
