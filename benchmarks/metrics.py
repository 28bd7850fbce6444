"""Time the caption metrics: python -m benchmarks.metrics --data ../shared/data

Scores 5,000 captions against five references each: captions of flickr8k, or random words without
--data. Prints CPU seconds (one core; other processes don't count) of each metric and of all at
once.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.data import read_lines
from ravlm.metrics import bleu, caption_scores, cider, meteor, rouge_l
from ravlm.runtime import cpu_count, cpu_flags

NUM_IMAGES = 5_000
NUM_REFERENCES = 5


def load_captions(data: Path | None) -> list[list[str]]:
    """Return the captions of each photo, or captions of random words if `data` is None."""
    if data is not None:
        return [row["texts"] for row in read_lines(data / "flickr8k" / "metadata.jsonl")][
            :NUM_IMAGES
        ]
    rng = random.Random(0)
    words = [f"word{int(rng.paretovariate(0.8)) % 3000}" for _ in range(200_000)]
    return [
        [" ".join(rng.choices(words, k=rng.randint(8, 14))) for _ in range(NUM_REFERENCES)]
        for _ in range(NUM_IMAGES)
    ]


def cpu_seconds(function: Callable[[], object]) -> float:
    """Call `function` and return the CPU time it took."""
    start = time.process_time()
    function()
    return round(time.process_time() - start, 2)


def main() -> None:
    """Time the metrics and print the result as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder that contains flickr8k")
    references = load_captions(parser.parse_args().data)
    candidates = [texts[0] for texts in references[1:] + references[:1]]
    result: dict[str, object] = {
        "cores": cpu_count(),
        "AVX-512": "avx512f" in cpu_flags(),
        "captions": len(candidates),
        "references": NUM_REFERENCES,
    }
    for metric in (bleu, rouge_l, cider, meteor):
        result[metric.__name__] = cpu_seconds(partial(metric, candidates, references))
    result["all together"] = cpu_seconds(lambda: caption_scores(candidates, references))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
