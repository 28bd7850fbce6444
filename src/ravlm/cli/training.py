"""The commands that train: `ravlm train encoder | language`. Parses, calls one library function, prints."""

from __future__ import annotations

import json

from ravlm.cli.output import note, print_json
from ravlm.cli.parser import Command, Options, UsageError, argument
from ravlm.errors import MissingExtra


def train(options: Options) -> int:
    """`ravlm train KIND`."""
    return KINDS[options.kind].run(options)


def train_encoder(options: Options) -> int:
    """`ravlm train encoder`: contrastive training on pairs; a run that was stopped goes on with the same command."""
    from dataclasses import replace
    from pathlib import Path

    from ravlm import DualEncoder, read_pairs, runtime
    from ravlm.encoders.towers import TowerEncoder
    from ravlm.training import encoder as training
    from ravlm.training.contrastive import ContrastiveConfig
    from ravlm.training.curve import draw_curve
    from ravlm.training.loop import LOG, last_figures

    given = {name: getattr(options, name) for name in ("epochs", "batch", "loss", "rate", "views", "seed")}
    config = replace(ContrastiveConfig(), **{name: value for name, value in given.items() if value is not None})
    pairs = read_pairs(options.pairs, images=options.images)
    out = Path(options.out)
    if (options.image_backbone is None) != (options.text_backbone is None):
        raise UsageError("--image-backbone and --text-backbone go together; give both, or --encoder.")
    if options.image_backbone:
        encoder = DualEncoder.from_backbones(options.image_backbone, options.text_backbone, options.dim, config.seed)
    else:
        encoder = DualEncoder.load(options.encoder)
    if options.freeze is not None:
        if not isinstance(encoder, TowerEncoder):
            raise UsageError(f'The encoder "{encoder.name}" has no towers to freeze; leave --freeze out.')
        encoder.model.freeze(image=options.freeze in ("image", "both"), text=options.freeze in ("text", "both"))
    with runtime.processes():
        trained = training.train_encoder(encoder, pairs, config, out, _figures)
        if runtime.rank()[0] > 0:
            return 0
    try:
        draw_curve(out / LOG, out / "curve.png")
    except MissingExtra as error:
        note(str(error))
    for refused in pairs.quarantine:
        note(f"refused: {refused.place}: {refused.reason}")
    last = last_figures(out)
    if options.json:
        told = {"encoder": trained.name, "fingerprint": trained.fingerprint, "refused": len(pairs.quarantine)}
        print_json({**told, **last})
        return 0
    print(f'The trained encoder is in "{out}", beside its log. Use it: ravlm build KB SOURCE --encoder {out}')
    return 0


def train_language(options: Options) -> int:
    """`ravlm train language`: next-token pre-training; a run that was stopped goes on with the same command."""
    from dataclasses import replace
    from pathlib import Path

    from ravlm import runtime
    from ravlm.training import language
    from ravlm.training.loop import last_figures

    given = {name: getattr(options, name) for name in ("epochs", "batch", "rate", "seed", "width", "layers")}
    config = replace(language.LanguageConfig(), **{name: value for name, value in given.items() if value is not None})
    out = Path(options.out)
    with runtime.processes():
        language.train_language(language.read_texts(options.texts), out, config, report=_figures)
        if runtime.rank()[0] > 0:
            return 0
    if options.json:
        print_json(last_figures(out))
        return 0
    print(f'The language model and its tokenizer are in "{out}", beside their log.')
    return 0


def _figures(line: str) -> None:
    """A line of the log for the person who waits."""
    try:
        values = json.loads(line)
    except ValueError:
        note(line)
        return
    note(", ".join(f"{name} {value:.4g}" for name, value in values.items()))


_EPOCHS, _SEED = argument("--epochs", type=int, metavar="N"), argument("--seed", type=int, metavar="N")
KINDS: dict[str, Command] = {
    "encoder": Command(
        "train an encoder on pairs of pictures and texts; goes on where it was stopped",
        train_encoder,
        (
            argument("--pairs", required=True, metavar="FILE", help="pairs, in any form that ravlm build reads"),
            argument("--out", required=True, metavar="DIR", help="folder of the trained encoder and its log"),
            argument("--encoder", default="starter", metavar="E", help="what to begin from (default: starter)"),
            argument("--image-backbone", metavar="M", help="instead: an image model of Transformers, with new heads"),
            argument("--text-backbone", metavar="M", help="and a text model"),
            argument("--dim", type=int, default=512, metavar="N", help="length of their vectors (default 512)"),
            argument("--freeze", choices=("none", "image", "text", "both"), help="which towers stay as they are"),
            argument("--images", metavar="FOLDER", help="where the pictures lie that the pairs name"),
            _EPOCHS,
            argument("--batch", type=int, metavar="N", help="pairs that stand against each other (default 2000)"),
            argument("--loss", choices=("softmax", "sigmoid"), help="CLIP's or SigLIP's (default: softmax)"),
            argument("--rate", type=float, metavar="R", help="highest learning rate (default 0.002)"),
            argument("--views", type=int, metavar="N", help="views of each picture (default 2)"),
            _SEED,
        ),
        """
        ravlm train encoder --pairs captions.jsonl --out runs/mine
        ravlm train encoder --pairs photos/ --out runs/mine --batch 200 --epochs 20
        ravlm train encoder --pairs captions.jsonl --out runs/vit --image-backbone my-vit/ --text-backbone my-bert/
        """,
    ),
    "language": Command(
        "train a small language model on texts, its tokenizer with it; goes on where it was stopped",
        train_language,
        (
            argument("--texts", required=True, metavar="FILE", help="a .txt file of lines, or entries with texts"),
            argument("--out", required=True, metavar="DIR", help="folder of the model, its tokenizer and its log"),
            argument("--width", type=int, metavar="N", help="of its states (default 256)"),
            argument("--layers", type=int, metavar="N", help="(default 3)"),
            _EPOCHS,
            argument("--batch", type=int, metavar="N", help="texts a step (default 256)"),
            argument("--rate", type=float, metavar="R", help="highest learning rate (default 0.001)"),
            _SEED,
        ),
        """
        ravlm train language --texts captions.jsonl --out runs/language
        ravlm train language --texts lines.txt --out runs/language --epochs 10 --batch 64
        """,
    ),
}
COMMANDS: dict[str, Command] = {
    "train": Command(
        "train an encoder on pairs, or a language model on texts",
        train,
        (),
        """
        ravlm train encoder --pairs captions.jsonl --out runs/mine
        ravlm train language --texts captions.jsonl --out runs/language
        """,
        KINDS,
    ),
}
