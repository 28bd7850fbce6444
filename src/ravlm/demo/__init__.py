"""What `ravlm demo` shows: a knowledge base of real photos, searched, asked and told about, on one
page.

Knows the public face of ravlm only: what it does, any program can do.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ravlm.demo.photos import write_entries
from ravlm.demo.plan import Step, own_plan, plan_for
from ravlm.errors import BrokenData, InvalidInput
from ravlm.records import Answer, Entry, Hit

if TYPE_CHECKING:
    from ravlm.encoders.base import DualEncoder
    from ravlm.knowledge.base import KnowledgeBase
    from ravlm.model import RetrievalAugmentedVLM

MARK = ".made-by-ravlm-demo"
PHOTO = "photo.jpg"
"""The first picture that is asked about, kept beside the page to go on with."""
MOST_ENTRIES = 300
"""Entries of a user's folder that are looked at: enough to show, and done in a minute."""


@dataclass(frozen=True)
class Exhibit:
    """A step of the plan and what came of it."""

    step: Step
    hits: tuple[Hit, ...]
    """What a search found, or the evidence of an answer."""
    answer: Answer | None
    gloss: str
    """What the text tower was given instead of the words, where a dictionary stood in between; else
    empty."""
    seconds: float


@dataclass(frozen=True)
class Built:
    """The knowledge base that the demo made."""

    path: Path
    entries: tuple[Entry, ...]
    parts: int
    encoder: str
    refused: tuple[str, ...]
    """What was not stored: place and reason."""
    load_seconds: float
    build_seconds: float


def run_demo(
    folder: str | Path = "demo",
    data: str | Path | None = None,
    *,
    encoder: DualEncoder | None = None,
    on_built: Callable[[Built], None] = lambda built: None,
    on_exhibit: Callable[[Exhibit], None] = lambda exhibit: None,
) -> Path:
    """Build `folder`/kb of the demo's own photos or of `data`, carry out the plan, write
    `folder`/index.html and the first photo that was asked about beside it.

    `data`: anything that `read_entries` takes. `on_built` and `on_exhibit` are told as soon as
    there is something to show. Returns the page's path. Raises InvalidInput for a folder that
    something else is in, BrokenData where `data` holds no picture that can be used, and what the
    library raises."""
    from ravlm.demo.page import write_page

    folder = Path(folder).resolve()
    _make_room(folder)
    built, kb = _build(folder, data, encoder)
    with kb:
        on_built(built)
        plan = own_plan(built.entries) if data is None else plan_for(built.entries)
        plan.photo.save(folder / PHOTO, quality=92)
        exhibits = []
        for exhibit in _carry_out(plan.steps, kb):
            on_exhibit(exhibit)
            exhibits.append(exhibit)
    return write_page(folder / "index.html", built, exhibits, own=data is None)


def _make_room(folder: Path) -> None:
    """Make the folder, without an earlier demo's base. Raises InvalidInput where anything else is
    in it."""
    if (
        folder.exists()
        and not (folder / MARK).is_file()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise InvalidInput(
            f'"{folder}" is there and no earlier demo made it; name another: ravlm demo --out NEW'
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    shutil.rmtree(folder / "kb", ignore_errors=True)


def _build(
    folder: Path, data: str | Path | None, encoder: DualEncoder | None
) -> tuple[Built, KnowledgeBase]:
    from ravlm import DualEncoder, KnowledgeBase, read_entries

    if data is None:
        write_entries(folder / "entries.jsonl")
        data = folder / "entries.jsonl"
    stream = read_entries(data)
    source = list(islice(stream, MOST_ENTRIES))
    began = time.perf_counter()
    encoder = encoder or DualEncoder.load("starter")
    loaded = time.perf_counter()
    kb = KnowledgeBase.build(folder / "kb", source, encoder=encoder)
    refused = tuple(f"{item.place}: {item.reason}" for item in (*stream.quarantine, *kb.quarantine))
    entries = tuple(kb.get([entry.id for entry in source]))
    if not any(entry.image is not None for entry in entries):
        kb.close()
        why = f" ({refused[0]})" if refused else ""
        raise BrokenData(
            f'"{data}" has no picture that can be used{why}; name a folder with pictures.'
        )
    parts = sum(kb.info().parts.values())
    done = time.perf_counter()
    return Built(
        Path(kb.path), entries, parts, encoder.name, refused, loaded - began, done - loaded
    ), kb


def _carry_out(steps: Sequence[Step], kb: KnowledgeBase) -> Iterator[Exhibit]:
    from ravlm import RetrievalAugmentedVLM

    model = RetrievalAugmentedVLM(kb, generator="extractive")
    talk: list[dict[str, str]] = []
    for step in steps:
        began = time.perf_counter()
        hits: Sequence[Hit] = ()
        answer = None
        if step.verb == "search":
            hits = kb.search(text=step.text or None, image=step.picture, k=4, modality=step.find)
        else:
            answer = _answer(step, model, talk)
            hits = answer.evidence
        gloss = kb.encoder.gloss(step.text) if step.text else ""
        seconds = time.perf_counter() - began
        yield Exhibit(step, tuple(hits), answer, gloss if gloss != step.text else "", seconds)


def _answer(step: Step, model: RetrievalAugmentedVLM, talk: list[dict[str, str]]) -> Answer:
    if step.verb == "chat":
        talk.append({"role": "user", "content": step.text})
        answer = model.chat(talk, image=step.picture)
    elif step.verb == "tell":
        answer = model.tell(step.picture, prompt=step.text or None)
    elif step.verb == "caption" and step.picture is not None:
        answer = model.caption(step.picture)
    else:
        answer = model.ask(step.text, image=step.picture)
    if step.verb == "chat":
        talk.append({"role": "assistant", "content": answer.text})
    return answer
