"""The commands `ravlm train encoder`, `language`, `generator` and `retriever`.

All of them run by `_run`: train (resuming if possible), plot the learning curves, print the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ravlm.cli import train_options
from ravlm.cli.command import Command, Options, UsageError
from ravlm.cli.output import note, print_json
from ravlm.errors import BrokenData, MissingExtra

if TYPE_CHECKING:
    from ravlm.data.rows import Quarantined
    from ravlm.encoders.base import Encoder
    from ravlm.generation.captioner.generator import CaptionerGenerator
    from ravlm.records import Pair
    from ravlm.training.captioning_steps import GeneratorTrainingConfig
    from ravlm.training.config import TrainingConfig
    from ravlm.training.tracking import Tracker

C = TypeVar("C", bound="TrainingConfig")


@dataclass(frozen=True)
class TrainingResult:
    """What a training command reports."""

    message: str
    logs: Sequence[Path]
    """Folders of the log of each stage; the last one has the final figures."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Values for --json, in addition to the final figures."""
    quarantine: Sequence[Quarantined] | None = None


def train(options: Options) -> int:
    """Run `ravlm train KIND`, in each of the processes that torchrun started."""
    return KINDS[options.kind].run(options)


def _run(train_model: Callable[[Options], TrainingResult], options: Options) -> int:
    from ravlm import runtime
    from ravlm.training.trainer import last_figures

    with runtime.process_group():
        result = train_model(options)
        if runtime.process_index() > 0:
            return 0
    _plot_curves(result.logs)
    values = dict(result.values)
    if result.quarantine is not None:
        values["refused"] = sum(not row.is_note for row in result.quarantine)
        for row in result.quarantine:
            note(f"{'note' if row.is_note else 'refused'}: {row}")
    if options.json:
        print_json({**values, **last_figures(result.logs[-1])})
    else:
        print(result.message)
    return 0


def _train_encoder(options: Options) -> TrainingResult:
    from ravlm import read_pairs
    from ravlm.training.contrastive import EncoderTrainingConfig
    from ravlm.training.encoder import train_encoder

    config = _configure(EncoderTrainingConfig(), options)
    _check_content(options.pairs)
    pairs = read_pairs(options.pairs, images=options.images)
    encoder = _initial_encoder(options, config.seed)
    out = Path(options.out)
    trained = train_encoder(encoder, pairs, out, config, note, _tracker(options))
    return TrainingResult(
        f'The encoder is in "{out}", next to its log. '
        f"Use it: ravlm build KB SOURCE --encoder {out}",
        [out],
        {"encoder": trained.name, "fingerprint": trained.fingerprint},
        pairs.quarantine,
    )


def _initial_encoder(options: Options, seed: int) -> Encoder:
    from ravlm import DualEncoder
    from ravlm.encoders.torch_encoder import TorchEncoder

    if (options.image_backbone is None) != (options.text_backbone is None):
        raise UsageError("--image-backbone and --text-backbone go together. Pass both, or neither.")
    if options.image_backbone:
        encoder = DualEncoder.from_backbones(
            options.image_backbone, options.text_backbone, options.dim, seed
        )
    else:
        encoder = DualEncoder.load(options.encoder)
    if options.freeze is not None:
        if not isinstance(encoder, TorchEncoder):
            raise UsageError(
                f'The encoder "{encoder.name}" has no towers to freeze. Omit --freeze.'
            )
        frozen = ("image", "text") if options.freeze == "both" else (options.freeze,)
        encoder.model.freeze(image="image" in frozen, text="text" in frozen)
    return encoder


def _train_language_model(options: Options) -> TrainingResult:
    from ravlm.training import language_model

    config = _configure(language_model.LanguageModelTrainingConfig(), options)
    out = Path(options.out)
    _check_content(options.texts)
    texts = language_model.read_texts(options.texts)
    language_model.train_language_model(texts, out, config, report=note, tracker=_tracker(options))
    message = f'The language model and its tokenizer are in "{out}", next to the log.'
    return TrainingResult(message, [out])


