"""The training loop: any model whose loss is behind `TrainingStep`, resumable to the same numbers.

Step i depends only on the weights, the optimizer state and (seed, i). A run that was killed and
started again in the same folder therefore ends with the same weights as an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ravlm import runtime
from ravlm.checkpoint import CONFIG, WEIGHTS, read_checkpoint_config
from ravlm.config import to_mapping
from ravlm.errors import InvalidInput, RavlmError
from ravlm.files import atomic_write, disk_errors, remove_leftovers
from ravlm.training.batches import batch_parts
from ravlm.training.config import LoopConfig
from ravlm.training.fingerprint import fingerprint
from ravlm.training.optimization import learning_rate, parameter_groups
from ravlm.training.progress import (
    RunIdentity,
    locked_folder,
    read_tensors,
    save_tensors,
    write_config,
)
from ravlm.training.tracking import ProgressLines, Tracker, silent, untracked

LOG = "log.jsonl"
_STEP_SEED_STRIDE = 1_000_003
_PROCESS_SEED_STRIDE = 0x9E3779B1
"""Processes draw different dropout; process 0 draws what a single process does. On a CPU torch uses
the lowest 32 bits of a seed only."""
_OPTIMIZER_STATE = ("step", "exp_avg", "exp_avg_sq")


class TrainingStep(ABC):
    """A model and its loss. `model` contains everything that is trained."""

    model: nn.Module
    config: Any = None
    """The training configuration, a dataclass."""

    @abstractmethod
    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of step `index`; "loss" is the one to minimize. All randomness comes
        from `generator`."""

    def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
        """Add the gradient of "loss" to the parameters and return the losses as numbers."""
        losses = self.losses(index, generator)
        losses["loss"].backward()
        return {name: float(value.detach()) for name, value in losses.items()}

    def settings(self) -> dict[str, Any]:
        """Return all settings that decide the result, as JSON: `config` by default.

        A run is resumed only with equal settings, data and frozen weights.
        """
        return to_mapping(self.config) if dataclasses.is_dataclass(self.config) else {}

    def fingerprint(self) -> str:
        """Return a hash of the data: of the arrays, records and texts in the public attributes of
        the step by default. A step whose data is another kind of object overrides it."""
        attributes = vars(self).items()
        return fingerprint(
            {
                name: value
                for name, value in attributes
                if name != "config"
                and not name.startswith("_")
                and not (value is None or isinstance(value, bool | int | float | str))
            }
        )

    def learning_rate_factor(self, name: str) -> float:
        """Return the factor of the learning rate for the parameter `name` of the model."""
        return 1.0

    def held_out_figures(self) -> dict[str, float]:
        """Return figures on held-out data, logged whenever the progress is saved; none by default.
        The step must leave the model in the mode it was in."""
        return {}

    def evaluate(self) -> dict[str, float]:
        """Return figures on held-out data for the end of the log; none by default."""
        return {}


class AccumulatingStep(TrainingStep):
    """A step whose loss is a mean over the rows of a batch.

    The batch can therefore be divided among processes, and in each process into `accumulate` parts
    that are computed one after another with less memory. The gradient is that of the whole batch.
    """

    batch_size: int
    accumulate: int = 1

    @abstractmethod
    def part(
        self, index: int, generator: torch.Generator, rows: slice
    ) -> tuple[dict[str, Tensor], float]:
        """Return the losses over some rows of the batch of step `index`, and their weight in the
        mean over the batch.

        Random numbers are drawn for the whole batch, so that all parts belong to the same one.
        """

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        losses, _ = self.part(index, generator, slice(0, self.batch_size))
        return losses

    def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
        random_state = generator.get_state()
        world_size = runtime.num_processes()
        totals: dict[str, float] = {}
        for rows in batch_parts(self.batch_size, self.accumulate):
            losses, weight = self.part(index, generator.set_state(random_state), rows)
            # `average_gradients` divides by the number of processes later
            (losses["loss"] * (weight * world_size)).backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + weight * float(value.detach())
        return runtime.sum_over_processes(totals)


def fit(
    step: TrainingStep,
    config: LoopConfig,
    folder: str | Path,
    report: Callable[[str], None] = silent,
    tracker: Tracker = untracked,
    save: Callable[[], None] | None = None,
) -> None:
    """Train `step.model` in place. `folder` gets log.jsonl, and a checkpoint to resume from until
    the run is complete.

    `save` is called by every process with the trained model, before that checkpoint is deleted: a
    run that is killed while it saves its result is not lost. `report` gets lines for people,
    `tracker` the figures of each line of the log. The caller's random numbers are not touched.

    Raises InvalidInput if the folder holds the progress of a run with other settings or data, Busy
    if another process trains there, RavlmError if the loss or the gradient is not a finite number
    (the last checkpoint is kept).
    """
    run = _TrainingRun(step, config, Path(folder), report, tracker)
    with (
        locked_folder(run.folder) if run.is_main else nullcontext(),
        runtime.preserved_rng(),
    ):
        step.model.train()
        for index in range(run.resume(), config.steps):
            run.advance(index)
        run.finish(save)


