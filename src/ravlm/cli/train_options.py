"""The options of the commands `ravlm train encoder`, `language`, `generator` and `retriever`.

An option whose name is a field of the training configuration sets that field.
"""

from __future__ import annotations

import argparse
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
    _integer("--batch-size", "pairs contrasted with each other (default 2000, or all pairs)"),
    _choice("--loss", ("softmax", "sigmoid"), "loss of CLIP (default) or SigLIP"),
    _number("--learning-rate", "R", "highest learning rate (default: by what is trained)"),
    _number("--held-out", "F", "fraction of the pairs that measures (default 0.05, or more)"),
    _integer("--views", "augmented views of each image (default 2)"),
    _SEED,
    _TENSORBOARD,
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
CAPTIONER_OPTIONS = (
    "language", "vision", "text", "fusion", "evidence_modality", "self_critical_epochs",
    "min_frequency",
)  # fmt: skip
"""Options of `ravlm train generator` for captioners alone."""
CHAT_OPTIONS = (
    "r", "lora_alpha", "lora_dropout", "abstention_rate", "quantize", "bf16",
    "gradient_checkpointing", "merge",
)  # fmt: skip
"""Options of `ravlm train generator` for chat models alone."""
GENERATOR = (
    argument(
        "--examples",
        "--pairs",
        dest="pairs",
        metavar="FILE",
        required=True,
        help="pairs, in any format that ravlm build reads; for a chat model also JSON Lines with "
        "question and answer, or messages, and the ids of the right entries (evidence)",
    ),
    _IMAGES,
    _out("the trained generator, or the adapter of a chat model, and its logs"),
    _value("--kb", "KB", "source of evidence (default: none, closed book)"),
    _value(
        "--generator",
        "MODEL",
        "a chat model (folder or Hugging Face name), which gets a LoRA adapter, or a trained "
        "captioner to start from (default: a new captioner)",
    ),
    _value("--language", "M", "start its decoder from a folder of ravlm train language"),
    _value("--vision", "M", "image model; --language may then be any language model"),
    _value("--text", "M", "and a text model that encodes the evidence"),
    _value("--fusion", "F", f"one of {', '.join(FUSIONS)}"),
    argument(
        "-k",
        "--num-evidence",
        type=int,
        metavar="N",
        help="entries of evidence per example (default 8; chat models: 4)",
    ),
    _choice("--evidence-modality", ("image", "text"), "retrieve evidence by (default text)"),
    _integer("--folds", "use 5 if the encoder was trained on the pairs (default 0)"),
    _EPOCHS,
    _integer("--self-critical-epochs", "epochs with CIDEr as reward (default 0)"),
    _integer("--batch-size", "images or examples per step (default 64; chat models: 16)"),
    _ACCUMULATE,
    _number(
        "--learning-rate",
        "R",
        "highest learning rate (default 0.001; chat models: 0.001 for small to 0.0001 for large)",
    ),
    _integer("--min-frequency", "keep words that occur N times in a new vocabulary (4)"),
    _number("--held-out", "FRACTION", "of the examples, to measure by (default 0.05; 0.1)"),
    _integer("--r", "chat models: rank of the adapter (default 16)"),
    _integer("--lora-alpha", "its output is multiplied by N / rank (default 32)"),
    _number("--lora-dropout", "P", "dropout before the adapter (default 0)"),
    _number("--abstention-rate", "P", "questions whose right entry is left out (default 0.2)"),
    _choice("--quantize", ("4bit", "8bit"), "keep the frozen weights small, on an NVIDIA GPU"),
    argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compute in bfloat16 (default: where the processor is fast in it)",
    ),
    argument(
        "--gradient-checkpointing",
        action="store_true",
        default=None,
        help="less memory, a third slower",
    ),
    argument("--merge", action="store_true", default=None, help="save the whole model as well"),
    _TENSORBOARD,
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
    _TENSORBOARD,
    _SEED,
)
