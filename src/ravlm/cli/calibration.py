"""Calibrate a base after a command has changed it, and show the progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ravlm.cli.output import Progress

if TYPE_CHECKING:
    from ravlm.knowledge.base import KnowledgeBase


class CalibrationProgress:
    """Shows how many images a calibration has encoded; the library calls it with a total."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __call__(self, num_done: int, total: int) -> None:
        if self._progress is None:
            self._progress = Progress("images to calibrate the base")
        self._progress.show(num_done, total)
        if num_done == total:
            self._progress.close()
            self._progress = None


def calibrate(kb: KnowledgeBase) -> None:
    """Fit what questions about images need now, so that the first one need not wait for it."""
    from ravlm.retrieval.retriever import Retriever

    Retriever(kb, progress=CalibrationProgress()).calibrate()
