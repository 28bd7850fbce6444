"""compare: the same model, examples and seeds in every arm, on the same code path; what differs is
the evidence.

Composes: evidence is the arms', asking and scoring the task's, intervals and tests the statistics'.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ravlm.data.parallel import batched
from ravlm.errors import InvalidInput
from ravlm.evaluation import contamination
from ravlm.evaluation.arms import GENERATORS, OF_RETRIEVAL, Arm, EvidenceSource, read_arms
from ravlm.evaluation.prediction_cache import PredictionCache, code_fingerprint
from ravlm.evaluation.report import ArmScore, Case, Contrast, Cost, Report, Risk, Said, label
from ravlm.evaluation.statistics import Difference, Paired, holm
from ravlm.generation.base import Generator
from ravlm.metrics import expected_calibration_error
from ravlm.records import Score
from ravlm.tasks.base import Prediction, Task

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM

_BATCH = 32
_CASES = 6
_STEPS = 20


@dataclass
class _Run:
    """One arm of one model: what it gave, how that scored, what it took."""

    arm: Arm
    generator: str
    model: RetrievalAugmentedVLM
    predictions: dict[str, Prediction] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    computed: int = 0
    finding: float = 0.0
    writing: float = 0.0
    peak: int = 0


def compare(
    task: Task,
    model: RetrievalAugmentedVLM | Mapping[str, RetrievalAugmentedVLM],
    arms: Sequence[str] = ("closed-book", "retrieved"),
    k: int | None = None,
    resamples: int = 10_000,
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    check_contamination: bool = True,
) -> Report:
    """Compare arms of one model, or of several by name, on a task.

    `arms`: names as in `ravlm.evaluation.arms`; every pair is tested, and a sweep against its own
    arm. `k`: entries read, by default the model's own. Models may differ in the generator or in the
    base. `cache`: a folder where predictions are kept as they come, so that a run that was cut off
    goes on; a generator that is given as an object needs a `fingerprint` for it. `progress` is
    called with the predictions done and wanted. `check_contamination` compares the examples with
    the base (their pictures are encoded once more).

    Raises InvalidInput for arms, numbers or models that are not allowed, and whatever the task's
    file raises."""
    began = time.perf_counter()
    models = dict(model) if isinstance(model, Mapping) else {model.writer.name: model}
    if not models:
        raise InvalidInput("There is no model to compare; give one, or several by name.")
    chosen = k if k is not None else task.num_evidence
    allowed = OF_RETRIEVAL if task.name == "retrieval" else tuple(GENERATORS)
    runs = [
        _Run(arm, name, each)
        for name, each in models.items()
        for arm in read_arms(arms, each.k if chosen is None else chosen, allowed)
    ]
    most = max(run.arm.k for run in runs)
    sources = {name: EvidenceSource(task, each, most) for name, each in models.items()}
    _predict(task, runs, sources, None if cache is None else Path(cache), progress)
    for run in runs:
        run.scores = task.score(run.predictions.values())
        run.predictions = {
            p.id: p for p in task.align(run.predictions.values())
        }  # in the order of the scores' items
    first = next(iter(models.values()))
    found = (
        contamination.check(task.examples(), first.kb)
        if check_contamination and task.leakage_guard
        else None
    )
    scores, contrasts = _statistics(runs, resamples)
    return Report(
        task=task.name,
        chief=_chief(task, runs),
        about=_about(task, models, runs, resamples, time.perf_counter() - began),
        scores=tuple(scores),
        contrasts=tuple(contrasts),
        costs=tuple(_cost(run) for run in runs),
        risks=tuple(_risk(run, _chief(task, runs)) for run in runs if task.name == "vqa"),
        cases=tuple(_cases(task, runs)),
        contamination=found,
    )


def _predict(
    task: Task,
    runs: Sequence[_Run],
    sources: Mapping[str, EvidenceSource],
    cache: Path | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Fill in the predictions of all runs: what is kept is read, the rest computed batch by
    batch."""
    examples = task.examples()
    done, wanted = 0, len(examples) * len(runs)
    for run in runs:
        kept = (
            PredictionCache(cache, _key(task, run))
            if cache is not None and _is_named(run.model.writer)
            else None
        )
        known = {} if kept is None else kept.read()
        run.predictions = {e.id: known[e.id] for e in examples if e.id in known}
        missing = [e for e in examples if e.id not in run.predictions]
        done += len(examples) - len(missing)
        asked = run.arm.model(run.model)
        for some in batched(missing, _BATCH):
            start = time.perf_counter()
            evidence = sources[run.generator].of(run.arm, some)
            found = time.perf_counter()
            predictions = task.predict(asked, some, evidence)
            run.finding += found - start
            run.writing += time.perf_counter() - found
            run.computed += len(some)
            if kept is not None:
                kept.add(predictions)
            run.predictions |= {p.id: p for p in predictions}
            done += len(some)
            if progress is not None:
                progress(done, wanted)
        run.peak = _peak_memory()


