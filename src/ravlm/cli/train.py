"""The commands that train: `ravlm train encoder`, `language`, `generator`, `retriever`. Parses,
calls, prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ravlm.cli.command import Command, Options, UsageError, argument
from ravlm.cli.output import note, print_json
from ravlm.errors import MissingExtra
from ravlm.fusion import FUSIONS

if TYPE_CHECKING:
    from pathlib import Path


def train(options: Options) -> int:
    """`ravlm train KIND`, in each of the processes that torchrun started; the first one speaks."""
    from ravlm import runtime

    with runtime.process_group():
        return KINDS[options.kind].run(options)


def train_encoder(options: Options) -> int:
    """`ravlm train encoder`: contrastive training on pairs; a run that was stopped goes on with the
    same command."""
    from dataclasses import replace
    from pathlib import Path

    from ravlm import DualEncoder, read_pairs, runtime
    from ravlm.encoders.torch_encoder import TorchEncoder
    from ravlm.training import encoder as training
    from ravlm.training.contrastive import ContrastiveConfig
    from ravlm.training.trainer import last_figures

    given = {
        name: getattr(options, name)
        for name in ("epochs", "batch", "loss", "rate", "views", "seed")
    }
    config = replace(
        ContrastiveConfig(), **{name: value for name, value in given.items() if value is not None}
    )
    pairs = read_pairs(options.pairs, images=options.images)
    out = Path(options.out)
    if (options.image_backbone is None) != (options.text_backbone is None):
        raise UsageError(
            "--image-backbone and --text-backbone go together; give both, or --encoder."
        )
    if options.image_backbone:
        encoder = DualEncoder.from_backbones(
            options.image_backbone, options.text_backbone, options.dim, config.seed
        )
    else:
        encoder = DualEncoder.load(options.encoder)
    if options.freeze is not None:
        if not isinstance(encoder, TorchEncoder):
            raise UsageError(
                f'The encoder "{encoder.name}" has no towers to freeze; leave --freeze out.'
            )
        encoder.model.freeze(
            image=options.freeze in ("image", "both"), text=options.freeze in ("text", "both")
        )
    trained = training.train_encoder(encoder, pairs, config, out, _figures)
    if runtime.process_index() > 0:
        return 0
    _draw_curves(out)
    for refused in pairs.quarantine:
        note(f"refused: {refused.location}: {refused.reason}")
    last = last_figures(out)
    if options.json:
        told = {
            "encoder": trained.name,
            "fingerprint": trained.fingerprint,
            "refused": len(pairs.quarantine),
        }
        print_json({**told, **last})
        return 0
    print(
        f'The trained encoder is in "{out}", beside its log. Use it: ravlm build KB SOURCE --encoder {out}'
    )
    return 0


def train_language(options: Options) -> int:
    """`ravlm train language`: next-token pre-training; a run that was stopped goes on with the same
    command."""
    from dataclasses import replace
    from pathlib import Path

    from ravlm import runtime
    from ravlm.training import language_model
    from ravlm.training.trainer import last_figures

    names = ("epochs", "batch", "accumulate", "rate", "seed", "width", "layers", "least")
    given = {name: getattr(options, name) for name in names}
    config = replace(
        language_model.LanguageConfig(),
        **{name: value for name, value in given.items() if value is not None},
    )
    out = Path(options.out)
    language_model.train_language(
        language_model.read_texts(options.texts), out, config, report=_figures
    )
    if runtime.process_index() > 0:
        return 0
    _draw_curves(out)
    if options.json:
        print_json(last_figures(out))
        return 0
    print(f'The language model and its tokenizer are in "{out}", beside their log.')
    return 0


def train_generator(options: Options) -> int:
    """`ravlm train generator`: a model that reads evidence; a run that was stopped goes on with the
    same command."""
    from dataclasses import replace
    from pathlib import Path

    from recipes.starter_generator import Recipe, new_generator

    from ravlm import KnowledgeBase, read_pairs, runtime
    from ravlm.generation.captioner.from_backbones import captioner_from_backbones
    from ravlm.generation.captioner.generator import CaptionerGenerator
    from ravlm.training.encoder import split
    from ravlm.training.generator import train_generator
    from ravlm.training.trainer import last_figures

    if (options.vision and not options.language) or (options.generator and options.language):
        raise UsageError(
            "Give --language (alone, or with --vision), or --generator, or none of them."
        )
    pairs = read_pairs(options.pairs, images=options.images)
    train, held_out = split(pairs, options.held_out)
    names = ("epochs", "batch", "accumulate", "rate", "k", "reads", "folds", "seed")
    given = {name: getattr(options, name) for name in names}
    first = replace(
        Recipe().first, **{name: value for name, value in given.items() if value is not None}
    )
    critical = (
        replace(first, epochs=options.critical_epochs, rate=first.rate / 20)
        if options.critical_epochs
        else None
    )
    if options.generator:
        generator = CaptionerGenerator.load(options.generator)
    elif options.vision:
        generator = captioner_from_backbones(
            options.language, options.vision, options.text, options.fusion, seed=first.seed
        )
    else:
        recipe = replace(
            Recipe(), first=first, language=replace(Recipe().language, least=options.least)
        )
        generator = new_generator(
            (text for pair in train for text in pair.texts), recipe, options.language
        )
    out = Path(options.out)
    kb = KnowledgeBase.open(options.kb) if options.kb else None
    try:
        train_generator(generator, train, kb, out, first, critical, held_out, _figures)
    finally:
        if kb is not None:
            kb.close()
    if runtime.process_index() > 0:
        return 0
    _draw_curves(out / generator.FIRST, out / generator.SECOND)
    for refused in pairs.quarantine:
        note(f"refused: {refused.location}: {refused.reason}")
    if options.json:
        stage = generator.SECOND if critical is not None else generator.FIRST
        print_json(
            {"generator": str(out), "refused": len(pairs.quarantine), **last_figures(out / stage)}
        )
        return 0
    print(
        f'The trained generator is in "{out}", beside its logs. Use it: ravlm caption KB PICTURE --generator {out}'
    )
    return 0


def train_retriever(options: Options) -> int:
    """`ravlm train retriever`: where a generator looks; a run that was stopped goes on with the
    same command."""
    from dataclasses import replace
    from pathlib import Path

    from ravlm import KnowledgeBase, read_pairs, runtime
    from ravlm.generation.captioner.generator import CaptionerGenerator
    from ravlm.training import retriever
    from ravlm.training.trainer import last_figures

    given = {name: getattr(options, name) for name in ("epochs", "batch", "rate", "seed")}
    config = replace(
        retriever.RetrieverConfig(), **{name: v for name, v in given.items() if v is not None}
    )
    generator, out = CaptionerGenerator.load(options.generator), Path(options.out)
    pairs = read_pairs(options.pairs, images=options.images)
    with KnowledgeBase.open(options.kb) as kb:
        retriever.train_retriever(generator, list(pairs), kb, out, config, _figures)
    if runtime.process_index() > 0:
        return 0
    _draw_curves(out / "query")
    for refused in pairs.quarantine:
        note(f"refused: {refused.location}: {refused.reason}")
    if options.json:
        print_json(
            {"generator": str(out), "refused": len(pairs.quarantine), **last_figures(out / "query")}
        )
        return 0
    print(
        f'The generator, with a query of its own, is in "{out}". Use it: ravlm caption KB PICTURE --generator {out}'
    )
    return 0


def _draw_curves(*folders: Path) -> None:
    """A picture of each log beside it."""
    from ravlm.training.plot import draw_curve
    from ravlm.training.trainer import LOG

    for folder in folders:
        try:
            if (folder / LOG).exists():
                draw_curve(folder / LOG, folder / "curve.png")
        except MissingExtra as error:
            note(str(error))
            return


def _figures(line: str) -> None:
    """A line of the log for the person who waits."""
    try:
        values = json.loads(line)
    except ValueError:
        note(line)
        return
    note(", ".join(f"{name} {value:.4g}" for name, value in values.items()))


_EPOCHS, _SEED = (
    argument("--epochs", type=int, metavar="N"),
    argument("--seed", type=int, metavar="N"),
)
_ACCUMULATE = argument(
    "--accumulate", type=int, metavar="N", help="parts of a batch, one by one, for less memory (1)"
)
KINDS: dict[str, Command] = {
    "encoder": Command(
        "train an encoder on pairs of pictures and texts; goes on where it was stopped",
        train_encoder,
        (
            argument(
                "--pairs",
                required=True,
                metavar="FILE",
                help="pairs, in any form that ravlm build reads",
            ),
            argument(
                "--out",
                required=True,
                metavar="DIR",
                help="folder of the trained encoder and its log",
            ),
            argument(
                "--encoder",
                default="starter",
                metavar="E",
                help="what to begin from (default: starter)",
            ),
            argument(
                "--image-backbone",
                metavar="M",
                help="instead: an image model of Transformers, with new heads",
            ),
            argument("--text-backbone", metavar="M", help="and a text model"),
            argument(
                "--dim",
                type=int,
                default=512,
                metavar="N",
                help="length of their vectors (default 512)",
            ),
            argument(
                "--freeze",
                choices=("none", "image", "text", "both"),
                help="which towers stay as they are",
            ),
            argument(
                "--images", metavar="FOLDER", help="where the pictures lie that the pairs name"
            ),
            _EPOCHS,
            argument(
                "--batch",
                type=int,
                metavar="N",
                help="pairs that stand against each other (default 2000)",
            ),
            argument(
                "--loss",
                choices=("softmax", "sigmoid"),
                help="CLIP's or SigLIP's (default: softmax)",
            ),
            argument(
                "--rate", type=float, metavar="R", help="highest learning rate (default 0.002)"
            ),
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
            argument(
                "--texts",
                required=True,
                metavar="FILE",
                help="a .txt file of lines, or entries with texts",
            ),
            argument(
                "--out",
                required=True,
                metavar="DIR",
                help="folder of the model, its tokenizer and its log",
            ),
            argument("--width", type=int, metavar="N", help="of its states (default 256)"),
            argument("--layers", type=int, metavar="N", help="(default 3)"),
            argument(
                "--least",
                type=int,
                metavar="N",
                help="it knows words that occur N times (default 4)",
            ),
            _EPOCHS,
            argument("--batch", type=int, metavar="N", help="texts a step (default 256)"),
            _ACCUMULATE,
            argument(
                "--rate", type=float, metavar="R", help="highest learning rate (default 0.001)"
            ),
            _SEED,
        ),
        """
        ravlm train language --texts captions.jsonl --out runs/language
        ravlm train language --texts lines.txt --out runs/language --epochs 10 --batch 64
        """,
    ),
    "generator": Command(
        "train a generator that reads evidence from a knowledge base; goes on where it was stopped",
        train_generator,
        (
            argument(
                "--pairs",
                required=True,
                metavar="FILE",
                help="pairs, in any form that ravlm build reads",
            ),
            argument(
                "--out",
                required=True,
                metavar="DIR",
                help="folder of the trained generator and its logs",
            ),
            argument(
                "--kb",
                metavar="KB",
                help="where evidence comes from; without one it is trained closed book",
            ),
            argument(
                "--generator",
                metavar="DIR",
                help="a trained generator to begin from (default: a new one)",
            ),
            argument(
                "--language",
                metavar="M",
                help="a folder of ravlm train language, from which its decoder begins",
            ),
            argument(
                "--vision",
                metavar="M",
                help="an image model, which sees; then --language may be any",
            ),
            argument("--text", metavar="M", help="and a text model, which reads the evidence"),
            argument("--fusion", metavar="F", help=f"one of {', '.join(FUSIONS)}"),
            argument(
                "--images", metavar="FOLDER", help="where the pictures lie that the pairs name"
            ),
            argument("-k", type=int, metavar="N", help="entries of evidence in a step (default 8)"),
            argument(
                "--reads",
                choices=("image", "text"),
                help="what evidence is found by (default text)",
            ),
            argument(
                "--folds",
                type=int,
                default=0,
                metavar="N",
                help="5 where the encoder saw the pairs (0)",
            ),
            _EPOCHS,
            argument(
                "--critical-epochs",
                type=int,
                default=0,
                metavar="N",
                help="epochs rewarded by CIDEr (0)",
            ),
            argument("--batch", type=int, metavar="N", help="pictures a step (default 64)"),
            _ACCUMULATE,
            argument(
                "--rate", type=float, metavar="R", help="highest learning rate (default 0.001)"
            ),
            argument(
                "--least",
                type=int,
                default=4,
                metavar="N",
                help="a new one knows words that occur N times (4)",
            ),
            argument(
                "--held-out",
                type=float,
                default=0.05,
                metavar="SHARE",
                help="of the pairs (default 0.05)",
            ),
            _SEED,
        ),
        """
        ravlm train generator --pairs captions.jsonl --kb my-kb/ --out runs/captioner
        ravlm train generator --pairs captions.jsonl --kb my-kb/ --out runs/captioner --critical-epochs 3
        ravlm train generator --pairs captions.jsonl --kb my-kb/ --out runs/captioner --reads image
        ravlm train generator --pairs captions.jsonl --out runs/gpt2 --language my-gpt2/ --vision my-vit/ --rate 5e-5
        """,
    ),
    "retriever": Command(
        "train where a generator looks for evidence, by what it writes best from; goes on where it was stopped",
        train_retriever,
        (
            argument(
                "--pairs",
                required=True,
                metavar="FILE",
                help="pairs, in any form that ravlm build reads",
            ),
            argument("--kb", required=True, metavar="KB", help="where evidence comes from"),
            argument(
                "--generator",
                required=True,
                metavar="DIR",
                help="a trained generator, which stays as it is",
            ),
            argument(
                "--out",
                required=True,
                metavar="DIR",
                help="folder of the generator with its query, and the log",
            ),
            argument(
                "--images", metavar="FOLDER", help="where the pictures lie that the pairs name"
            ),
            _EPOCHS,
            argument("--batch", type=int, metavar="N", help="pictures a step (default 256)"),
            argument(
                "--rate", type=float, metavar="R", help="highest learning rate (default 0.001)"
            ),
            _SEED,
        ),
        """
        ravlm train retriever --pairs captions.jsonl --kb my-kb/ --generator runs/captioner --out runs/captioner-2
        """,
    ),
}
COMMANDS: dict[str, Command] = {
    "train": Command(
        "train an encoder on pairs, a language model on texts, or a generator that reads evidence",
        train,
        (),
        """
        ravlm train encoder --pairs captions.jsonl --out runs/mine
        ravlm train language --texts captions.jsonl --out runs/language
        ravlm train generator --pairs captions.jsonl --kb my-kb/ --out runs/captioner
        """,
        KINDS,
    ),
}
