"""`ravlm demo`: what is shown while it runs, and where its page is.

Knows the demo's records; what is asked and searched for is the demo's own matter.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ravlm.cli.output import answer_record, hit_record, note, print_json, shorten, wrap
from ravlm.cli.parser import Command, Options, argument

if TYPE_CHECKING:
    from ravlm.demo import Built, Exhibit
    from ravlm.records import Hit

_WIDE = 100
_TITLES = {
    "photo": "A photo that the base has not seen in this form: mirrored, cropped, darker",
    "search": "Search in every direction",
    "questions": "More questions",
    "talk": "A talk",
    "absent": "What is not in the base",
}


def demo(options: Options) -> int:
    """`ravlm demo`."""
    from ravlm.demo import run_demo

    began = time.perf_counter()
    if options.json:
        page = run_demo(
            options.out, options.data, on_exhibit=lambda exhibit: print_json(_record(exhibit))
        )
        print_json({"page": str(page), "seconds": round(time.perf_counter() - began, 2)})
        return 0
    note("Loading the encoder and building a knowledge base ...")
    show = _Show(colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    page = run_demo(options.out, options.data, on_built=show.built, on_exhibit=show.exhibit)
    here = os.path.relpath(page.parent)
    print(f"\n{show.bold('The page')}  {page}   ({time.perf_counter() - began:.0f} s in all)")
    print(
        f"{show.bold('Go on')}     {_program()} search {here}/kb --image {here}/photo.jpg --text outdoors"
    )
    return 0


class _Show:
    def __init__(self, colour: bool) -> None:
        self.colour, self.section = colour, ""

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.colour else text

    def built(self, built: Built) -> None:
        pictured = sum(entry.image is not None for entry in built.entries)
        words = len(built.entries) - pictured
        print(
            f"{self.bold('Knowledge base')}  {pictured} entries with a picture, {words} of words alone: "
            f"{built.parts} vectors in {built.build_seconds:.1f} s"
        )
        for line in built.refused[:3]:
            note(f"refused: {line}")

    def exhibit(self, exhibit: Exhibit) -> None:
        step = exhibit.step
        if step.section != self.section:
            self.section = step.section
            print(f"\n{self.bold(_TITLES[step.section])}")
        gloss = (
            self.dim(f"  (read as: {exhibit.gloss})")
            if exhibit.gloss and step.verb == "search"
            else ""
        )
        if exhibit.answer is None:
            print(f"  {step.label}{f': {step.text}' if step.text else ''}{gloss}")
            print(self.dim("    " + shorten("   ".join(map(_brief, exhibit.hits)), _WIDE)))
        elif step.verb in ("ask", "chat"):
            cited = f"  [{', '.join(exhibit.answer.citations)}]" if exhibit.answer.citations else ""
            print(f"  {step.text}\n    {self.bold(exhibit.answer.text)}{self.dim(cited)}")
        else:
            print(f"  {step.label}")
            print("\n".join(f"    {line}" for line in wrap(exhibit.answer.text, _WIDE)))


def _program() -> str:
    """How to call this program from here: by its name where that is on the PATH."""
    return (
        "ravlm" if shutil.which("ravlm") else os.path.relpath(Path(sys.executable).parent / "ravlm")
    )


def _brief(hit: Hit) -> str:
    name = hit.entry.id if hit.part.modality == "image" else f'"{shorten(hit.part.text, 28)}"'
    return f"{hit.score:.2f} {name}"


def _record(exhibit: Exhibit) -> dict[str, object]:
    step = exhibit.step
    record: dict[str, object] = {
        "section": step.section,
        "verb": step.verb,
        "label": step.label,
        "text": step.text,
    }
    if exhibit.answer is not None:
        return record | {"answer": answer_record(exhibit.answer)}
    return record | {"hits": [hit_record(hit) for hit in exhibit.hits]}


COMMANDS = {
    "demo": Command(
        "build, search, ask and tell with real photos, and write a page about it",
        demo,
        (
            argument(
                "--data",
                metavar="FOLDER",
                help="your own pictures; texts may lie beside them in .txt files",
            ),
            argument(
                "--out",
                metavar="FOLDER",
                default="demo",
                help="where the page and the base go (default: demo)",
            ),
        ),
        """
        ravlm demo
        ravlm demo --data ~/Pictures --out my-demo
        """,
    ),
}
