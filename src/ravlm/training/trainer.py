"""The training loop: any model whose loss is behind `TrainingStep`, resumable to the same numbers.

Step i depends only on the weights, the optimizer state and (seed, i). A run that was killed and
started again in the same folder therefore ends with the same weights as an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ravlm import runtime
from ravlm.checkpoint import CONFIG, read_checkpoint_config, read_weights, save_checkpoint
from ravlm.config import to_mapping
from ravlm.errors import InvalidInput, RavlmError
from ravlm.training.batches import batch_parts
from ravlm.training.config import OLD_LOOP_KEYS, LoopConfig

LOG = "log.jsonl"
_STEP_SEED_STRIDE = 1_000_003
_OPTIMIZER_STATE = ("step", "exp_avg", "exp_avg_sq")


class TrainingStep(ABC):
    """A model and its loss. `model` contains everything that is trained."""

    model: nn.Module

    @abstractmethod
    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of step `index`; "loss" is the one to minimize. All randomness comes
        from `generator`."""

    def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
        """Add the gradient of "loss" to the parameters and return the losses as numbers."""
        losses = self.losses(index, generator)
        losses["loss"].backward()
        return {name: float(value.detach()) for name, value in losses.items()}

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


def silent(line: str) -> None:
    """Report nothing: the default for `report`."""


def fit(
    step: TrainingStep,
    config: LoopConfig,
    folder: str | Path,
    report: Callable[[str], None] = silent,
) -> None:
    """Train `step.model` in place. `folder` gets log.jsonl, and a checkpoint to resume from until
    the run is complete.

    Raises InvalidInput if the folder holds the progress of another configuration, RavlmError if the
    loss is not a finite number (the last checkpoint is kept).
    """
    run = _TrainingRun(step, config, Path(folder), report)
    step.model.train()
    for index in range(run.resume(), config.steps):
        run.advance(index)
    run.finish()


def fit_once(
    step: TrainingStep, config: LoopConfig, folder: Path, report: Callable[[str], None] = print
) -> None:
    """Like `fit`, for a stage of a longer recipe: load the weights if this stage is complete."""
    final = folder / "trained"
    if (final / CONFIG).is_file() and _saved_loop(read_checkpoint_config(final)) == config:
        weights = {name: torch.from_numpy(array) for name, array in read_weights(final).items()}
        step.model.load_state_dict(weights)
        step.model.eval()
        return
    fit(step, config, folder, report)
    if runtime.process_index() == 0:
        state = {name: tensor.cpu().numpy() for name, tensor in step.model.state_dict().items()}
        save_checkpoint(final, to_mapping(config), state)


def last_figures(folder: str | Path) -> dict[str, float]:
    """Return the last line of a training log."""
    return json.loads((Path(folder) / LOG).read_text(encoding="utf-8").splitlines()[-1])


def learning_rate(config: LoopConfig, index: int) -> float:
    """Return the learning rate of step `index`: a linear warmup times a half cosine down to 0."""
    warmup = min(1.0, (index + 1) / max(1, config.warmup_steps))
    return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * index / config.steps))


def _saved_loop(values: dict[str, float]) -> LoopConfig | None:
    """Return the configuration in a checkpoint; None for one of another version."""
    try:
        return LoopConfig(**{OLD_LOOP_KEYS.get(k, k): v for k, v in values.items()})  # type: ignore[arg-type]
    except TypeError:
        return None


