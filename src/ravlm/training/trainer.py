"""The one training loop: any model whose loss sits behind `Step`, resumable to the same numbers.

Step i depends only on the weights, the optimiser and (seed, i), so a run that was killed and
started again in the same folder ends with the same weights as one that was not. Knows no model, no
data and no loss."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ravlm import runtime
from ravlm.checkpoint import CONFIG, read_checkpoint_config, read_weights, save_checkpoint
from ravlm.config import to_mapping
from ravlm.errors import InvalidInput, RavlmError

LOG = "log.jsonl"


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast. The rate rises over `warmup` steps, then falls to 0 along a half
    cosine."""

    steps: int
    rate: float = 1e-3
    warmup: int = 50
    weight_decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.0
    """Decay of the running mean of the weights that `fit` leaves in the model; 0 for the last
    weights themselves."""
    seed: int = 0
    save_every: int = 500
    log_every: int = 20


class Step(ABC):
    """A model and its loss. `model` holds all that is trained."""

    model: nn.Module

    @abstractmethod
    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of step `index`, "loss" among them; whatever is random comes from
        `generator`."""

    def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
        """Put the gradient of "loss" into the parameters; the losses as numbers."""
        losses = self.losses(index, generator)
        losses["loss"].backward()
        return {name: float(value.detach()) for name, value in losses.items()}

    def rate_of(self, name: str) -> float:
        """How fast the parameter `name` of the model learns beside the others: a factor of the
        rate."""
        return 1.0

    def evaluate(self) -> dict[str, float]:
        """Figures on held-out data, logged at each save; none by default."""
        return {}


class PartedStep(Step):
    """A step whose loss is a mean over the rows of a batch, so that it can be taken in parts: by
    several processes, and by each in `accumulate` parts one after another, which need less memory.
    The gradient stays that of the whole."""

    batch: int
    accumulate: int = 1

    @abstractmethod
    def part(
        self, index: int, generator: torch.Generator, rows: slice
    ) -> tuple[dict[str, Tensor], float]:
        """The losses over some rows of the batch of step `index`, and the weight of these in the
        mean over the batch.

        Whatever is random is drawn for the whole batch, so that all parts belong to the same one.
        """

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        return self.part(index, generator, slice(0, self.batch))[0]

    def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
        drawn, world, totals = generator.get_state(), runtime.rank()[1], dict[str, float]()
        for rows in parts(self.batch, self.accumulate):
            losses, weight = self.part(index, generator.set_state(drawn), rows)
            (losses["loss"] * (weight * world)).backward()  # the mean over processes is taken later
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + weight * float(value.detach())
        return runtime.summed(totals)


def shares(rows: int) -> slice:
    """Which of a batch's rows are this process's. Raises InvalidInput where they can't be shared
    evenly."""
    number, world = runtime.rank()
    if rows % world:
        raise InvalidInput(
            f"{rows} rows of a batch can't be shared by {world} processes evenly; choose another batch."
        )
    return slice(number * rows // world, (number + 1) * rows // world)


def parts(batch: int, accumulate: int) -> list[slice]:
    """This process's rows of a batch in so many parts. Raises InvalidInput where there are fewer
    rows than parts."""
    mine = shares(batch)
    rows = mine.stop - mine.start
    if not 1 <= accumulate <= rows:
        raise InvalidInput(
            f"accumulate is {accumulate}; {rows} rows of a batch can be taken in 1 to {rows} parts."
        )
    cuts = [mine.start + i * rows // accumulate for i in range(accumulate + 1)]
    return [slice(*ends) for ends in itertools.pairwise(cuts)]


def fit(
    step: Step,
    config: LoopConfig,
    folder: str | Path,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Train `step.model` in place. `folder` gets log.jsonl and a resumable checkpoint, removed at
    the end.

    Raises InvalidInput when the folder holds the progress of another configuration, RavlmError when
    the loss is no longer a number (the last checkpoint stays)."""
    run = _Run(step, config, Path(folder), report)
    step.model.train()
    for index in range(run.resume(), config.steps):
        run.advance(index)
    run.finish()


def fit_once(
    step: Step, config: LoopConfig, folder: Path, report: Callable[[str], None] = print
) -> None:
    """`fit` a stage of a recipe, or take its weights where it was finished before the recipe was
    stopped."""
    done = folder / "trained"
    if (done / CONFIG).is_file() and read_checkpoint_config(done) == to_mapping(config):
        weights = {name: torch.from_numpy(array) for name, array in read_weights(done).items()}
        step.model.load_state_dict(weights)
        step.model.eval()
        return
    fit(step, config, folder, report)
    if runtime.rank()[0] == 0:
        weights_now = {name: p.cpu().numpy() for name, p in step.model.state_dict().items()}
        save_checkpoint(done, to_mapping(config), weights_now)


def last_figures(folder: str | Path) -> dict[str, float]:
    """The figures at the end of a training's log."""
    return json.loads((Path(folder) / LOG).read_text(encoding="utf-8").splitlines()[-1])


