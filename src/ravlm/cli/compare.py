"""`ravlm compare`: what retrieval brings to a task, with statistics. Opens the base, calls one
function, prints."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from ravlm.cli.output import Progress, note, print_json
from ravlm.cli.parser import Command, Options, UsageError, argument

_TASKS = ("captioning", "vqa", "retrieval", "editing")


def compare(options: Options) -> int:
    """`ravlm compare`."""
    from ravlm import KnowledgeBase, RetrievalAugmentedVLM, runtime
    from ravlm import compare as run
    from ravlm.tasks import TASKS

    names = options.generator or ["extractive"]
    for what, given in (("generator", names), ("base", options.kb)):
        if len(set(given)) < len(given):
            raise UsageError(f"A {what} was named twice; name each once.")
    task = TASKS[options.task](options.data, where=options.where, limit=options.limit)
    arms = [arm.strip() for arm in options.arms.split(",") if arm.strip()]
    with ExitStack() as open_now:
        models = {}
        for folder in options.kb:
            kb = open_now.enter_context(KnowledgeBase.open(folder))
            for name in names:
                shown = name if len(options.kb) == 1 else f"{name} on {folder}"
                models[shown] = RetrievalAugmentedVLM(kb, generator=name)
        progress = open_now.enter_context(Progress("predictions"))
        cache = None if options.fresh else runtime.cache_folder() / "compare"
        report = run(task, models, arms, options.k, options.resamples, cache, progress.show)
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
    return 0


COMMANDS = {
    "compare": Command(
        "what retrieval brings to a task: arms side by side, with intervals and tests",
        compare,
        (
            argument("task", metavar="TASK", choices=_TASKS, help=f"one of {', '.join(_TASKS)}"),
            argument(
                "--data",
                required=True,
                metavar="FILE",
                help="examples with what is right: JSON lines",
            ),
            argument(
                "--kb",
                required=True,
                action="append",
                metavar="KB",
                help="a knowledge base; may be repeated",
            ),
            argument(
                "--arms",
                default="closed-book,retrieved",
                metavar="A,B",
                help="closed-book, retrieved, random, oracle, copy, majority; also retrieved@k=8, @noise=.5, @size=.1",
            ),
            argument(
                "--generator",
                action="append",
                metavar="G",
                help="who writes, as for ravlm ask; may be repeated",
            ),
            argument(
                "-k",
                type=int,
                metavar="N",
                help="entries to read as evidence (default: as ravlm ask)",
            ),
            argument("--where", metavar="W", help="only rows of FILE with: 'split = \"dev\"'"),
            argument(
                "--limit", type=int, metavar="N", help="at most so many examples, always the same"
            ),
            argument(
                "--resamples",
                type=int,
                default=10_000,
                metavar="N",
                help="of the bootstrap (default 10,000)",
            ),
            argument(
                "--fresh",
                action="store_true",
                help="compute all anew; else a run that was cut off goes on",
            ),
            argument(
                "--html",
                metavar="FILE",
                help="write the report as one page with plots and examples",
            ),
            argument("--report", metavar="FILE", help="write the whole report as JSON"),
        ),
        """
        ravlm compare vqa --data questions.jsonl --kb kb --arms closed-book,retrieved,random,copy
        ravlm compare captioning --data captions.jsonl --kb kb --where 'split = "dev"' --html report.html
        ravlm compare retrieval --data captions.jsonl --kb kb --arms retrieved,random --json
        """,
    ),
}
