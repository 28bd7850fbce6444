"""What building a knowledge base costs: python benchmarks/build.py --data ../shared/data [--limit
7000]

Builds a base of flickr8k's photos and captions with the starter in a fresh process each: pictures
per second beside the bare image network on the same pictures in memory, peak memory, and the share
of time in decoding, encoding, storing."""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def bare_network(photos: list[Path], size: int) -> float:
    """Pictures per second of the image network alone, decoded pictures given."""
    from ravlm.data.images import load_image
    from ravlm.encoders.starter.backbones import ImageBackbone

    backbone = ImageBackbone()
    pixels = np.stack(
        [np.asarray(load_image(photo).resize((size, size), resample=3)) for photo in photos]
    )
    backbone.pooled(pixels[:8])
    start = time.perf_counter()
    for i in range(0, len(pixels), 8):
        backbone.pooled(pixels[i : i + 8])
    return len(pixels) / (time.perf_counter() - start)


def build(data: Path, limit: int) -> dict[str, object]:
    from ravlm import KnowledgeBase, read_entries

    entries = list(itertools.islice(read_entries(data / "flickr8k" / "metadata.jsonl"), limit))
    photos = [Path(str(entry.image)) for entry in entries[:256]]
    folder = Path(tempfile.mkdtemp())
    try:
        before = bare_network(photos, 260)
        start = time.perf_counter()
        with KnowledgeBase.build(folder / "kb", entries, encoder="starter") as base:
            seconds = time.perf_counter() - start
            report, info = base.report, base.info()
        after = bare_network(photos, 260)
    finally:
        shutil.rmtree(folder)
    network = (before + after) / 2
    return {
        "entries": info.entries,
        "parts": info.parts,
        "pictures a second": len(entries) / seconds,
        "bare image network, pictures a second": network,
        "share of the bare image network": len(entries) / seconds / network,
        "seconds": {name: round(value, 2) for name, value in report.seconds.items()},
        "share encoding": report.seconds["encode"] / report.seconds["total"],
        "share storing": report.seconds["store"] / report.seconds["total"],
        "decoding in threads, seconds of them to seconds in all": report.seconds["decode"]
        / report.seconds["total"],
        "bytes on disk": info.bytes,
        "peak memory MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--limit", type=int, default=7000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(build(given.data, given.limit)))
        return
    command = [
        sys.executable,
        __file__,
        "--inside",
        "--data",
        str(given.data),
        "--limit",
        str(given.limit),
    ]
    figures = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    for name, value in figures.items():
        print(f"{name:56} {value if not isinstance(value, float) else round(value, 3)}")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
