"""compare: one model, the same examples and seeds in every arm; only the evidence differs."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.evaluation.arm_evidence import ArmEvidence
from ravlm.evaluation.arm_run import ArmRun, ProgressCallback, run_arms
from ravlm.evaluation.arms import allowed_arms, parse_arms
from ravlm.evaluation.cases import select_cases
from ravlm.evaluation.contamination import check_contamination as check
from ravlm.evaluation.groups import example_group
from ravlm.evaluation.records import ArmScore, Contrast, Cost, RiskCurve, arm_label
from ravlm.evaluation.report import Report
from ravlm.metrics import expected_calibration_error
from ravlm.metrics.statistics import Difference, PairedScores, holm
from ravlm.tasks.base import Task

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM

_CURVE_POINTS = 20


def compare(
    task: Task,
    model: RetrievalAugmentedVLM | Mapping[str, RetrievalAugmentedVLM],
    arms: Sequence[str] = ("closed-book", "retrieved"),
    k: int | None = None,
    resamples: int = 10_000,
    cache: str | Path | None = None,
    progress: ProgressCallback | None = None,
    check_contamination: bool = True,
) -> Report:
    """Compare arms of one model, or of several models by name, on a task.

    `arms`: names as in `ravlm.evaluation.arms`. All pairs of arms are tested; an arm with settings
    is tested against the same arm without. `k`: number of entries to read, by default the model's.
    `cache`: a folder for predictions, so that an interrupted run resumes; a generator passed as an
    object needs a `fingerprint` for it. `progress`: called with the numbers of finished and of all
    predictions. `check_contamination`: compare the examples with the base (this encodes their
    images once more).

    Example:
        report = compare(VQA("questions.jsonl"), model, ["closed-book", "retrieved"])

    Raises InvalidInput for unknown arms, bad numbers or no model, and the errors of the task file.
    """
    start = time.perf_counter()
    models = dict(model) if isinstance(model, Mapping) else {model.generator.name: model}
    if not models:
        raise InvalidInput("There is no model to compare; pass one, or several by name.")
    runs = _plan_runs(task, models, arms, k)
    max_k = max(run.arm.k for run in runs)
    evidence = {name: ArmEvidence(task, models[name], max_k) for name in models}
    run_arms(task, runs, evidence, None if cache is None else Path(cache), progress)

    primary_metric = _primary_metric(task, runs)
    first_model = next(iter(models.values()))
    contamination = None
    if check_contamination and task.leakage_guard:
        contamination = check(task.examples(), first_model.kb)
    risks = [_risk_curve(run, primary_metric) for run in runs] if task.has_risk_curve else []
    groups = [example_group(example) for example in task.examples()]
    scores, contrasts = _statistics(runs, resamples, groups)
    return Report(
        task=task.name,
        primary_metric=primary_metric,
        about=_about(task, models, runs, resamples, time.perf_counter() - start),
        scores=tuple(scores),
        contrasts=tuple(contrasts),
        costs=tuple(_cost(run) for run in runs),
        risks=tuple(risks),
        cases=tuple(select_cases(task, runs, primary_metric)),
        contamination=contamination,
    )


def _plan_runs(
    task: Task,
    models: Mapping[str, RetrievalAugmentedVLM],
    arms: Sequence[str],
    k: int | None,
) -> list[ArmRun]:
    """Return one run per model and arm, nothing computed yet."""
    if k is None:
        k = task.num_evidence
    allowed = allowed_arms(task.ranks_entries)
    return [
        ArmRun(arm, name, model)
        for name, model in models.items()
        for arm in parse_arms(arms, model.k if k is None else k, allowed)
    ]


def _primary_metric(task: Task, runs: Sequence[ArmRun]) -> str:
    """Return the task's primary metric; the first one if the file had no references for it."""
    scores = runs[0].scores
    return task.primary_metric if task.primary_metric in scores else next(iter(scores))


def _statistics(
    runs: Sequence[ArmRun], resamples: int, groups: Sequence[Hashable]
) -> tuple[list[ArmScore], list[Contrast]]:
    """Return the interval of each run and the contrast of each pair, metric by metric."""
    scores: list[ArmScore] = []
    contrasts: list[Contrast] = []
    for metric in runs[0].scores:
        paired = PairedScores([run.scores[metric] for run in runs], resamples, groups=groups)
        for index, run in enumerate(runs):
            interval = paired.interval(index)
            scores.append(
                ArmScore(
                    arm=run.arm.name,
                    generator=run.generator,
                    metric=metric,
                    n=paired.n,
                    score=interval.score,
                    low=interval.low,
                    high=interval.high,
                    groups=_num_groups(paired),
                )
            )
        contrasts += _contrasts(runs, metric, paired)
    return scores, contrasts


