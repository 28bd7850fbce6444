"""The commands that make, change and check a knowledge base: build, add, remove, verify and more.

Each calls one library function and prints its report. Knows no store and no format.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ravlm.cli.output import Progress, note, print_json
from ravlm.cli.parser import KB, SOURCE, Command, Options, argument
from ravlm.errors import BrokenData, InvalidInput, RavlmError

if TYPE_CHECKING:
    from ravlm.knowledge.reports import AddReport

_SHOWN = 10
"""Refused items that are named on the terminal; with --json all are."""


def build(options: Options) -> int:
    """`ravlm build`: a new base, or what an existing one still lacks."""
    from ravlm import KnowledgeBase, read_entries

    with Progress("entries", lambda: _count(options.source)) as progress:
        kb = KnowledgeBase.build(
            options.kb,
            read_entries(options.source),
            encoder=options.encoder,
            progress=progress,
            deduplicate=options.deduplicate,
        )
    with kb:
        count, report = kb.count(), kb.report
        taken_back = count == 0 and kb.discard()
    if taken_back:
        _print_refusals(report)
        raise BrokenData(
            f'Nothing in "{options.source}" could be stored, so no base was made; mend it and try again.'
        )
    _print_report(options, report, count)
    return 0


def add(options: Options) -> int:
    """`ravlm add`: entries of any source; an id that is there is replaced."""
    from ravlm import KnowledgeBase, read_entries

    with KnowledgeBase.open(options.kb) as kb:
        with Progress("entries", lambda: _count(options.source)) as progress:
            report = kb.add(
                read_entries(options.source), progress=progress, deduplicate=options.deduplicate
            )
        _print_report(options, report, kb.count())
    return 0


def remove(options: Options) -> int:
    """`ravlm remove`."""
    from ravlm import KnowledgeBase

    ids = [line for each in options.ids for line in (_stdin_lines() if each == "-" else [each])]
    with KnowledgeBase.open(options.kb) as kb:
        removed, count = kb.remove(ids), kb.count()
    sentence = f"Removed {removed:,} of {len(ids):,}; {count:,} entries are left."
    return _done(options, sentence, removed=removed, entries=count)


def info(options: Options) -> int:
    """`ravlm info`."""
    from ravlm import KnowledgeBase

    with KnowledgeBase.open(options.kb) as kb:
        found = asdict(kb.info())
    if options.json:
        print_json(found)
        return 0
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{count:,} {what}" for what, count in value.items())
        elif isinstance(value, int):
            value = f"{value:,}"
        elif value is None:
            continue
        print(f"{name.replace('_', ' '):<16}{value}")
    return 0


def verify(options: Options) -> int:
    """`ravlm verify`: exit code 0 when sound, 1 when not."""
    from ravlm import KnowledgeBase

    with KnowledgeBase.open(options.kb) as kb:
        report = kb.verify()
    if options.json:
        print_json({"sound": report.sound} | asdict(report))
    else:
        print(report)
    return 0 if report.sound else 1


def optimize(options: Options) -> int:
    """`ravlm optimize`."""
    from ravlm import KnowledgeBase

    with KnowledgeBase.open(options.kb) as kb:
        kb.optimize()
        found = kb.info()
    return _done(
        options, f"The index on disk covers all {found.entries:,} entries.", entries=found.entries
    )


def tune(options: Options) -> int:
    """`ravlm tune`: measures the kinds of index and keeps the best; exit code 1 where none does
    what was wished."""
    from ravlm import KnowledgeBase

    memory = None if options.memory is None else _amount(options.memory, "memory", _BYTES)
    latency = None if options.latency is None else _amount(options.latency, "latency", _SECONDS)
    with KnowledgeBase.open(options.kb) as kb:
        report = kb.tune(
            options.recall, memory, latency, progress=lambda trial: note(f"measured: {trial.kind}")
        )
    if options.json:
        print_json(asdict(report))
    else:
        print(report)
    return 0 if report.met else 1


_BYTES = {
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "KIB": 2.0**10,
    "MIB": 2.0**20,
    "GIB": 2.0**30,
}
_SECONDS = {"S": 1.0, "MS": 1e-3, "US": 1e-6}


def _amount(text: str, option: str, units: Mapping[str, float]) -> float:
    """`2GB` or `5ms` as a number."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", text)
    if match is None or match[2].upper() not in units:
        names = ", ".join(units)
        raise InvalidInput(
            f'--{option} is "{text}"; a number with one of the units {names} is needed.'
        )
    return float(match[1]) * units[match[2].upper()]


def compact(options: Options) -> int:
    """`ravlm compact`."""
    from ravlm import KnowledgeBase

    with KnowledgeBase.open(options.kb) as kb:
        before = kb.info().bytes
        kb.compact()
        after = kb.info().bytes
    sentence = "The server clears its disk in its own time."
    if before is not None and after is not None:
        sentence = f"{before:,} bytes before, {after:,} now."
    return _done(options, sentence, bytes_before=before, bytes=after)


def reencode(options: Options) -> int:
    """`ravlm reencode`."""
    from ravlm import KnowledgeBase

    with Progress("entries") as progress, KnowledgeBase.open(options.kb) as kb:
        kb.reencode(options.encoder, progress=lambda done, total: progress.show(done, total))
        found = kb.info()
    sentence = f'All {found.entries:,} entries now have vectors of "{found.encoder}".'
    return _done(
        options,
        sentence,
        entries=found.entries,
        encoder=found.encoder,
        fingerprint=found.fingerprint,
    )