def fit_once(
    step: TrainingStep,
    config: LoopConfig,
    folder: Path,
    report: Callable[[str], None] = print,
    tracker: Tracker = untracked,
) -> None:
    """Like `fit`, for a stage of a longer recipe: load the weights if this stage is complete.

    Raises InvalidInput also if it was completed with other settings or data.
    """
    final = folder / "trained"
    identity = run_identity(step, config)
    if (final / CONFIG).is_file():
        _check_identity(identity, read_checkpoint_config(final), final, "a stage")
        step.model.load_state_dict(read_tensors(final, step.model.state_dict()))
        step.model.eval()
        return

    def save() -> None:
        if runtime.process_index() == 0:
            save_tensors(final / WEIGHTS, step.model.state_dict())
            write_config(final, identity)  # last: a folder that has one is complete

    fit(step, config, folder, report, tracker, save)


def last_figures(folder: str | Path) -> dict[str, float]:
    """Return the last line of a training log."""
    return json.loads((Path(folder) / LOG).read_text(encoding="utf-8").splitlines()[-1])


def untrained_figures(step: TrainingStep) -> dict[str, float]:
    """Return the figures on held-out data of a model that is to be trained."""
    was_training = step.model.training
    step.model.eval()
    figures = step.evaluate()
    step.model.train(was_training)
    return figures


def run_identity(step: TrainingStep, config: LoopConfig) -> RunIdentity:
    """Return what an earlier run must share with this one to be taken up."""
    frozen = {n: p for n, p in step.model.named_parameters() if not p.requires_grad}
    settings = json.loads(json.dumps(step.settings()))  # tuples are lists when they are read back
    return RunIdentity(config, settings, step.fingerprint(), fingerprint(frozen))


def _check_identity(
    identity: RunIdentity, saved: dict[str, Any], folder: Path, content: str
) -> None:
    if differences := identity.differences(saved):
        raise InvalidInput(
            f'"{folder}" contains {content} of a run with other settings or data: {differences}. '
            "Choose another folder, or delete this one to start over."
        )


