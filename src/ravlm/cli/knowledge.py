"""The commands that build, change and check a knowledge base: build, add, remove, verify and more.

Each calls one library function and prints its report."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ravlm.cli import stdin
from ravlm.cli.calibration import calibrate
from ravlm.cli.command import KB, SOURCE, Command, Options, argument
from ravlm.cli.output import MAX_NOTES, Progress, note, print_json, print_rejected
from ravlm.cli.tune import TUNE
from ravlm.data.addresses import hide_password
from ravlm.errors import BrokenData, RavlmError
from ravlm.ocr.base import DEFAULT_ENGINE, OCR_MODES, OcrOptions

if TYPE_CHECKING:
    from ravlm.knowledge.reports import AddReport


def build(options: Options) -> int:
    """Run `ravlm build`: build a new base, or resume an existing one."""
    from ravlm import KnowledgeBase, read_entries

    entries = read_entries(options.source, options.images)
    with Progress("entries", lambda: _count(options)) as progress:
        kb = KnowledgeBase.build(
            options.kb,
            entries,
            encoder=_encoder(options),
            progress=progress,
            deduplicate=options.deduplicate,
            ocr=_ocr(options),
        )
    with kb:
        num_entries = kb.count()
        report = kb.report
        discarded = num_entries == 0 and kb.discard()
        if not discarded:
            calibrate(kb)
    if discarded:
        print_rejected(report)
        raise BrokenData(
            f'Nothing in "{", ".join(options.source)}" could be stored, so no base was created. '
            "Fix the source and try again."
        )
    _print_report(options, report, num_entries)
    if report.unchanged:
        note("What was stored is left as it was; to read it again: ravlm add")
    return 0


def add(options: Options) -> int:
    """Run `ravlm add`."""
    from ravlm import KnowledgeBase, read_entries

    with KnowledgeBase.open(options.kb) as kb:
        entries = read_entries(options.source, options.images)
        with Progress("entries", lambda: _count(options)) as progress:
            report = kb.add(
                entries, progress=progress, deduplicate=options.deduplicate, ocr=_ocr(options)
            )
        calibrate(kb)
        _print_report(options, report, kb.count())
    return 0


def remove(options: Options) -> int:
    """Run `ravlm remove`."""
    from ravlm import KnowledgeBase

    ids: list[str] = []
    for name in options.ids:
        ids += stdin.lines() if name == "-" else [name]
    with KnowledgeBase.open(options.kb) as kb:
        stored = {entry.id for entry in kb.get(ids)}
        num_removed = kb.remove(ids)
        num_entries = kb.count()
    missing = [id_ for id_ in dict.fromkeys(ids) if id_ not in stored]
    for id_ in missing[:MAX_NOTES]:
        note(f'There is no entry "{id_}".')
    if len(missing) > MAX_NOTES:
        note(f"{len(missing) - MAX_NOTES:,} more ids have no entry; --json lists all of them.")
    sentence = f"Removed {num_removed:,} of {len(ids):,}; {num_entries:,} entries are left."
    return _print_result(
        options, sentence, removed=num_removed, entries=num_entries, missing=missing
    )


def info(options: Options) -> int:
    """Run `ravlm info`."""
    from ravlm import KnowledgeBase

    with KnowledgeBase.open(options.kb) as kb:
        fields = kb.info().to_dict()
    if options.json:
        print_json(fields)
        return 0
    for name, value in fields.items():
        if value is not None:
            print(f"{name.replace('_', ' '):<16}{_format_value(value)}")
    return 0


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {name}" for name, count in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def verify(options: Options) -> int:
    """Run `ravlm verify`: exit code 0 if sound, else 1."""
    from ravlm import KnowledgeBase

    with KnowledgeBase.open(options.kb) as kb:
        report = kb.verify()
    if options.json:
        print_json({"sound": report.sound} | asdict(report))
    else:
        print(report)
    return 0 if report.sound else 1


def optimize(options: Options) -> int:
    """Run `ravlm optimize`."""
    from ravlm import KnowledgeBase

    with KnowledgeBase.open(options.kb) as kb:
        kb.optimize()
        num_entries = kb.info().entries
    sentence = f"The index on disk covers all {num_entries:,} entries."
    return _print_result(options, sentence, entries=num_entries)


def compact(options: Options) -> int:
    """Run `ravlm compact`."""
    from ravlm import KnowledgeBase

    with KnowledgeBase.open(options.kb) as kb:
        before = kb.info().bytes
        kb.compact()
        after = kb.info().bytes
    sentence = "The Milvus server frees its disk space in the background."
    if before is not None and after is not None:
        sentence = f"{before:,} bytes before, {after:,} now."
    return _print_result(options, sentence, bytes_before=before, bytes=after)


def reencode(options: Options) -> int:
    """Run `ravlm reencode`."""
    from ravlm import KnowledgeBase

    with KnowledgeBase.open(options.kb) as kb:
        with Progress("entries") as progress:
            kb.reencode(_encoder(options), progress=progress.show)
        calibrate(kb)
        info = kb.info()
    sentence = f'All {info.entries:,} entries now have vectors of "{info.encoder}".'
    return _print_result(
        options, sentence, entries=info.entries, encoder=info.encoder, fingerprint=info.fingerprint
    )


def export(options: Options) -> int:
    """Run `ravlm export`."""
    from ravlm import KnowledgeBase

    with KnowledgeBase.open(options.kb) as kb:
        report = kb.export_to(options.dest, options.form, options.shard)
    for location in report.missing:
        note(f"image file is missing: {location}")
    sentence = f"Wrote {report.entries:,} entries to {options.dest}."
    return _print_result(options, sentence, **asdict(report), path=options.dest)


def import_(options: Options) -> int:
    """Run `ravlm import`: into an existing base or a new one."""
    from ravlm import KnowledgeBase

    if KnowledgeBase.exists(options.kb):
        kb = KnowledgeBase.open(options.kb)
    else:
        kb = KnowledgeBase.build(options.kb, (), _encoder(options))
    with kb:
        try:
            report = kb.import_from(options.source)
        except RavlmError:
            kb.discard()
            raise
        calibrate(kb)
        num_entries = kb.count()
    _print_report(options, report, num_entries)
    return 0


def _encoder(options: Options) -> Any:
    """Return the encoder's name, or the encoder if its vectors are to be cut or pooled."""
    from ravlm import DualEncoder

    if options.dimensions is None and options.token_pooling is None:
        return options.encoder
    name = options.encoder or "starter"
    return DualEncoder.load(name, options.dimensions, options.token_pooling)


