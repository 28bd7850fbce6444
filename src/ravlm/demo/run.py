"""Run the demo: build the base, carry out the plan, write the page.

Only public names of ravlm are used: any program can do the same."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ravlm.demo.page import write_page
from ravlm.demo.photos import write_entries
from ravlm.demo.plan import bundled_plan, folder_plan
from ravlm.demo.records import DemoBase, DemoStep, StepResult
from ravlm.errors import BrokenData, InvalidInput
from ravlm.records import Answer, Hit

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder
    from ravlm.knowledge.base import KnowledgeBase
    from ravlm.model import RetrievalAugmentedVLM

MARKER = ".made-by-ravlm-demo"
"""A file that marks a folder as one that the demo may overwrite."""
PHOTO = "photo.jpg"
"""The first image that is asked about, saved next to the page for further commands."""
MAX_ENTRIES = 300
"""Entries of a user's folder that are read: enough to show, and built within a minute."""


def run_demo(
    folder: str | Path = "demo",
    data: str | Path | None = None,
    *,
    encoder: Encoder | None = None,
    on_base: Callable[[DemoBase], None] = lambda base: None,
    on_result: Callable[[StepResult], None] = lambda result: None,
) -> Path:
    """Build `folder`/kb from the bundled photos or from `data`, run the plan, and write
    `folder`/index.html; return the path of the page.

    `data` is anything that `read_entries` accepts. `on_base` and `on_result` are called as soon as
    there is something to show.

    Raises InvalidInput if `folder` has other content, BrokenData if `data` has no readable image,
    and the errors of the library."""
    folder = Path(folder).resolve()
    if data is not None:
        _check_source(data)
    with ExitStack() as on_error:
        _prepare_folder(folder, on_error)
        base, kb = _build(folder, data, encoder)
        on_error.pop_all()
    with kb:
        on_base(base)
        plan = bundled_plan(base.entries) if data is None else folder_plan(base.entries)
        plan.photo.save(folder / PHOTO, quality=92)
        results = []
        for result in _run_steps(plan.steps, kb):
            on_result(result)
            results.append(result)
    return write_page(folder / "index.html", base, results, bundled=data is None)


def _check_source(data: str | Path) -> None:
    """Raise the library's error for a source without entries, before anything is written."""
    from ravlm import read_entries

    next(iter(read_entries(data)), None)


def _prepare_folder(folder: Path, on_error: ExitStack) -> None:
    """Create the folder and remove the base of an earlier demo; `on_error` removes what is new.

    Raises InvalidInput if the folder has content of another origin."""
    is_earlier_demo = (folder / MARKER).is_file()
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not is_earlier_demo and not is_empty:
        raise InvalidInput(
            f'"{folder}" exists and was not made by the demo; '
            "choose another folder: ravlm demo --out NEW"
        )
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    if new_folders:
        on_error.callback(shutil.rmtree, new_folders[-1], ignore_errors=True)
    elif is_empty:
        on_error.callback(_clear, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    shutil.rmtree(folder / "kb", ignore_errors=True)


def _clear(folder: Path) -> None:
    shutil.rmtree(folder / "kb", ignore_errors=True)
    for path in folder.iterdir():
        path.unlink()


def _build(
    folder: Path, data: str | Path | None, encoder: Encoder | None
) -> tuple[DemoBase, KnowledgeBase]:
    from ravlm import DualEncoder, KnowledgeBase, read_entries

    if data is None:
        data = folder / "entries.jsonl"
        write_entries(data)
    stream = read_entries(data)
    source = list(islice(stream, MAX_ENTRIES))
    start = time.perf_counter()
    encoder = encoder or DualEncoder.load("starter")
    loaded = time.perf_counter()
    kb = KnowledgeBase.build(folder / "kb", source, encoder=encoder)
    refused = [item for item in (*stream.quarantine, *kb.quarantine) if not item.is_note]
    base = DemoBase(
        path=Path(kb.path),
        entries=tuple(kb.get([entry.id for entry in source])),
        num_parts=sum(kb.info().parts.values()),
        encoder=encoder.name,
        quarantine=tuple(f"{item.location}: {item.reason}" for item in refused),
        load_seconds=loaded - start,
        build_seconds=time.perf_counter() - loaded,
    )
    if not base.with_image:
        kb.close()
        reason = f" ({base.quarantine[0]})" if base.quarantine else ""
        raise BrokenData(
            f'"{data}" has no image that can be read{reason}; choose a folder with images.'
        )
    return base, kb


def _run_steps(steps: Sequence[DemoStep], kb: KnowledgeBase) -> Iterator[StepResult]:
    from ravlm import RetrievalAugmentedVLM, SearchOptions

    model = RetrievalAugmentedVLM(kb)
    conversation: list[dict[str, str]] = []
    for step in steps:
        start = time.perf_counter()
        answer = None
        hits: Sequence[Hit]
        if step.verb == "search":
            hits = kb.search(
                text=step.text or None,
                image=step.image,
                k=4,
                modality=step.modality,
                options=SearchOptions(relevance=True),
            )
        else:
            answer = _answer(step, model, conversation)
            hits = answer.evidence
        gloss = kb.encoder.gloss(step.text) if step.text else ""
        if gloss == step.text:
            gloss = ""
        yield StepResult(step, tuple(hits), answer, gloss, time.perf_counter() - start)


def _answer(
    step: DemoStep, model: RetrievalAugmentedVLM, conversation: list[dict[str, str]]
) -> Answer:
    """Ask the model; a chat step continues `conversation`."""
    if step.verb == "chat":
        conversation.append({"role": "user", "content": step.text})
        answer = model.chat(conversation, image=step.image)
        conversation.append({"role": "assistant", "content": answer.text})
        return answer
    if step.verb == "tell":
        return model.tell(step.image, prompt=step.text or None)
    if step.verb == "caption" and step.image is not None:
        return model.caption(step.image)
    return model.ask(step.text, image=step.image)
