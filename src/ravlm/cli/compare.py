"""`ravlm compare`: open the bases, compare the arms of a model on a task, print the report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ravlm.cli.command import Command, Options, UsageError, argument
from ravlm.cli.output import Progress, note, print_json
from ravlm.data.addresses import hide_password
from ravlm.errors import did_you_mean

if TYPE_CHECKING:
    from ravlm.evaluation.report import Report
    from ravlm.model import RetrievalAugmentedVLM
    from ravlm.tasks import Task


def compare(options: Options) -> int:
    """Run `ravlm compare`."""
    from ravlm import compare as run_comparison
    from ravlm import runtime

    generators = options.generator or ["default"]
    _refuse_duplicates("generator", generators)
    _refuse_duplicates("knowledge base", options.kb)
    task = _task(options)
    arms = [arm.strip() for arm in options.arms.split(",") if arm.strip()]
    cache = None if options.fresh else runtime.cache_folder() / "compare"
    with ExitStack() as stack:
        models = _open_models(options.kb, generators, stack)
        progress = stack.enter_context(Progress("predictions"))
        report = run_comparison(
            task, models, arms, options.k, options.resamples, cache, progress.show
        )
    _write(report, options)
    return 0


def _refuse_duplicates(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f'The {what} "{hide_password(name)}" is a duplicate; name each {what} once.'
            )


def _task(options: Options) -> Task:
    from ravlm.tasks import TASKS

    if options.task not in TASKS:
        raise UsageError(
            f'Unknown task "{options.task}"; allowed: {", ".join(TASKS)}.'
            f"{did_you_mean(options.task, list(TASKS))}"
        )
    return TASKS[options.task](options.data, where=options.where, limit=options.limit)


def _open_models(
    folders: Sequence[str], generators: Sequence[str], stack: ExitStack
) -> dict[str, RetrievalAugmentedVLM]:
    """Return a model for each base and generator, by name; `stack` closes the bases."""
    from ravlm import KnowledgeBase, RetrievalAugmentedVLM

    models = {}
    for folder in folders:
        kb = stack.enter_context(KnowledgeBase.open(folder))
        for generator in generators:
            name = generator if len(folders) == 1 else f"{generator} on {folder}"
            models[name] = RetrievalAugmentedVLM(kb, generator=generator)
    return models


def _write(report: Report, options: Options) -> None:
    if options.json:
        for line in report.lines():
            print_json(line)
        if report.contamination is not None:
            note(f"Contamination: {report.contamination}.")
    else:
        print(report)
    if options.report:
        Path(options.report).write_text(report.to_json() + "\n", encoding="utf-8")
        note(f"Wrote {options.report}.")
    if options.html:
        note(f"Wrote {report.to_html(options.html)}.")


COMMANDS = {
    "compare": Command(
        "measure what retrieval brings to a task: arms with intervals and paired tests",
        compare,
        (
            argument(
                "task",
                metavar="TASK",
                help="captioning, vqa, retrieval, editing, or a task you added",
            ),
            argument(
                "--data",
                required=True,
                metavar="FILE",
                help="task file: JSON Lines of examples with references",
            ),
            argument(
                "--kb",
                required=True,
                action="append",
                metavar="KB",
                help="a knowledge base; repeatable",
            ),
            argument(
                "--arms",
                default="closed-book,retrieved",
                metavar="A,B",
                help="closed-book, retrieved, random, oracle, copy, majority; with settings: "
                "retrieved@k=8, @noise=0.5, @size=0.1 (default: closed-book,retrieved)",
            ),
            argument(
                "--generator",
                action="append",
                metavar="G",
                help="a generator, as for ravlm ask; repeatable (default: the best for each verb)",
            ),
            argument(
                "-k",
                type=int,
                metavar="N",
                help="number of entries to read as evidence (default: as for ravlm ask)",
            ),
            argument("--where", metavar="W", help="use only matching rows: 'split = \"dev\"'"),
            argument(
                "--limit",
                type=int,
                metavar="N",
                help="use at most N examples, always the same",
            ),
            argument(
                "--resamples",
                type=int,
                default=10_000,
                metavar="N",
                help="number of bootstrap resamples (default: 10,000)",
            ),
            argument(
                "--fresh",
                action="store_true",
                help="ignore cached predictions (default: resume an interrupted run)",
            ),
            argument("--html", metavar="FILE", help="write an HTML report with plots and examples"),
            argument("--report", metavar="FILE", help="write the full report as JSON"),
        ),
        """
        ravlm compare vqa --data questions.jsonl --kb kb --arms closed-book,retrieved,random,copy
        ravlm compare captioning --data captions.jsonl --kb kb --limit 500 --html report.html
        ravlm compare retrieval --data captions.jsonl --kb kb --arms retrieved,random --json
        """,
    ),
}