def _contrasts(runs: Sequence[ArmRun], metric: str, paired: PairedScores) -> list[Contrast]:
    with_generator = len({run.generator for run in runs}) > 1
    labels = [arm_label(run.arm.name, run.generator, with_generator) for run in runs]
    pairs = [
        (first, second)
        for first, second in combinations(range(len(runs)), 2)
        if _is_tested(runs[first], runs[second])
    ]
    differences = [paired.difference(first, second, len(pairs)) for first, second in pairs]
    corrected = holm([difference.p for difference in differences])
    contrasts = []
    for (first, second), difference, p in zip(pairs, differences, corrected, strict=True):
        generators = dict.fromkeys([runs[first].generator, runs[second].generator])
        names = (labels[first], labels[second])
        contrast = _contrast(names, ", ".join(generators), metric, difference, p)
        contrasts.append(replace(contrast, groups=_num_groups(paired)))
    return contrasts


def _num_groups(paired: PairedScores) -> int | None:
    return None if paired.num_groups == paired.n else paired.num_groups


def _is_tested(first: ArmRun, second: ArmRun) -> bool:
    """Return whether a pair is tested: the same arm of two models, or two arms of one model.

    An arm with settings is tested only against the same arm without: a sweep must not weaken the
    tests of the others through Holm's correction."""
    if first.generator != second.generator:
        return first.arm.name == second.arm.name
    if not first.arm.has_settings and not second.arm.has_settings:
        return True
    same_base = first.arm.base_name == second.arm.base_name
    return same_base and not (first.arm.has_settings and second.arm.has_settings)


def _contrast(
    names: tuple[str, str], generator: str, metric: str, difference: Difference, p: float
) -> Contrast:
    return Contrast(
        contrast=names,
        generator=generator,
        metric=metric,
        n=difference.n,
        difference=difference.difference,
        low=difference.low,
        high=difference.high,
        p=p,
        p_uncorrected=difference.p,
        gain=difference.gain,
        harm=difference.harm,
        mde=difference.mde,
    )


def _cost(run: ArmRun) -> Cost:
    predictions = run.predictions.values()
    count_parameters = getattr(run.arm.model(run.model).generator, "num_parameters", None)
    return Cost(
        arm=run.arm.name,
        generator=run.generator,
        computed=run.num_computed,
        seconds_retrieval=round(run.seconds_retrieval, 3),
        seconds_generation=round(run.seconds_generation, 3),
        words=float(np.mean([len(p.text.split()) for p in predictions])),
        abstained=float(np.mean([p.abstained for p in predictions])),
        parameters=count_parameters() if callable(count_parameters) else None,
        peak_memory=run.peak_memory,
    )


def _risk_curve(run: ArmRun, metric: str) -> RiskCurve:
    """Return the error rate among the most confident answers; abstentions come last and count as
    wrong."""
    predictions = list(run.predictions.values())
    order = sorted(
        range(len(predictions)),
        key=lambda i: (predictions[i].abstained, -predictions[i].confidence),
    )
    correct = np.array([run.scores[metric].items[i] for i in order])
    num_answered = sum(not prediction.abstained for prediction in predictions)
    if not num_answered:
        return RiskCurve(run.arm.name, run.generator, (), ())
    confidence = [predictions[i].confidence for i in order[:num_answered]]
    calibration = expected_calibration_error(confidence, correct[:num_answered].tolist())
    counts = np.unique(np.linspace(1, num_answered, _CURVE_POINTS).astype(int))
    num_wrong = np.cumsum(1 - correct)[counts - 1]
    return RiskCurve(
        arm=run.arm.name,
        generator=run.generator,
        coverage=tuple((counts / len(order)).tolist()),
        risk=tuple((num_wrong / counts).tolist()),
        calibration=calibration.value,
    )


def _about(
    task: Task,
    models: Mapping[str, RetrievalAugmentedVLM],
    runs: Sequence[ArmRun],
    resamples: int,
    seconds: float,
) -> dict[str, Any]:
    """Return the setup of the comparison in JSON types."""
    info = next(iter(models.values())).kb.info()
    return {
        "source": str(task.source),
        "where": task.where if isinstance(task.where, str | dict | None) else str(task.where),
        "examples": len(task.examples()),
        "groups": len({example_group(example) for example in task.examples()}),
        "examples_hash": task.fingerprint,
        "base": info.path,
        "entries": info.entries,
        "encoder": f"{info.encoder} {info.fingerprint[:12]}",
        "generators": {
            name: getattr(model.generator, "fingerprint", model.generator.name)
            for name, model in models.items()
        },
        "k": sorted({run.arm.k for run in runs if not run.arm.is_closed_book}),
        "resamples": resamples,
        "signatures": sorted({score.signature for score in runs[0].scores.values()}),
        "seconds": round(seconds, 2),
    }
