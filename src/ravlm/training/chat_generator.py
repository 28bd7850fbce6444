"""`train_generator` for chat models: LoRA on examples with retrieved evidence (RAFT).

The base model stays as it is; what is trained is saved as an adapter that PEFT reads, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from ravlm import runtime
from ravlm.checkpoint import move_checkpoint_into
from ravlm.config import to_mapping
from ravlm.encoders.hub_files import quiet, small_files
from ravlm.errors import InvalidInput
from ravlm.files import atomic_write
from ravlm.generation.auto import load_chat_generator
from ravlm.generation.chat.adapters import is_adapter, split_adapter
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.generation.chat.quantization import Quantize
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.training.before_after import Change, compare_answers, held_out_answers, table
from ravlm.training.chat_tuning import ChatTuningStep
from ravlm.training.config import TrainingConfig
from ravlm.training.cross_fitting import CROSS_FITTING
from ravlm.training.grounded_examples import (
    EvidenceMix,
    GroundedExample,
    GroundedExamples,
    cross_fitted,
    ground_examples,
)
from ravlm.training.lora import LoraConfig, default_learning_rate
from ravlm.training.model_card import ModelCard, describe_data, write_model_card
from ravlm.training.tracking import Tracker, silent, untracked
from ravlm.training.trainer import fit_once
from ravlm.training.training_examples import TrainingExample, read_examples, split_examples

LORA_STAGE = "lora"
"""Folder of the log."""
MERGED = "merged"
"""Folder of the whole model, with the adapter in its weights."""
COMPARISON = "comparison.json"
SETTINGS = "training.json"
_MAX_SHOWN_LOSSES = 64
"""Held-out examples whose loss is in the log."""


@dataclass(frozen=True)
class LoraTrainingConfig(LoraConfig, TrainingConfig):
    """How a chat model is fine-tuned. What Hugging Face has a name for is named so."""

    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 0.0
    """The highest learning rate; 0: by the size of the model, 1e-3 (small) to 1e-4 (large)."""
    weight_decay: float = 0.0
    num_evidence: int = 4
    """Entries of evidence in a prompt."""
    num_candidates: int = 12
    """Entries per example from which distractors are drawn."""
    abstention_rate: float = 0.2
    """Fraction of the questions whose right entry is left out; the target is the abstention."""
    evidence_dropout: float = 0.1
    """Fraction of the examples without evidence; the target is the answer without marks."""
    folds: int = 0
    """Retrieve evidence for captions with heads that were trained on the other folds of the
    examples; 0: with the base's encoder, which must not have been trained on them."""
    held_out: float = 0.1
    """Fraction of the examples that is not trained on, if none are passed as held out."""
    max_compared: int = 200
    """Held-out examples that are answered before and after the training; 0: none."""
    bf16: bool | None = None
    """Whether to compute in bfloat16; None: if the processor is fast in it."""
    gradient_checkpointing: bool = False
    """Compute activations twice: less memory, a third slower."""
    quantize: Quantize = None
    """"4bit" (QLoRA) or "8bit" keeps the frozen weights small, on an NVIDIA GPU."""
    merge: bool = False
    """Save the whole model as well, with the adapter in its weights."""

    example_name: ClassVar[str] = "examples"

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the computation: float16 cannot hold gradients."""
        best = runtime.inference_dtype(runtime.device())
        use_bf16 = best == torch.bfloat16 if self.bf16 is None else self.bf16
        return torch.bfloat16 if use_bf16 else torch.float32

    @property
    def mix(self) -> EvidenceMix:
        """How evidence is drawn."""
        return EvidenceMix(self.num_evidence, self.abstention_rate, self.evidence_dropout)


def train_chat_generator(
    model: str | os.PathLike[str] | ChatGenerator,
    examples: Any,
    kb: KnowledgeBase,
    folder: str | Path,
    config: LoraTrainingConfig = LoraTrainingConfig(),
    held_out: Any = (),
    report: Callable[[str], None] = silent,
    tracker: Tracker = untracked,
) -> ChatGenerator:
    """Train an adapter for a chat model, save it to `folder` and return the tuned model.

    Arguments and errors as in `train_generator`. An object that is passed is changed in place.
    """
    folder = Path(folder)
    if is_adapter(folder):
        raise InvalidInput(
            f'"{folder}" already contains a trained adapter. Choose another folder, or delete it.'
        )
    train, test = _split(examples, held_out, config)
    generator = _load(model, config)
    if not config.learning_rate:
        rate = default_learning_rate(generator.num_parameters())
        config = replace(config, learning_rate=rate)
    with runtime.main_process_first():
        reader = RetrievalAugmentedVLM(kb, generator, k=config.num_evidence)
        grounded = _ground(reader, train, config, report)
        if config.folds:
            cache = folder / CROSS_FITTING
            grounded = cross_fitted(kb, grounded, config.num_candidates, config.folds, cache)
        held_out_grounded = _ground(reader, test, config, report, required=False)
    config = config.for_data(len(grounded))

    compared = held_out_grounded[: config.max_compared] if runtime.process_index() == 0 else []
    before = held_out_answers(generator, compared, config.num_evidence)
    with runtime.preserved_rng():
        torch.manual_seed(config.seed)  # every process and every run begins with one adapter
        step = _tuning_step(generator, grounded, held_out_grounded, config)
    loop = config.loop(len(grounded))
    fit_once(step, loop, folder / LORA_STAGE, report, tracker)
    if config.gradient_checkpointing:
        step.network.gradient_checkpointing_disable()
    if runtime.process_index() == 0:
        after = held_out_answers(generator, compared, config.num_evidence)
        changes = compare_answers(compared, before, after)
        for line in table(changes):
            report(line)
        data = {
            "training": describe_data(len(grounded), "examples", examples),
            "held out": describe_data(len(held_out_grounded), "examples", held_out),
        }
        _save(step, folder, config, changes, data)
    _finish(step, generator, folder, config)
    return generator


def _split(
    examples: Any, held_out: Any, config: LoraTrainingConfig
) -> tuple[list[TrainingExample], list[TrainingExample]]:
    train, test = read_examples(examples), read_examples(held_out)
    if not test:
        train, test = split_examples(train, config.held_out, config.seed)
    if not train:
        raise InvalidInput("There are no examples to train on. Pass some, or hold out fewer.")
    return train, test


def _load(model: str | os.PathLike[str] | ChatGenerator, config: LoraTrainingConfig) -> Any:
    if isinstance(model, ChatGenerator):
        if config.quantize:
            raise InvalidInput(
                f'quantize is "{config.quantize}", but the model is loaded already. Pass its name, '
                "or load it with quantize=."
            )
        return model
    name = os.fspath(model)
    folder = Path(name).expanduser()
    if split_adapter(name)[1] or (folder.is_dir() and is_adapter(folder)):
        raise InvalidInput(
            f'"{name}" has an adapter already. Train a new one for its model, or merge it first: '
            f'ravlm.merge_adapter("{name}", NEW_FOLDER).'
        )
    return load_chat_generator(name, dtype=config.dtype, quantize=config.quantize)


def _ground(
    reader: RetrievalAugmentedVLM,
    examples: Sequence[TrainingExample],
    config: LoraTrainingConfig,
    report: Callable[[str], None],
    required: bool = True,
) -> list[GroundedExample]:
    """Return the examples with their evidence; report how many were left out."""
    grounded, num_left_out = ground_examples(reader, examples, config.num_candidates)
    if num_left_out:
        advice = 'name it in the example: "evidence": [its id]'
        message = f"{num_left_out} of {len(examples)} examples: no entry has their answer"
        if required and not grounded:
            raise InvalidInput(f"There is nothing to train on: {message}; {advice}.")
        report(f"left out {message}; where there is one, {advice}")
    return grounded


def _tuning_step(
    generator: ChatGenerator,
    grounded: Sequence[GroundedExample],
    held_out: Sequence[GroundedExample],
    config: LoraTrainingConfig,
) -> ChatTuningStep:
    network: Any = generator.model.network
    if config.quantize:
        import peft

        network = peft.prepare_model_for_kbit_training(network, use_gradient_checkpointing=False)
    if config.gradient_checkpointing:
        if not getattr(network, "supports_gradient_checkpointing", False):
            raise InvalidInput(
                f'gradient_checkpointing is True, but "{generator.name}" does not support it; '
                "leave it out."
            )
        network.gradient_checkpointing_enable({"use_reentrant": False})
    examples = GroundedExamples(grounded, config.batch_size, config.mix, config.seed)
    in_log = GroundedExamples(held_out[:_MAX_SHOWN_LOSSES], 1, config.mix, config.seed)
    return ChatTuningStep(
        generator,
        examples,
        config,
        in_log.answered(),
        config.accumulate,
        pack=False,
        dtype=config.dtype,
    )


def _save(
    step: ChatTuningStep,
    folder: Path,
    config: LoraTrainingConfig,
    changes: Sequence[Change],
    data: Mapping[str, str],
) -> None:
    """Save the adapter with its model card; its configuration, by which a folder is known as one,
    comes last."""
    base = step.generator.name
    card = ModelCard(
        title="LoRA adapter",
        usage=f"ravlm ask KB QUESTION --generator {base}+{folder.name}",
        data=data,
        settings=config,
        before={change.metric: change.before for change in changes},
        after={change.metric: change.after for change in changes},
        base=base,
    )
    write_model_card(folder, card)
    comparison = [to_mapping(change) for change in changes]
    for name, values in ((COMPARISON, comparison), (SETTINGS, to_mapping(config))):
        with atomic_write(folder / name) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    save_adapter(step.network, step.generator, folder)


def save_adapter(network: Any, generator: ChatGenerator, folder: Path) -> None:
    """Save the adapter of PEFT's model `network` as PEFT does, with the name of its base."""
    settings = network.peft_config["default"]
    source = generator.model.folders[0] if generator.model.folders else None
    is_local = source is not None and Path(generator.name).expanduser().is_dir()
    settings.base_model_name_or_path = str(source) if is_local else generator.name
    whole = folder / "adapter"
    with atomic_write(whole) as temporary, quiet():
        network.save_pretrained(temporary, save_embedding_layers=False)  # "auto" asks the hub
        (temporary / "README.md").unlink(missing_ok=True)
    move_checkpoint_into(whole, folder)


def merge_adapter(generator: str | os.PathLike[str], folder: str | Path) -> None:
    """Save a chat model with its adapter in its weights, as Transformers saves a model.

        ravlm.merge_adapter("Qwen/Qwen2-VL-2B-Instruct+runs/birds", "models/birds")

    Raises what loading the generator raises, InvalidInput for a model without a folder.
    """
    save_merged(load_chat_generator(os.fspath(generator)), Path(folder))


def save_merged(generator: ChatGenerator, folder: Path) -> None:
    """Save a model whose adapter is merged, with the small files of its base."""
    source = generator.model.folders[0]
    with atomic_write(folder) as temporary, quiet():
        generator.model.network.save_pretrained(temporary)
        for name, content in small_files(source).items():
            if not (temporary / name).exists() and not name.endswith(".index.json"):
                (temporary / name).write_bytes(content)


def _finish(
    step: ChatTuningStep, generator: ChatGenerator, folder: Path, config: LoraTrainingConfig
) -> None:
    """Merge the adapter into the weights in memory, unless they are quantized."""
    if config.quantize:
        step.network.eval()
        return
    generator.model.network = step.network.merge_and_unload().eval()
    if config.merge and runtime.process_index() == 0:
        save_merged(generator, folder / MERGED)