class _Run:
    """The state of one training: weights, optimiser, running mean."""

    def __init__(
        self, step: Step, config: LoopConfig, folder: Path, report: Callable[[str], None]
    ) -> None:
        self.step, self.config, self.folder, self.report = step, config, folder, report
        folder.mkdir(parents=True, exist_ok=True)
        self.parameters = {n: p for n, p in step.model.named_parameters() if p.requires_grad}
        groups = [
            {"params": [p], "factor": step.rate_of(name)} for name, p in self.parameters.items()
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=config.rate, weight_decay=config.weight_decay)
        self.mean = {n: p.detach().clone() for n, p in self.parameters.items()}

    def advance(self, index: int) -> None:
        """One step: rate, gradient, clip, update, mean; log and save where it is time."""
        config, seed = self.config, self.config.seed * 1_000_003 + index
        for group in self.optimiser.param_groups:
            group["lr"] = group["factor"] * learning_rate(config, index)
        torch.manual_seed(seed)  # dropout
        self.optimiser.zero_grad(set_to_none=True)
        losses = self.step.backward(index, torch.Generator().manual_seed(seed))
        if not math.isfinite(losses["loss"]):
            raise RavlmError(
                f"The loss of step {index} is {losses['loss']}; the last good state is kept in {self._progress}. "
                f"Start again in another folder with a lower rate than {config.rate}."
            )
        runtime.average_gradients(self.parameters.values())
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.clip)
        self.optimiser.step()
        decay = min(config.average, (1 + index) / (10 + index))
        with torch.no_grad():
            for name, p in self.parameters.items():
                self.mean[name].lerp_(p, 1 - decay)
        done = index + 1
        saves = done % config.save_every == 0 and done < config.steps
        if saves or done % config.log_every == 0 or done == config.steps:
            self._log({"step": done, "rate": learning_rate(config, index), **losses})
        if saves:
            self._save(done)

    def finish(self) -> None:
        """Leave the mean weights in the model, log its figures and drop the progress."""
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(self.mean[name])
        self.step.model.eval()
        self._log({"step": self.config.steps, **self.step.evaluate()})
        if runtime.rank()[0] == 0:
            shutil.rmtree(self._progress, ignore_errors=True)

    def resume(self) -> int:
        """Take up the progress that the folder holds; the first step that is left to do."""
        if not self._progress.is_dir():
            if runtime.rank()[0] == 0:
                (self.folder / LOG).unlink(missing_ok=True)
            return 0
        saved = read_checkpoint_config(self._progress)
        if saved["config"] != to_mapping(self.config):
            raise InvalidInput(
                f'"{self.folder}" holds the progress of a training with another configuration; '
                "choose another folder, or remove it to begin anew."
            )
        arrays = {
            name: torch.from_numpy(array) for name, array in read_weights(self._progress).items()
        }
        state: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for i, (name, p) in enumerate(self.parameters.items()):
                p.copy_(arrays[f"weight/{name}"])
                self.mean[name].copy_(arrays[f"mean/{name}"])
                if f"step/{name}" in arrays:  # else it had no gradient yet
                    state[i] = {
                        key: arrays[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                    }
        self.optimiser.load_state_dict(
            {"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]}
        )
        if runtime.rank()[0] > 0:
            return saved["step"]
        lines = (self.folder / LOG).read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["step"] <= saved["step"]]
        (self.folder / LOG).write_text("".join(kept), encoding="utf-8")
        self.report(f"going on at step {saved['step']} of {self.config.steps}")
        return saved["step"]

    def _save(self, done: int) -> None:
        arrays = {}
        state = self.optimiser.state_dict()["state"]
        for i, (name, p) in enumerate(self.parameters.items()):
            arrays[f"weight/{name}"], arrays[f"mean/{name}"] = p.detach(), self.mean[name]
            arrays |= {f"{key}/{name}": value for key, value in state.get(i, {}).items()}
        values = {"step": done, "config": to_mapping(self.config)}
        if runtime.rank()[0] > 0:
            return
        try:
            save_checkpoint(
                self._progress,
                values,
                {name: array.cpu().numpy() for name, array in arrays.items()},
            )
        except OSError as error:
            raise RavlmError(
                f'The progress at step {done} could not be written to "{self.folder}" ({error.strerror}); '
                "make room and start again: what was saved before is kept."
            ) from error

    def _log(self, values: dict[str, float]) -> None:
        if runtime.rank()[0] > 0:
            return
        line = json.dumps(values)
        with open(self.folder / LOG, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.report(line)

    @property
    def _progress(self) -> Path:
        return self.folder / "progress"


def learning_rate(config: LoopConfig, index: int) -> float:
    """The rate of step `index`: a linear rise, then half a cosine down to 0."""
    warm = min(1.0, (index + 1) / max(1, config.warmup))
    return config.rate * warm * 0.5 * (1 + math.cos(math.pi * index / config.steps))


def batch_rows(rows: int, size: int, index: int, seed: int) -> Tensor:
    """Which of `rows` are in the batch of step `index`, (size,): every epoch is a new order, cut
    into whole batches."""
    in_epoch = rows // size
    order = torch.randperm(
        rows, generator=torch.Generator().manual_seed(seed * 7919 + index // in_epoch)
    )
    return order[(index % in_epoch) * size :][:size]
