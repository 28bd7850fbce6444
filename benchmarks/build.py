"""Measure what building a knowledge base costs:
python -m benchmarks.build --data ../shared/data [--limit 7000]

Builds a base of flickr8k's photos and captions with the starter in a new process: images per second
compared with the bare image network on the same images in memory, peak memory, and the shares of
decoding, encoding and storing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.data import DATA
from benchmarks.reports import write_json

IMAGE_SIZE = 260
NUM_NETWORK_IMAGES = 256
BATCH = 8


def network_rate(photos: list[Path]) -> float:
    """Return the images per second of the image network alone, on decoded images."""
    from ravlm.encoders.starter.backbones import ImageBackbone
    from ravlm.encoders.starter.preprocessing import load_pixels

    backbone = ImageBackbone()
    pixels = np.stack([load_pixels(photo, IMAGE_SIZE) for photo in photos])
    backbone.pooled(pixels[:BATCH])  # warm-up
    start = time.perf_counter()
    for i in range(0, len(pixels), BATCH):
        backbone.pooled(pixels[i : i + BATCH])
    return len(pixels) / (time.perf_counter() - start)


def build(data: Path, limit: int) -> dict[str, object]:
    """Build a base in this process and return the figures."""
    from ravlm import KnowledgeBase, read_entries

    entries = list(itertools.islice(read_entries(data / "flickr8k" / "metadata.jsonl"), limit))
    photos = [Path(str(entry.image)) for entry in entries[:NUM_NETWORK_IMAGES]]
    with tempfile.TemporaryDirectory() as folder:
        rate_before = network_rate(photos)
        start = time.perf_counter()
        with KnowledgeBase.build(Path(folder) / "kb", entries, encoder="starter") as kb:
            elapsed = time.perf_counter() - start
            report, info = kb.report, kb.info()
        rate_after = network_rate(photos)
    network = (rate_before + rate_after) / 2
    seconds = report.seconds
    return {
        "entries": info.entries,
        "parts": info.parts,
        "pictures a second": len(entries) / elapsed,
        "bare image network, pictures a second": network,
        "share of the bare image network": len(entries) / elapsed / network,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "share encoding": seconds["encode"] / seconds["total"],
        "share storing": seconds["store"] / seconds["total"],
        "decoding in threads, seconds of them to seconds in all": seconds["decode"]
        / seconds["total"],
        "bytes on disk": info.bytes,
        "peak memory MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Parse the options and build in a new process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--limit", type=int, default=7000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        print(json.dumps(build(options.data, options.limit)))
        return
    arguments = ["--data", str(options.data), "--limit", str(options.limit)]
    command = [sys.executable, "-m", "benchmarks.build", "--in-process", *arguments]
    process = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(process.stdout.splitlines()[-1])
    for name, value in figures.items():
        print(f"{name:56} {value if not isinstance(value, float) else round(value, 3)}")
    write_json(figures, options.json)


if __name__ == "__main__":
    main()