class _TrainingRun:
    """State of a run: weights, optimizer, running mean of the weights."""

    def __init__(
        self,
        step: TrainingStep,
        config: LoopConfig,
        folder: Path,
        report: Callable[[str], None],
        tracker: Tracker,
    ) -> None:
        self.step = step
        self.config = config
        self.folder = folder
        self.report = report
        self.tracker = tracker
        folder.mkdir(parents=True, exist_ok=True)
        self.is_main = runtime.process_index() == 0
        self.lines = ProgressLines(config.steps)
        self.num_log_lines = 0
        groups = parameter_groups(step.model, config.weight_decay, step.learning_rate_factor)
        self.parameters: dict[str, nn.Parameter] = {
            name: p
            for group in groups
            for name, p in zip(group.pop("names"), group["params"], strict=True)
        }
        if not self.parameters:
            raise InvalidInput("The model has no weights to train: all are frozen.")
        self.buffers = dict(step.model.named_buffers())
        runtime.broadcast([*step.model.parameters(), *self.buffers.values()])
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        self.mean = {name: p.detach().clone() for name, p in self.parameters.items()}

    def advance(self, index: int) -> None:
        """Compute one step; log and save if it is time."""
        config = self.config
        seed = config.seed * _STEP_SEED_STRIDE + index
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(config, index)
        torch.manual_seed(seed + runtime.process_index() * _PROCESS_SEED_STRIDE)  # for dropout
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.step.backward(index, torch.Generator().manual_seed(seed))
        self._check_finite("loss", index, losses["loss"])
        runtime.average_gradients(self.parameters.values())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.max_grad_norm)
        self._check_finite("gradient", index, float(norm))
        self.optimizer.step()
        self._update_mean(index)

        num_steps = index + 1
        is_last = num_steps == config.steps
        saves = num_steps % config.save_every == 0 or is_last
        if saves:
            runtime.broadcast(self.buffers.values())  # running statistics of batch norms
        if saves or num_steps % config.log_every == 0:
            figures = self.step.held_out_figures() if saves and not is_last else {}
            rate = learning_rate(config, index)
            self._log({"step": num_steps, "learning_rate": rate, **losses, **figures})
        if saves:
            self._save(num_steps)

    def finish(self, save: Callable[[], None] | None) -> None:
        """Copy the mean weights into the model, log its figures, save, delete the progress."""
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(self.mean[name])
        self.step.model.eval()
        self._log({"step": self.config.steps, **self.step.evaluate()})
        if save is not None:
            save()
        if self.is_main:
            shutil.rmtree(self._progress, ignore_errors=True)
            remove_leftovers(self.folder, is_exclusive=True)  # the folder is locked

    def resume(self) -> int:
        """Load the progress in the folder, if any; return the index of the next step."""
        identity = run_identity(self.step, self.config)
        has_progress = (self._progress / WEIGHTS).is_file()
        if runtime.sum_over_processes({"n": has_progress})["n"] % runtime.num_processes():
            raise RavlmError(
                f'Not every process of this run sees the progress in "{self.folder}". Choose a '
                "folder that all of them share."
            )
        if not has_progress:
            if self.is_main:
                (self.folder / LOG).unlink(missing_ok=True)
                write_config(self._progress, identity)
            return 0
        saved = read_checkpoint_config(self._progress)
        _check_identity(identity, saved, self._progress, "the progress")
        num_steps, num_lines = self._load_state(saved)
        self.lines.start(num_steps)
        if self.is_main:
            self._truncate_log(num_steps, num_lines)
            self.report(f"resuming at step {num_steps} of {self.config.steps}")
        return num_steps

    def _check_finite(self, name: str, index: int, value: float) -> None:
        if math.isfinite(value):
            return
        has_progress = (self._progress / WEIGHTS).is_file()
        state = f'The last good state is in "{self._progress}". ' if has_progress else ""
        raise RavlmError(
            f"The {name} of step {index} is {value}. {state}Start again in another folder with a "
            f"learning rate below {self.config.learning_rate}."
        )

    def _update_mean(self, index: int) -> None:
        decay = min(self.config.ema_decay, (1 + index) / (10 + index))
        with torch.no_grad():
            for name, p in self.parameters.items():
                self.mean[name].lerp_(p, 1 - decay)

    def _load_state(self, saved: dict[str, Any]) -> tuple[int, int | None]:
        """Load weights and optimizer state; return the numbers of steps and of lines of the log."""
        expected = self._weights()
        tensors = read_tensors(self._progress, expected)
        state: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for name, tensor in expected.items():
                tensor.copy_(tensors[name])
            for name, buffer in self.buffers.items():
                if f"buffer/{name}" in tensors:  # missing in progress of earlier versions
                    buffer.copy_(tensors[f"buffer/{name}"])
        for i, name in enumerate(self.parameters):
            if f"step/{name}" in tensors:  # missing if the parameter has had no gradient yet
                state[i] = {key: tensors[f"{key}/{name}"] for key in _OPTIMIZER_STATE}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        if "num_steps" not in tensors:
            return saved["step"], None  # progress of an earlier version
        return int(tensors["num_steps"]), int(tensors["num_log_lines"])

    def _truncate_log(self, num_steps: int, num_lines: int | None) -> None:
        """Drop the lines that were written after the checkpoint."""
        log = self.folder / LOG
        text = log.read_text(encoding="utf-8") if log.is_file() else ""
        lines = text.splitlines(keepends=True)
        if num_lines is None:
            lines = [line for line in lines if json.loads(line)["step"] <= num_steps]
        else:
            lines = lines[:num_lines]
        self.num_log_lines = len(lines)
        with atomic_write(log) as path:
            path.write_text("".join(lines), encoding="utf-8")

    def _weights(self) -> dict[str, Tensor]:
        weights = {f"weight/{name}": p.detach() for name, p in self.parameters.items()}
        return weights | {f"mean/{name}": mean for name, mean in self.mean.items()}

    def _save(self, num_steps: int) -> None:
        if not self.is_main:
            return
        tensors = self._weights()
        tensors |= {f"buffer/{name}": buffer for name, buffer in self.buffers.items()}
        state = self.optimizer.state_dict()["state"]
        for i, name in enumerate(self.parameters):
            tensors |= {f"{key}/{name}": value for key, value in state.get(i, {}).items()}
        tensors["num_steps"] = torch.tensor(num_steps)
        tensors["num_log_lines"] = torch.tensor(self.num_log_lines)
        save_tensors(self._progress / WEIGHTS, tensors)

    def _log(self, figures: dict[str, float]) -> None:
        if not self.is_main:
            return
        with disk_errors(self.folder), open(self.folder / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
        self.num_log_lines += 1
        self.report(self.lines.line(figures))
        self.tracker(figures)

    @property
    def _progress(self) -> Path:
        return self.folder / "progress"