def _ocr(options: Options) -> OcrOptions:
    return OcrOptions(options.ocr, options.ocr_engine)


def _count(options: Options) -> int:
    """Return the number of entries in the source; 0 if it can be read only once. Opens no image."""
    from ravlm import read_entries

    if "-" in options.source:
        return 0
    return sum(1 for _ in read_entries(options.source, options.images))


def _print_result(options: Options, sentence: str, **values: Any) -> int:
    if options.json:
        print_json(values)
    else:
        print(sentence)
    return 0


def _print_report(options: Options, report: AddReport, num_entries: int) -> None:
    if options.json:
        print_json(asdict(report) | {"entries": num_entries, "kb": hide_password(options.kb)})
        return
    print_rejected(report)
    seconds = report.seconds.get("total", 0.0)
    print(f"{report} ({seconds:.1f} s). {hide_password(options.kb)} has {num_entries:,} entries.")


_DEDUPLICATE = argument(
    "--deduplicate",
    choices=("exact", "near"),
    help="skip entries whose image or texts are already stored (exact), or whose image looks the "
    "same as a stored one, too (near)",
)
_OCR = argument(
    "--ocr",
    choices=OCR_MODES,
    default="auto",
    help="recognize text in scans and pages without a text layer (auto), in all images, such as "
    "print on photos (always), or not at all (never)",
)
_OCR_ENGINE = argument(
    "--ocr-engine",
    default=DEFAULT_ENGINE,
    metavar="O",
    help="rapidocr (default), or a folder or Hugging Face model that reads text",
)
_ENCODERS = (
    "starter, small, medium, large, chinese, vlm, vlm-large, a folder or a Hugging Face model"
)
_DIMENSIONS = argument(
    "--dimensions",
    type=int,
    metavar="N",
    help="cut vectors to N dimensions, if the encoder was trained for that (Matryoshka)",
)
_TOKEN_POOLING = argument(
    "--token-pooling",
    type=int,
    metavar="N",
    help="keep one vector for about N tokens of an image or text, if the encoder gives several "
    "vectors (ColPali): 3 loses little",
)
_IMAGES = argument(
    "--images",
    metavar="DIR",
    help="folder that relative image paths start from (default: the folder of SOURCE; for COCO and "
    "other caption files, nearby folders are searched as well)",
)
COMMANDS = {
    "build": Command(
        "build a knowledge base from images and texts; resumable",
        build,
        (
            KB,
            SOURCE,
            argument(
                "--encoder",
                metavar="E",
                help=f"{_ENCODERS} (default: the base's own encoder, else starter)",
            ),
            _DIMENSIONS,
            _TOKEN_POOLING,
            _IMAGES,
            _DEDUPLICATE,
            _OCR,
            _OCR_ENGINE,
        ),
        """
        ravlm build kb photos/
        ravlm build kb manual.pdf letters/ --ocr always
        ravlm build kb entries.jsonl --json
        ravlm build kb captions_val2017.json --images /data/val2017
        cat entries.jsonl | ravlm build kb -
        """,
    ),
    "add": Command(
        "add entries; an entry with an existing id is replaced",
        add,
        (KB, SOURCE, _IMAGES, _DEDUPLICATE, _OCR, _OCR_ENGINE),
        """
        ravlm add kb more-photos/
        echo '{"id": "note-1", "text": "a fluffy orange cat"}' | ravlm add kb -
        """,
    ),
    "remove": Command(
        "remove entries by id",
        remove,
        (KB, argument("ids", metavar="ID", nargs="+", help="- reads one id per line from stdin")),
        """
        ravlm remove kb cat coffee
        cat ids.txt | ravlm remove kb -
        """,
    ),
    "verify": Command(
        "check that the base is complete and its vectors match its encoder; exit code 1 if not",
        verify,
        (KB,),
        "ravlm verify kb",
    ),
    "info": Command(
        "show the size, the encoder and the index of the base", info, (KB,), "ravlm info kb --json"
    ),
    "optimize": Command(
        "write the index to disk, so that a large base opens quickly",
        optimize,
        (KB,),
        "ravlm optimize kb",
    ),
    "tune": TUNE,
    "compact": Command("delete removed entries from the disk", compact, (KB,), "ravlm compact kb"),
    "reencode": Command(
        "re-encode all entries with another encoder; resumable",
        reencode,
        (
            KB,
            argument(
                "--encoder",
                metavar="E",
                required=True,
                help=_ENCODERS,
            ),
            _DIMENSIONS,
            _TOKEN_POOLING,
        ),
        "ravlm reencode kb --encoder runs/my-encoder",
    ),
    "export": Command(
        "export entries, images and vectors as plain files",
        export,
        (
            KB,
            argument("dest", metavar="DEST", help="a new folder"),
            argument(
                "--form",
                choices=("files", "webdataset"),
                default="files",
                help="JSON Lines and images (files, default), or tar files (webdataset)",
            ),
            argument(
                "--shard",
                type=int,
                default=10_000,
                metavar="N",
                help="entries per tar file (default 10,000)",
            ),
        ),
        """
        ravlm export kb backup/
        ravlm export kb shards/ --form webdataset
        """,
    ),
    "import": Command(
        "import what ravlm export wrote, into an existing base or a new one",
        import_,
        (
            KB,
            argument("source", metavar="SOURCE", help="a folder that ravlm export wrote"),
            argument(
                "--encoder",
                default="starter",
                metavar="E",
                help="encoder of a new base (default: starter)",
            ),
            _DIMENSIONS,
            _TOKEN_POOLING,
        ),
        "ravlm import kb backup/",
    ),
}