def _is_named(generator: Generator) -> bool:
    """Whether what it writes is known from its name or fingerprint, so that it may be kept."""
    return hasattr(generator, "fingerprint") or type(generator).__module__.startswith("ravlm.")


def _key(task: Task, run: _Run) -> dict[str, Any]:
    """Everything that a prediction depends on."""
    generator = run.model.writer
    info = run.model.kb.info()
    return {
        "task": task.fingerprint,
        "arm": run.arm.name,
        "k": run.arm.k,
        "generator": [generator.name, getattr(generator, "fingerprint", "")],
        "base": [info.path, info.change, info.fingerprint],
        "code": code_fingerprint(),
    }


def _statistics(runs: Sequence[_Run], resamples: int) -> tuple[list[ArmScore], list[Contrast]]:
    several = len({run.generator for run in runs}) > 1
    scores: list[ArmScore] = []
    contrasts: list[Contrast] = []
    for metric in runs[0].scores:
        paired = Paired([run.scores[metric] for run in runs], resamples)
        for place, run in enumerate(runs):
            interval = paired.interval(place)
            scores.append(
                ArmScore(
                    run.arm.name,
                    run.generator,
                    metric,
                    paired.n,
                    interval.score,
                    interval.low,
                    interval.high,
                )
            )
        pairs = [
            (a, b) for a, b in combinations(range(len(runs)), 2) if _comparable(runs[a], runs[b])
        ]
        found = [paired.difference(a, b) for a, b in pairs]
        for (a, b), each, corrected in zip(pairs, found, holm([d.p for d in found]), strict=True):
            contrasts.append(_contrast(runs[a], runs[b], several, metric, each, corrected))
    return scores, contrasts


def _comparable(one: _Run, other: _Run) -> bool:
    """Whether a pair is tested: the same arm of two models, two arms of one model; an arm with
    settings only beside the same arm without, so that a sweep does not weaken the tests."""
    if one.generator != other.generator:
        return one.arm.name == other.arm.name
    plain = one.arm.is_plain and other.arm.is_plain
    return plain or (one.arm.kind == other.arm.kind and (one.arm.is_plain or other.arm.is_plain))


def _contrast(
    one: _Run, other: _Run, several: bool, metric: str, found: Difference, p: float
) -> Contrast:
    names = tuple(label(run.arm.name, run.generator, several) for run in (one, other))
    return Contrast(
        contrast=(names[0], names[1]),
        generator=one.generator
        if one.generator == other.generator
        else f"{one.generator}, {other.generator}",
        metric=metric,
        n=found.n,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=p,
        p_uncorrected=found.p,
        gain=found.gain,
        harm=found.harm,
        smallest=found.smallest,
    )


def _chief(task: Task, runs: Sequence[_Run]) -> str:
    return task.primary_metric if task.primary_metric in runs[0].scores else next(iter(runs[0].scores))


