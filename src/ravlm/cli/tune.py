"""`ravlm tune`: measure kinds of vector index, or shorter vectors, on the vectors of a base."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict

from ravlm.cli.command import KB, Command, Options, argument
from ravlm.cli.output import note, print_json
from ravlm.errors import InvalidInput

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


def tune(options: Options) -> int:
    """Run `ravlm tune`: exit code 1 if no index meets the requirements."""
    from ravlm import KnowledgeBase

    if options.dimensions is not None:
        return _measure_dimensions(options)
    memory = _read_amount(options.memory, "memory", _BYTES)
    latency = _read_amount(options.latency, "latency", _SECONDS)
    with KnowledgeBase.open(options.kb) as kb:
        report = kb.tune(
            options.recall, memory, latency, progress=lambda trial: note(f"Measured {trial.kind}.")
        )
    if options.json:
        print_json(asdict(report))
    else:
        print(report)
    return 0 if report.meets_requirements else 1


def _measure_dimensions(options: Options) -> int:
    """Print what shorter vectors would lose; the base stays as it is."""
    from ravlm import KnowledgeBase
    from ravlm.knowledge.dimensions import measure_dimensions

    with KnowledgeBase.open(options.kb) as kb:
        report = measure_dimensions(kb, options.dimensions or None)
    if options.json:
        print_json(report.to_dict())
    else:
        print(report)
        note(f"Cut: ravlm reencode {options.kb} --encoder {report.encoder} --dimensions N")
    return 0


def _read_amount(text: str | None, option: str, units: Mapping[str, float]) -> float | None:
    """Return the value of an option such as `2GB` or `5ms` in the base unit; None if not given."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", text)
    if match is None or match[2].upper() not in units:
        names = ", ".join(units)
        raise InvalidInput(
            f'--{option} is "{text}"; it must be a number with one of the units {names}.'
        )
    return float(match[1]) * units[match[2].upper()]


TUNE = Command(
    "measure index kinds on the base's vectors and keep the best; exit code 1 if none fits",
    tune,
    (
        KB,
        argument(
            "--recall",
            type=float,
            default=0.95,
            metavar="R",
            help="minimum recall of the ten nearest neighbors (default 0.95)",
        ),
        argument("--memory", metavar="SIZE", help="maximum memory of all vectors: 2GB"),
        argument("--latency", metavar="TIME", help="maximum time of one search: 5ms"),
        argument(
            "--dimensions",
            type=int,
            nargs="*",
            metavar="N",
            help="measure what vectors of N dimensions would lose instead, and change nothing "
            "(default: the lengths that a Matryoshka encoder was trained for)",
        ),
    ),
    """
    ravlm tune kb --recall 0.95 --memory 2GB --latency 5ms
    ravlm tune kb --dimensions 512 256 128
    """,
)
