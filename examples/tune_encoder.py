"""Tune the starter to your own pictures, and say whether that helped.

    python examples/tune_encoder.py PAIRS OUT

PAIRS is anything with an image and a text in each row, for example a JSON Lines file with `image`
and `text`. OUT becomes the folder of the encoder; the same command goes on where it was stopped."""

import sys

import ravlm


def main(pairs_file: str, out: str) -> None:
    """Train, print the figures before and after, and say how to use the encoder."""
    start = ravlm.DualEncoder.load("starter")
    trained = ravlm.train_encoder(start, ravlm.read_pairs(pairs_file), out, report=print)
    if trained.fingerprint == start.fingerprint:
        print("The starter was kept: more pairs, or more telling texts, may help.")
    else:
        print(f"Use it: ravlm build KB SOURCE --encoder {out}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