def _train_generator(options: Options) -> TrainingResult:
    from ravlm import KnowledgeBase, read_pairs
    from ravlm.training import generator as training
    from ravlm.training.encoder import split_pairs
    from ravlm.training.starter_generator import STARTER_GENERATOR_TRAINING

    if (options.vision and not options.language) or (options.generator and options.language):
        raise UsageError(
            "Pass --language (alone or with --vision), or --generator, or none of them."
        )
    if _names_chat_model(options.generator):
        return _tune_chat_model(options)
    _refuse(options, train_options.CHAT_OPTIONS, "chat models; name one by --generator")
    _check_content(options.pairs)
    pairs = read_pairs(options.pairs, images=options.images)
    held_out_share = 0.05 if options.held_out is None else options.held_out
    train_pairs, held_out = split_pairs(pairs, held_out_share)
    if not train_pairs:
        raise _no_pairs(options.pairs, pairs.quarantine)
    config = _configure(replace(STARTER_GENERATOR_TRAINING, folds=0), options)
    if epochs := options.self_critical_epochs:
        second = replace(config, epochs=epochs, learning_rate=config.learning_rate / 20)
        config = replace(config, self_critical=second)
    generator = _initial_generator(options, train_pairs, config)
    out = Path(options.out)
    kb = KnowledgeBase.open(options.kb) if options.kb else None
    try:
        training.train_generator(
            generator, train_pairs, kb, out, config, held_out, note, _tracker(options)
        )
    finally:
        if kb is not None:
            kb.close()
    stages = [training.FIRST_STAGE] + [training.SELF_CRITICAL_STAGE] * (
        config.self_critical is not None
    )
    return TrainingResult(
        f'The trained generator is in "{out}", next to its logs. '
        f"Use it: ravlm caption KB IMAGE --generator {out}",
        [out / stage for stage in stages],
        {"generator": str(out)},
        pairs.quarantine,
    )


def _initial_generator(
    options: Options, pairs: Sequence[Pair], config: GeneratorTrainingConfig
) -> CaptionerGenerator:
    from ravlm.generation.captioner.from_backbones import captioner_from_backbones
    from ravlm.generation.captioner.generator import CaptionerGenerator
    from ravlm.training.starter_generator import StarterGeneratorConfig, new_generator

    if options.generator:
        return CaptionerGenerator.load(options.generator)
    if options.vision:
        return captioner_from_backbones(
            options.language, options.vision, options.text, options.fusion, seed=config.seed
        )
    model = StarterGeneratorConfig(seed=config.seed)
    language = model.language
    if options.min_frequency is not None:
        language = replace(language, min_frequency=options.min_frequency)
    texts = (text for pair in pairs for text in pair.texts)
    return new_generator(texts, replace(model, language=language), options.language)


def _names_chat_model(name: str | None) -> bool:
    """Return whether a generator is a chat model, not the folder of a captioner."""
    from ravlm.generation.captioner.settings import SETTINGS_FILE

    return name is not None and not (Path(name).expanduser() / SETTINGS_FILE).is_file()


def _tune_chat_model(options: Options) -> TrainingResult:
    from ravlm import KnowledgeBase, read_pairs
    from ravlm.data.formats import jsonl
    from ravlm.data.readers import read_head
    from ravlm.training import chat_generator as training
    from ravlm.training.generator import train_generator
    from ravlm.training.training_examples import read_examples

    _refuse(options, train_options.CAPTIONER_OPTIONS, "captioners")
    if not options.kb:
        raise UsageError("A chat model is tuned on evidence. Pass --kb.")
    config = _configure(training.LoraTrainingConfig(), options)
    _check_content(options.pairs)
    path = Path(options.pairs)
    quarantine = None
    if path.is_file() and jsonl.recognizes(path, read_head(path)):
        examples: Any = read_examples(path, options.images)
    else:
        examples = read_pairs(path, images=options.images)
        quarantine = examples.quarantine
    out = Path(options.out)
    with KnowledgeBase.open(options.kb) as kb:
        train_generator(options.generator, examples, kb, out, config, (), note, _tracker(options))
    return TrainingResult(
        f'The adapter is in "{out}", next to its log and comparison.json (held-out examples before '
        f"and after). Use it: ravlm ask KB QUESTION --generator {options.generator}+{out}",
        [out / training.LORA_STAGE],
        {"generator": f"{options.generator}+{out}"},
        quarantine,
    )


def _refuse(options: Options, names: Sequence[str], kind: str) -> None:
    """Raise UsageError for an option that this kind of generator does not have."""
    for name in names:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is for {kind}.")


