"""Cases: the examples of a comparison that show best what retrieval changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ravlm.evaluation.arm_run import ArmRun
from ravlm.evaluation.records import ArmOutput, Case, CaseKind
from ravlm.tasks.base import Task

_CASES_PER_KIND = 6
_SHOWN_ARMS = ("closed-book", "retrieved", "oracle", "random")
"""The arms whose outputs are shown, in this order."""


def select_cases(task: Task, runs: Sequence[ArmRun], metric: str) -> list[Case]:
    """Return the clearest wins, losses and failures of `retrieved` against `closed-book`.

    Of several arms with the same base name, the first counts. Empty for a task without text
    outputs, or without the arm `retrieved`."""
    by_arm = {run.arm.base_name: run for run in reversed(runs)}
    if "retrieved" not in by_arm or not task.outputs_text:
        return []
    scores = np.array(by_arm["retrieved"].scores[metric].items)
    baseline = np.zeros(len(scores))
    if "closed-book" in by_arm:
        baseline = np.array(by_arm["closed-book"].scores[metric].items)
    examples = task.examples()
    shown_runs = [by_arm[name] for name in _SHOWN_ARMS if name in by_arm]
    return [
        Case(
            kind, examples[i], tuple(_output(run, examples[i].id, i, metric) for run in shown_runs)
        )
        for kind, rows in _clearest(scores, scores - baseline).items()
        for i in rows
    ]


def _clearest(scores: np.ndarray, change: np.ndarray) -> dict[CaseKind, list[int]]:
    """Return rows by kind of case; ties are broken at random, so that they come from anywhere in
    the file."""
    order = np.random.default_rng(0).permutation(len(scores)).tolist()
    by_gain = sorted(order, key=lambda i: -change[i])[:_CASES_PER_KIND]
    by_loss = sorted(order, key=lambda i: change[i])[:_CASES_PER_KIND]
    by_score = sorted(order, key=lambda i: scores[i])[:_CASES_PER_KIND]
    return {
        "win": [i for i in by_gain if change[i] > 0],
        "loss": [i for i in by_loss if change[i] < 0],
        "failure": [i for i in by_score if change[i] <= 0],
    }


def _output(run: ArmRun, id_: str, row: int, metric: str) -> ArmOutput:
    prediction = run.predictions[id_]
    entries = run.model.kb.get(prediction.evidence) if run.arm.base_name == "retrieved" else []
    score = run.scores[metric].items[row]
    return ArmOutput(run.arm.name, prediction.text, score, tuple(entries), prediction.citations)