class _TrainingRun:
    """State of a run: weights, optimizer, running mean of the weights."""

    def __init__(
        self,
        step: TrainingStep,
        config: LoopConfig,
        folder: Path,
        report: Callable[[str], None],
    ) -> None:
        self.step = step
        self.config = config
        self.folder = folder
        self.report = report
        folder.mkdir(parents=True, exist_ok=True)
        self.is_main = runtime.process_index() == 0
        self.parameters = {n: p for n, p in step.model.named_parameters() if p.requires_grad}
        groups = [
            {"params": [p], "factor": step.learning_rate_factor(name)}
            for name, p in self.parameters.items()
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.mean = {name: p.detach().clone() for name, p in self.parameters.items()}

    def advance(self, index: int) -> None:
        """Compute one step; log and save if it is time."""
        config = self.config
        seed = config.seed * _STEP_SEED_STRIDE + index
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(config, index)
        torch.manual_seed(seed)  # for dropout
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.step.backward(index, torch.Generator().manual_seed(seed))
        self._check_finite(index, losses["loss"])
        runtime.average_gradients(self.parameters.values())
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.max_grad_norm)
        self.optimizer.step()
        self._update_mean(index)

        num_steps = index + 1
        is_last = num_steps == config.steps
        saves = num_steps % config.save_every == 0 and not is_last
        if saves or is_last or num_steps % config.log_every == 0:
            figures = self.step.held_out_figures() if saves else {}
            rate = learning_rate(config, index)
            self._log({"step": num_steps, "learning_rate": rate, **losses, **figures})
        if saves:
            self._save(num_steps)

    def finish(self) -> None:
        """Copy the mean weights into the model, log its figures, delete the progress."""
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(self.mean[name])
        self.step.model.eval()
        self._log({"step": self.config.steps, **self.step.evaluate()})
        if self.is_main:
            shutil.rmtree(self._progress, ignore_errors=True)

    def resume(self) -> int:
        """Load the progress in the folder, if any; return the index of the next step."""
        if not self._progress.is_dir():
            if self.is_main:
                (self.folder / LOG).unlink(missing_ok=True)
            return 0
        saved = read_checkpoint_config(self._progress)
        if _saved_loop(saved["config"]) != self.config:
            raise InvalidInput(
                f'"{self.folder}" contains the progress of a run with another configuration. '
                "Choose another folder, or delete it to start over."
            )
        self._load_state()
        if self.is_main:
            self._truncate_log(saved["step"])
            self.report(f"resuming at step {saved['step']} of {self.config.steps}")
        return saved["step"]

    def _check_finite(self, index: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise RavlmError(
                f"The loss of step {index} is {loss}. The last good state is in "
                f'"{self._progress}". Start again in another folder with a learning rate below '
                f"{self.config.learning_rate}."
            )

    def _update_mean(self, index: int) -> None:
        decay = min(self.config.ema_decay, (1 + index) / (10 + index))
        with torch.no_grad():
            for name, p in self.parameters.items():
                self.mean[name].lerp_(p, 1 - decay)

    def _load_state(self) -> None:
        weights = read_weights(self._progress)
        arrays = {name: torch.from_numpy(array) for name, array in weights.items()}
        state: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for i, (name, p) in enumerate(self.parameters.items()):
                p.copy_(arrays[f"weight/{name}"])
                self.mean[name].copy_(arrays[f"mean/{name}"])
                if f"step/{name}" in arrays:  # missing if the parameter has had no gradient yet
                    state[i] = {key: arrays[f"{key}/{name}"] for key in _OPTIMIZER_STATE}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _truncate_log(self, step: int) -> None:
        """Drop the lines that were written after the checkpoint of `step`."""
        log = self.folder / LOG
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        log.write_text(
            "".join(line for line in lines if json.loads(line)["step"] <= step), encoding="utf-8"
        )

    def _save(self, num_steps: int) -> None:
        if not self.is_main:
            return
        tensors: dict[str, Tensor] = {}
        state = self.optimizer.state_dict()["state"]
        for i, (name, p) in enumerate(self.parameters.items()):
            tensors[f"weight/{name}"] = p.detach()
            tensors[f"mean/{name}"] = self.mean[name]
            tensors |= {f"{key}/{name}": value for key, value in state.get(i, {}).items()}
        arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        values = {"step": num_steps, "config": to_mapping(self.config)}
        try:
            save_checkpoint(self._progress, values, arrays)
        except OSError as error:
            raise RavlmError(
                f'The progress at step {num_steps} could not be written to "{self.folder}" '
                f"({error.strerror}). Free disk space and start again; earlier progress is kept."
            ) from error

    def _log(self, values: dict[str, float]) -> None:
        if not self.is_main:
            return
        line = json.dumps(values)
        with open(self.folder / LOG, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.report(line)

    @property
    def _progress(self) -> Path:
        return self.folder / "progress"
