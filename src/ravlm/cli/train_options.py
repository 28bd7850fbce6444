"""The options of the commands `ravlm train encoder`, `language`, `generator` and `retriever`.

An option whose name is a field of the training configuration sets that field.
"""

from __future__ import annotations

from typing import Any

from ravlm.cli.command import Argument, argument
from ravlm.fusion import FUSIONS


def _integer(flag: str, description: str, **settings: Any) -> Argument:
    return argument(flag, type=int, metavar="N", help=description, **settings)


def _number(flag: str, metavar: str, description: str, **settings: Any) -> Argument:
    return argument(flag, type=float, metavar=metavar, help=description, **settings)


def _value(flag: str, metavar: str, description: str, **settings: Any) -> Argument:
    return argument(flag, metavar=metavar, help=description, **settings)


def _choice(flag: str, choices: tuple[str, ...], description: str) -> Argument:
    return argument(flag, choices=choices, help=description)


def _out(content: str) -> Argument:
    return _value("--out", "DIR", f"output folder: {content}", required=True)


_PAIRS = _value("--pairs", "FILE", "pairs, in any format that ravlm build reads", required=True)
_IMAGES = _value("--images", "FOLDER", "folder of the images that the pairs name")
_EPOCHS = _integer("--epochs", "passes over the data")
_SEED = _integer("--seed", "random seed (default 0)")
_ACCUMULATE = _integer("--accumulate", "parts of a batch, one by one for less memory (default 1)")
_TENSORBOARD = _value("--tensorboard", "DIR", "log to this folder for TensorBoard, too")
_LEARNING_RATE = _number("--learning-rate", "R", "highest learning rate (default 0.001)")

ENCODER = (
    _PAIRS,
    _IMAGES,
    _out("the trained encoder and its log"),
    _value("--encoder", "E", "encoder to start from (default: starter)", default="starter"),
    _value("--image-backbone", "M", "instead: an image model of Transformers, with new heads"),
    _value("--text-backbone", "M", "and a text model"),
    _integer("--dim", "length of their vectors (default 512)", default=512),
    _choice("--freeze", ("none", "image", "text", "both"), "frozen towers"),
    _EPOCHS,
    _integer("--batch-size", "pairs contrasted with each other (default 2000)"),
    _choice("--loss", ("softmax", "sigmoid"), "loss of CLIP (default) or SigLIP"),
    _number("--learning-rate", "R", "highest learning rate (default 0.002)"),
    _integer("--views", "augmented views of each image (default 2)"),
    _SEED,
)
LANGUAGE = (
    _value("--texts", "FILE", "a .txt file with a text per line, or entries", required=True),
    _out("the model, its tokenizer and its log"),
    _integer("--width", "hidden size (default 256)"),
    _integer("--layers", "number of layers (default 3)"),
    _integer("--min-frequency", "keep words that occur N times in the vocabulary (default 4)"),
    _EPOCHS,
    _integer("--batch-size", "texts per step (default 256)"),
    _ACCUMULATE,
    _LEARNING_RATE,
    _SEED,
    _TENSORBOARD,
)
GENERATOR = (
    _PAIRS,
    _IMAGES,
    _out("the trained generator and its logs"),
    _value("--kb", "KB", "source of evidence (default: none, closed book)"),
    _value("--generator", "DIR", "trained generator to start from (default: a new one)"),
    _value("--language", "M", "start its decoder from a folder of ravlm train language"),
    _value("--vision", "M", "image model; --language may then be any language model"),
    _value("--text", "M", "and a text model that encodes the evidence"),
    _value("--fusion", "F", f"one of {', '.join(FUSIONS)}"),
    argument(
        "-k",
        "--num-evidence",
        type=int,
        metavar="N",
        help="entries of evidence per step (default 8)",
    ),
    _choice("--evidence-modality", ("image", "text"), "retrieve evidence by (default text)"),
    _integer("--folds", "use 5 if the encoder was trained on the pairs (default 0)", default=0),
    _EPOCHS,
    _integer("--self-critical-epochs", "epochs with CIDEr as reward (default 0)", default=0),
    _integer("--batch-size", "images per step (default 64)"),
    _ACCUMULATE,
    _LEARNING_RATE,
    _integer("--min-frequency", "keep words that occur N times in a new vocabulary (4)", default=4),
    _number("--held-out", "FRACTION", "of the pairs, for the log (default 0.05)", default=0.05),
    _SEED,
)
RETRIEVER = (
    _PAIRS,
    _IMAGES,
    _value("--kb", "KB", "source of evidence", required=True),
    _value("--generator", "DIR", "trained generator; its weights do not change", required=True),
    _out("the generator with its trained query, and the log"),
    _EPOCHS,
    _integer("--batch-size", "images per step (default 256)"),
    _LEARNING_RATE,
    _SEED,
)
