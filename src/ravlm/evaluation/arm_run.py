"""Running the arms: every arm predicts every example; cached predictions are reused."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravlm.data.parallel import batched
from ravlm.evaluation.arm_evidence import ArmEvidence
from ravlm.evaluation.arms import Arm
from ravlm.evaluation.prediction_cache import PredictionCache, code_fingerprint
from ravlm.generation.base import Generator
from ravlm.records import Example, Score
from ravlm.tasks.base import Prediction, Task

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM

ProgressCallback = Callable[[int, int], None]
"""Called with the numbers of finished and of all predictions."""

_BATCH = 32


@dataclass
class ArmRun:
    """One arm of one model: its predictions, scores and cost."""

    arm: Arm
    generator: str
    """The name under which the model is compared."""
    model: RetrievalAugmentedVLM
    predictions: dict[str, Prediction] = field(default_factory=dict)
    """By example id."""
    scores: Mapping[str, Score] = field(default_factory=dict)
    """By metric; the items are in the order of the examples."""
    num_computed: int = 0
    seconds_retrieval: float = 0.0
    seconds_generation: float = 0.0
    peak_memory: int = 0


def run_arms(
    task: Task,
    runs: Sequence[ArmRun],
    evidence: Mapping[str, ArmEvidence],
    cache_folder: Path | None,
    progress: ProgressCallback | None,
) -> None:
    """Fill in the predictions, scores and costs of `runs`; `evidence` is by generator."""
    examples = task.examples()
    total = len(examples) * len(runs)
    num_done = 0
    for run in runs:
        cache = _prediction_cache(task, run, cache_folder)
        cached = {} if cache is None else cache.read()
        run.predictions = {e.id: cached[e.id] for e in examples if e.id in cached}
        missing = [example for example in examples if example.id not in run.predictions]
        num_done += len(examples) - len(missing)
        for batch in batched(missing, _BATCH):
            predictions = _predict(task, run, evidence[run.generator], batch)
            if cache is not None:
                cache.add(predictions)
            num_done += len(batch)
            if progress is not None:
                progress(num_done, total)
        run.peak_memory = _peak_memory()
        run.scores = task.score(run.predictions.values())
        run.predictions = {p.id: p for p in task.align(run.predictions.values())}


def _predict(
    task: Task, run: ArmRun, evidence: ArmEvidence, batch: Sequence[Example]
) -> list[Prediction]:
    start = time.perf_counter()
    batch_evidence = evidence.for_arm(run.arm, batch)
    retrieved = time.perf_counter()
    predictions = task.predict(run.arm.model(run.model), batch, batch_evidence)
    generated = time.perf_counter()
    run.seconds_retrieval += retrieved - start
    run.seconds_generation += generated - retrieved
    run.num_computed += len(batch)
    run.predictions |= {prediction.id: prediction for prediction in predictions}
    return predictions


def _prediction_cache(task: Task, run: ArmRun, folder: Path | None) -> PredictionCache | None:
    """Return the cache of a run; None without a folder, or if the generator can't be identified."""
    if folder is None or not _is_identifiable(run.model.generator):
        return None
    return PredictionCache(folder, _cache_key(task, run))


def _is_identifiable(generator: Generator) -> bool:
    """Return whether name and fingerprint determine what the generator writes."""
    return hasattr(generator, "fingerprint") or type(generator).__module__.startswith("ravlm.")


def _cache_key(task: Task, run: ArmRun) -> dict[str, Any]:
    """Return everything that a prediction depends on."""
    generator = run.model.generator
    info = run.model.kb.info()
    return {
        "task": task.fingerprint,
        "arm": run.arm.name,
        "k": run.arm.k,
        "generator": [generator.name, getattr(generator, "fingerprint", "")],
        "base": [info.path, info.change, info.fingerprint],
        "code": code_fingerprint(),
    }


def _peak_memory() -> int:
    """Return the peak memory of this process in bytes; 0 on Windows."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux reports kilobytes