def export(options: Options) -> int:
    """`ravlm export`."""
    from ravlm import KnowledgeBase

    with KnowledgeBase.open(options.kb) as kb:
        report = kb.export_to(options.dest, options.form, options.shard)
    for place in report.missing:
        note(f"picture is gone: {place}")
    return _done(
        options,
        f"Wrote {report.entries:,} entries to {options.dest}.",
        **asdict(report),
        path=options.dest,
    )


def import_(options: Options) -> int:
    """`ravlm import`: into a base that is there, or a new one."""
    from ravlm import KnowledgeBase

    fresh = not KnowledgeBase.is_there(options.kb)
    with (
        KnowledgeBase.build(options.kb, (), options.encoder)
        if fresh
        else KnowledgeBase.open(options.kb) as kb
    ):
        try:
            report = kb.import_from(options.source)
        except RavlmError:
            kb.discard()
            raise
        count = kb.count()
    _print_report(options, report, count)
    return 0


def _count(source: str) -> int:
    """How many entries a source gives; 0 where it can be read only once. Opens no picture."""
    from ravlm import read_entries

    return 0 if source == "-" else sum(1 for _ in read_entries(source))


def _stdin_lines() -> list[str]:
    return [line.strip() for line in sys.stdin if line.strip()]


def _done(options: Options, sentence: str, **values: Any) -> int:
    if options.json:
        print_json(values)
    else:
        print(sentence)
    return 0


def _print_report(options: Options, report: AddReport, count: int) -> None:
    if options.json:
        print_json(asdict(report) | {"entries": count, "kb": str(options.kb)})
        return
    _print_refusals(report)
    total = report.seconds.get("total", 0.0)
    print(f"{report} ({total:.1f} s). {options.kb} holds {count:,} entries.")


def _print_refusals(report: AddReport) -> None:
    for id_, other in report.duplicates[:_SHOWN]:
        note(f'left out: "{id_}" has the same content as "{other}"')
    if len(report.duplicates) > _SHOWN:
        note(f"left out: {len(report.duplicates) - _SHOWN:,} more; --json lists all of them")
    for item in report.quarantined[:_SHOWN]:
        note(f"refused: {item.place}: {item.reason}")
    if len(report.quarantined) > _SHOWN:
        note(f"refused: {len(report.quarantined) - _SHOWN:,} more; --json lists all of them")


_DEDUPLICATE = argument(
    "--deduplicate",
    choices=("exact", "near"),
    help="leave out what is there already: the same picture or texts; near: pictures that look the same, too",
)
COMMANDS = {
    "build": Command(
        "make a knowledge base of pictures and texts, or go on with one",
        build,
        (
            KB,
            SOURCE,
            argument(
                "--encoder",
                metavar="E",
                help="starter or a folder (default: the base's own, else starter)",
            ),
            _DEDUPLICATE,
        ),
        """
        ravlm build kb photos/
        ravlm build kb entries.jsonl --json
        cat entries.jsonl | ravlm build kb -
        """,
    ),
    "add": Command(
        "add entries; one whose id is there is replaced",
        add,
        (KB, SOURCE, _DEDUPLICATE),
        """
        ravlm add kb more-photos/
        echo '{"id": "note-1", "text": "a fluffy orange cat"}' | ravlm add kb -
        """,
    ),
    "remove": Command(
        "remove entries by their ids",
        remove,
        (KB, argument("ids", metavar="ID", nargs="+", help="- reads one id a line from stdin")),
        """
        ravlm remove kb cat coffee
        cat ids.txt | ravlm remove kb -
        """,
    ),
    "verify": Command(
        "prove that the base is whole and its vectors are its encoder's; exit code 1 if not",
        verify,
        (KB,),
        "ravlm verify kb",
    ),
    "info": Command(
        "show what the base holds and which encoder made it", info, (KB,), "ravlm info kb --json"
    ),
    "optimize": Command(
        "write the index to disk, so that a large base opens quickly",
        optimize,
        (KB,),
        "ravlm optimize kb",
    ),
    "tune": Command(
        "measure the kinds of index on the base's own vectors and keep the best; exit code 1 if none is good enough",
        tune,
        (
            KB,
            argument(
                "--recall",
                type=float,
                default=0.95,
                metavar="R",
                help="share of the ten best (default 0.95)",
            ),
            argument("--memory", metavar="SIZE", help="at most, for all vectors: 2GB"),
            argument("--latency", metavar="TIME", help="at most, for a search: 5ms"),
        ),
        "ravlm tune kb --recall 0.95 --memory 2GB --latency 5ms",
    ),
    "compact": Command("clear from the disk what was removed", compact, (KB,), "ravlm compact kb"),
    "reencode": Command(
        "give all entries the vectors of another encoder; goes on where it stopped",
        reencode,
        (
            KB,
            argument(
                "--encoder",
                metavar="E",
                required=True,
                help="starter, a checkpoint folder or a hub name",
            ),
        ),
        "ravlm reencode kb --encoder runs/my-encoder",
    ),
    "export": Command(
        "write entries, pictures and vectors as plain files",
        export,
        (
            KB,
            argument("dest", metavar="DEST", help="a new folder"),
            argument(
                "--form",
                choices=("files", "webdataset"),
                default="files",
                help="JSON lines and pictures (default), or tar files",
            ),
            argument(
                "--shard",
                type=int,
                default=10_000,
                metavar="N",
                help="entries in a tar file (default 10,000)",
            ),
        ),
        """
        ravlm export kb backup/
        ravlm export kb shards/ --form webdataset
        """,
    ),
    "import": Command(
        "take in what export wrote, into a base that is there or a new one",
        import_,
        (
            KB,
            argument("source", metavar="SOURCE", help="a folder that ravlm export wrote"),
            argument(
                "--encoder", default="starter", metavar="E", help="of a new base (default: starter)"
            ),
        ),
        "ravlm import kb backup/",
    ),
}
