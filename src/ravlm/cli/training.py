"""The commands that train: `ravlm train encoder`. Parses, calls one library function, prints."""

from __future__ import annotations

import json

from ravlm.cli.output import note, print_json
from ravlm.cli.parser import Command, Options, argument
from ravlm.errors import MissingExtra


def train(options: Options) -> int:
    """`ravlm train encoder`: contrastive training on pairs; a run that was stopped goes on with the same command."""
    from dataclasses import replace
    from pathlib import Path

    from ravlm import DualEncoder, read_pairs
    from ravlm.training.contrastive import ContrastiveConfig
    from ravlm.training.curve import draw_curve
    from ravlm.training.encoder import train_encoder
    from ravlm.training.loop import LOG

    given = {name: getattr(options, name) for name in ("epochs", "batch", "loss", "rate", "views", "seed")}
    config = replace(ContrastiveConfig(), **{name: value for name, value in given.items() if value is not None})
    pairs = read_pairs(options.pairs)
    out = Path(options.out)
    trained = train_encoder(DualEncoder.load(options.encoder), pairs, config, out, _figures)
    try:
        draw_curve(out / LOG, out / "curve.png")
    except MissingExtra as error:
        note(str(error))
    for refused in pairs.quarantine:
        note(f"refused: {refused.place}: {refused.reason}")
    last = json.loads((out / LOG).read_text(encoding="utf-8").splitlines()[-1])
    if options.json:
        told = {"encoder": trained.name, "fingerprint": trained.fingerprint, "refused": len(pairs.quarantine)}
        print_json({**told, **last})
        return 0
    print(f'The trained encoder is in "{out}", beside its log. Use it: ravlm build KB SOURCE --encoder {out}')
    return 0


def _figures(line: str) -> None:
    """A line of the log for the person who waits."""
    try:
        values = json.loads(line)
    except ValueError:
        note(line)
        return
    note(", ".join(f"{name} {value:.4g}" for name, value in values.items()))


COMMANDS: dict[str, Command] = {
    "train": Command(
        "train an encoder on pairs of pictures and texts; goes on where it was stopped",
        train,
        (
            argument("what", choices=("encoder",), metavar="encoder", help="what to train"),
            argument("--pairs", required=True, metavar="FILE", help="pairs, in any form that ravlm build reads"),
            argument("--out", required=True, metavar="DIR", help="folder of the trained encoder and its log"),
            argument("--encoder", default="starter", metavar="E", help="what to begin from (default: starter)"),
            argument("--epochs", type=int, metavar="N"),
            argument("--batch", type=int, metavar="N", help="pairs that stand against each other (default 2000)"),
            argument("--loss", choices=("softmax", "sigmoid"), help="CLIP's or SigLIP's (default: softmax)"),
            argument("--rate", type=float, metavar="R", help="highest learning rate (default 0.002)"),
            argument("--views", type=int, metavar="N", help="views of each picture (default 2)"),
            argument("--seed", type=int, metavar="N"),
        ),
        """
        ravlm train encoder --pairs captions.jsonl --out runs/mine
        ravlm train encoder --pairs photos/ --out runs/mine --batch 200 --epochs 20
        """,
    ),
}
