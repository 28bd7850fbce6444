"""How many sentences of stories are supported, by hand, and how often the support checker is right.

    python -m benchmarks.story_sentences

`story_sentences.jsonl` has 100 sentences of stories about made-up entries, as `tell` wrote them,
and 40 that were altered by hand to say something else. `supported` is a judgment by hand; stories
about entries with `tuned_on` were read while the code was written.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.data import read_lines
from ravlm.generation.support import is_supported

SENTENCES = Path(__file__).with_suffix(".jsonl")


def main() -> None:
    """Print the shares."""
    rows = read_lines(SENTENCES)
    for source in ("story", "altered"):
        for tuned_on in (True, False):
            group = [r for r in rows if (r["source"], r["tuned_on"]) == (source, tuned_on)]
            if not group:
                continue
            by_hand = sum(row["supported"] for row in group)
            right = [is_supported(r["sentence"], [r["text"]]) == r["supported"] for r in group]
            print(
                f"{source}{', tuned on' if tuned_on else ''}: supported by hand {by_hand}/"
                f"{len(group)}, judged right {sum(right)}/{len(group)}"
            )
            for row, is_right in zip(group, right, strict=True):
                if not is_right:
                    print(f"    wrong: {row['sentence']}")


if __name__ == "__main__":
    main()
