"""`ravlm demo`: run the demo, show it in the terminal, and print where its page is."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ravlm.cli.command import Command, Options, argument
from ravlm.cli.output import note, print_json, relevance_bar, shorten, wrap
from ravlm.cli.terminal import unfiltered, visible

if TYPE_CHECKING:
    from ravlm.demo.records import DemoBase, Section, StepResult
    from ravlm.records import Hit

_WIDTH = 100
_TITLES: dict[Section, str] = {
    "photo": "A mirrored, cropped and darkened copy of a photo in the base",
    "search": "Search in every direction",
    "questions": "More questions",
    "chat": "Conversation",
    "abstention": "What the base can't answer",
}


def demo(options: Options) -> int:
    """Run `ravlm demo`."""
    from ravlm.demo import run_demo

    start = time.perf_counter()
    if options.json:
        page = run_demo(
            options.out, options.data, on_result=lambda result: print_json(_record(result))
        )
        print_json({"page": str(page), "seconds": round(time.perf_counter() - start, 2)})
        return 0
    note("Loading the encoder and building a knowledge base ...")
    view = _TerminalView(color=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    page = run_demo(options.out, options.data, on_base=view.show_base, on_result=view.show_result)
    view.show_page(page, time.perf_counter() - start)
    return 0


class _TerminalView:
    """Shows the base and each result on a few lines, with a title per section."""

    def __init__(self, color: bool) -> None:
        self.color = color
        self.section = ""

    def show_base(self, base: DemoBase) -> None:
        """Show what was built and what was refused."""
        self._print(
            f"{self._bold('Knowledge base')}  {len(base.with_image)} entries with an image, "
            f"{len(base.text_only)} with text only: "
            f"{base.num_parts} vectors in {base.build_seconds:.1f} s"
        )
        for refused in base.quarantine[:3]:
            note(f"refused: {refused}")

    def show_result(self, result: StepResult) -> None:
        """Show a search with its hits, or a question with its answer."""
        step = result.step
        if step.section != self.section:
            self.section = step.section
            self._print(f"\n{self._bold(_TITLES[step.section])}")
        if result.answer is None:
            self._show_search(result)
        elif step.verb in ("ask", "chat"):
            citations = ", ".join(result.answer.citations)
            cited = f"  [{citations}]" if citations else ""
            self._print(
                f"  {visible(step.text)}\n    {self._bold(result.answer.text)}{self._dim(cited)}"
            )
        else:
            print(f"  {step.label}")
            print("\n".join(f"    {line}" for line in wrap(result.answer.text, _WIDTH)))

    def show_page(self, page: Path, seconds: float) -> None:
        """Show where the page is, and a command to continue with."""
        folder = os.path.relpath(page.parent)
        command = f"search {folder}/kb --image {folder}/photo.jpg --text outdoors"
        self._print(
            f"\n{self._bold('Page')}      {visible(str(page))}   ({seconds:.0f} s in total)"
        )
        self._print(f"{self._bold('Try next')}  {visible(f'{_program()} {command}')}")

    def _show_search(self, result: StepResult) -> None:
        step = result.step
        query = f": {visible(step.text)}" if step.text else ""
        gloss = self._dim(f"  (encoded as: {result.gloss})") if result.gloss else ""
        self._print(f"  {step.label}{query}{gloss}")
        self._print(self._dim("    " + shorten("   ".join(map(_hit_summary, result.hits)), _WIDTH)))

    def _print(self, line: str) -> None:
        """Print a line with styles, in which everything else is escaped already."""
        print(line, file=unfiltered(sys.stdout))

    def _bold(self, text: str) -> str:
        return f"\x1b[1m{visible(text)}\x1b[0m" if self.color else visible(text)

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{visible(text)}\x1b[0m" if self.color else visible(text)


def _program() -> str:
    """Return how to call this program: its name if it is on the PATH, else its path."""
    if shutil.which("ravlm"):
        return "ravlm"
    return os.path.relpath(Path(sys.executable).parent / "ravlm")


def _hit_summary(hit: Hit) -> str:
    name = hit.entry.id if hit.part.modality == "image" else f'"{shorten(hit.part.text, 28)}"'
    return f"{relevance_bar(hit)} {name}"


def _record(result: StepResult) -> dict[str, object]:
    """Return a result in JSON types."""
    step = result.step
    record: dict[str, object] = {
        "section": step.section,
        "verb": step.verb,
        "label": step.label,
        "text": step.text,
    }
    if result.answer is not None:
        return record | {"answer": result.answer.to_dict()}
    return record | {"hits": [hit.to_dict() for hit in result.hits]}


COMMANDS = {
    "demo": Command(
        "build a base of real photos, search and ask it, and write a page about it",
        demo,
        (
            argument(
                "--data",
                metavar="FOLDER",
                help="your own images; texts may be in .txt files of the same names",
            ),
            argument(
                "--out",
                metavar="FOLDER",
                default="demo",
                help="folder for the page and the base (default: demo)",
            ),
        ),
        """
        ravlm demo
        ravlm demo --data ~/Pictures --out my-demo
        """,
    ),
}
