"""How long the caption metrics take: python benchmarks/metrics.py --data ../shared/data

Scores 5,000 captions against five references each, from the captions of flickr8k or, without them,
from drawn words. Prints the processor's seconds (one core; other work beside it doesn't count) of
each metric alone and of all together."""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

from ravlm.metrics import bleu, caption_scores, cider, meteor, rouge_l
from ravlm.runtime import cpu_count, cpu_flags

NUMBER, REFERENCES = 5_000, 5


def captions(data: Path | None) -> list[list[str]]:
    """The captions of each photo; drawn from a few words where there are no photos."""
    if data is not None:
        lines = (data / "flickr8k" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["texts"] for line in lines][:NUMBER]
    rng = random.Random(0)
    words = [f"word{int(rng.paretovariate(0.8)) % 3000}" for _ in range(200_000)]
    return [
        [" ".join(rng.choices(words, k=rng.randint(8, 14))) for _ in range(REFERENCES)]
        for _ in range(NUMBER)
    ]


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return round(time.process_time() - began, 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder that holds flickr8k")
    references = captions(parser.parse_args().data)
    candidates = [texts[0] for texts in references[1:] + references[:1]]
    result = {
        "cores": cpu_count(),
        "AVX-512": "avx512f" in cpu_flags(),
        "captions": len(candidates),
        "references": REFERENCES,
        **{
            f.__name__: seconds(lambda f=f: f(candidates, references))
            for f in (bleu, rouge_l, cider, meteor)
        },
        "all together": seconds(lambda: caption_scores(candidates, references)),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