def _cost(run: _Run) -> Cost:
    given = run.predictions.values()
    count = getattr(run.arm.model(run.model).writer, "num_parameters", None)
    return Cost(
        arm=run.arm.name,
        generator=run.generator,
        computed=run.computed,
        seconds_finding=round(run.finding, 3),
        seconds_writing=round(run.writing, 3),
        words=float(np.mean([len(p.text.split()) for p in given])),
        abstained=float(np.mean([p.abstained for p in given])),
        parameters=count() if callable(count) else None,
        peak_memory=run.peak,
    )


def _risk(run: _Run, chief: str) -> Risk:
    """Answers in the order of their confidence; those that abstain come last and are never
    right."""
    answered = list(run.predictions.values())
    order = sorted(
        range(len(answered)), key=lambda i: (answered[i].abstained, -answered[i].confidence)
    )
    right = np.array([run.scores[chief].items[i] for i in order])
    willing = sum(not p.abstained for p in answered)
    steps = np.unique(np.linspace(1, willing, _STEPS).astype(int)) if willing else np.array([], int)
    wrong = np.cumsum(1 - right)
    confidence = [answered[i].confidence for i in order[:willing]]
    return Risk(
        run.arm.name,
        run.generator,
        tuple((steps / len(order)).tolist()),
        tuple((wrong[steps - 1] / steps).tolist()),
        expected_calibration_error(confidence, right[:willing].tolist()).value if willing else None,
    )


def _cases(task: Task, runs: Sequence[_Run]) -> list[Case]:
    """The examples that retrieval won, harmed and lost most clearly, beside the closed book; with
    several arms of each, the first of them."""
    kinds = {run.arm.kind: run for run in reversed(runs)}
    shown = [
        kinds[kind] for kind in ("closed-book", "retrieved", "oracle", "random") if kind in kinds
    ]
    if "retrieved" not in kinds or task.name not in ("captioning", "vqa"):
        return []
    chief = _chief(task, runs)
    own = np.array(kinds["retrieved"].scores[chief].items)
    other = (
        np.array(kinds["closed-book"].scores[chief].items)
        if "closed-book" in kinds
        else np.zeros(len(own))
    )
    change = own - other
    order = np.random.default_rng(0).permutation(
        len(own)
    )  # so that equals come from anywhere in the file
    chosen = {
        "won": [i for i in sorted(order, key=lambda i: -change[i])[:_CASES] if change[i] > 0],
        "harmed": [i for i in sorted(order, key=lambda i: change[i])[:_CASES] if change[i] < 0],
        "lost": [i for i in sorted(order, key=lambda i: own[i])[:_CASES] if change[i] <= 0],
    }
    examples = task.examples()
    cases = []
    for kind, places in chosen.items():
        for i in places:
            said = (_said(run, examples[i].id, run.scores[chief].items[i]) for run in shown)
            cases.append(Case(kind, examples[i], tuple(said)))
    return cases


def _said(run: _Run, id_: str, score: float) -> Said:
    prediction = run.predictions[id_]
    evidence = tuple(run.model.kb.get(prediction.evidence)) if run.arm.kind == "retrieved" else ()
    return Said(run.arm.name, prediction.text, score, evidence, prediction.citations)


def _about(
    task: Task,
    models: Mapping[str, RetrievalAugmentedVLM],
    runs: Sequence[_Run],
    resamples: int,
    seconds: float,
) -> dict[str, Any]:
    info = next(iter(models.values())).kb.info()
    return {
        "source": str(task.source),
        "where": task.where if isinstance(task.where, str | dict | None) else str(task.where),
        "examples": len(task.examples()),
        "examples_hash": task.fingerprint,
        "base": info.path,
        "entries": info.entries,
        "encoder": f"{info.encoder} {info.fingerprint[:12]}",
        "generators": {
            name: getattr(m.writer, "fingerprint", m.writer.name) for name, m in models.items()
        },
        "k": sorted({run.arm.k for run in runs if not run.arm.is_closed}),
        "resamples": resamples,
        "signatures": sorted({score.signature for score in runs[0].scores.values()}),
        "seconds": round(seconds, 2),
    }


def _peak_memory() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