def _train_retriever(options: Options) -> TrainingResult:
    from ravlm import KnowledgeBase, read_pairs
    from ravlm.generation.captioner.generator import CaptionerGenerator
    from ravlm.training import retriever as training

    config = _configure(training.RetrieverTrainingConfig(), options)
    generator, out = CaptionerGenerator.load(options.generator), Path(options.out)
    _check_content(options.pairs)
    pairs = read_pairs(options.pairs, images=options.images)
    train_pairs = list(pairs)
    if not train_pairs:
        raise _no_pairs(options.pairs, pairs.quarantine)
    with KnowledgeBase.open(options.kb) as kb:
        training.train_retriever(generator, train_pairs, kb, out, config, note, _tracker(options))
    return TrainingResult(
        f'The generator with its trained query is in "{out}". '
        f"Use it: ravlm caption KB IMAGE --generator {out}",
        [out / training.QUERY_STAGE],
        {"generator": str(out)},
        pairs.quarantine,
    )


def _check_content(source: str) -> None:
    """Raise BrokenData if the source is an empty file or folder."""
    path = Path(source)
    if path.is_file() and path.stat().st_size == 0:
        raise BrokenData(f'The file "{source}" is empty; there is nothing to train on.')
    if path.is_dir() and not any(path.iterdir()):
        raise BrokenData(f'The folder "{source}" is empty; there is nothing to train on.')


def _no_pairs(source: str, quarantine: Sequence[Quarantined]) -> BrokenData:
    from ravlm.data.rows import first_refused

    reason = first_refused(quarantine)
    return BrokenData(f'"{source}" has no pair of an image and a text to train on.{reason}')


def _configure(config: C, options: Options) -> C:
    """Replace the fields for which an option of the same name was passed."""
    names = {config_field.name for config_field in fields(config)}
    changes = {n: v for n, v in vars(options).items() if n in names and v is not None}
    return replace(config, **changes)


def _tracker(options: Options) -> Tracker:
    from ravlm.training.tracking import tensorboard, untracked

    return tensorboard(options.tensorboard) if options.tensorboard else untracked


def _plot_curves(folders: Sequence[Path]) -> None:
    """Save the learning curve next to each log."""
    from ravlm.training.plot import plot_curve
    from ravlm.training.trainer import LOG

    for folder in folders:
        try:
            plot_curve(folder / LOG, folder / "curve.png")
        except MissingExtra as error:
            note(str(error))
            return


KINDS: dict[str, Command] = {
    "encoder": Command(
        "train an encoder on image-text pairs; resumable",
        partial(_run, _train_encoder),
        train_options.ENCODER,
        """
        ravlm train encoder --pairs captions.jsonl --out runs/mine
        ravlm train encoder --pairs photos/ --out runs/mine --batch-size 200 --epochs 20
        ravlm train encoder --pairs my.jsonl --out mine --image-backbone vit/ --text-backbone bert/
        """,
    ),
    "language": Command(
        "train a small language model and its tokenizer on texts; resumable",
        partial(_run, _train_language_model),
        train_options.LANGUAGE,
        """
        ravlm train language --texts captions.jsonl --out runs/language
        ravlm train language --texts lines.txt --out runs/language --epochs 10 --batch-size 64
        """,
    ),
    "generator": Command(
        "train a captioner, or tune a chat model by LoRA, to read evidence from a base; resumable",
        partial(_run, _train_generator),
        train_options.GENERATOR,
        """
        ravlm train generator --pairs my.jsonl --kb kb/ --out runs/captioner
        ravlm train generator --pairs my.jsonl --kb kb/ --out runs/mine --self-critical-epochs 3
        ravlm train generator --pairs my.jsonl --kb kb/ --out runs/mine --evidence-modality image
        ravlm train generator --pairs my.jsonl --out runs/gpt2 --language gpt2/ --vision vit/
        ravlm train generator --generator qwen2-vl/ --examples my.jsonl --kb kb/ --out runs/birds
        """,
    ),
    "retriever": Command(
        "train the generator's retriever on its own likelihoods (REPLUG); resumable",
        partial(_run, _train_retriever),
        train_options.RETRIEVER,
        """
        ravlm train retriever --pairs my.jsonl --kb kb/ --generator runs/captioner --out runs/new
        """,
    ),
}
COMMANDS: dict[str, Command] = {
    "train": Command(
        "train an encoder, a language model, a generator or its retriever",
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
