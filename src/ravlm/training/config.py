"""Base class of all training configurations, and the configuration of the loop they lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from ravlm import runtime
from ravlm.errors import InvalidInput
from ravlm.training.batches import batch_parts
from ravlm.training.tracking import silent

OLD_LOOP_KEYS = {
    "rate": "learning_rate",
    "warmup": "warmup_steps",
    "clip": "max_grad_norm",
    "average": "ema_decay",
}
"""Keys of a `LoopConfig` in checkpoints of earlier versions -> today's keys."""


@dataclass(frozen=True)
class LoopConfig:
    """Length and speed of a run.

    The learning rate rises linearly over `warmup_steps`, then falls to 0 along a half cosine.
    """

    steps: int
    learning_rate: float = 1e-3
    """The highest learning rate of the schedule."""
    warmup_steps: int = 50
    weight_decay: float = 1e-4
    """AdamW's, for matrices only: norms, biases, gates and scales do not decay."""
    max_grad_norm: float = 1.0
    """Longer gradients are shortened to this norm."""
    ema_decay: float = 0.0
    """Decay of the running mean of the weights that is kept in the end; 0: the last weights."""
    seed: int = 0
    """Decides batches, dropout and all other random choices."""
    save_every: int = 500
    """Steps between two saves of the progress."""
    log_every: int = 20
    """Steps between two lines of the log."""


@dataclass(frozen=True)
class TrainingConfig:
    """What all objectives share. The names are those of Hugging Face where it has one."""

    epochs: int = 10
    """Passes over the data."""
    batch_size: int = 64
    """Examples of a step, over all processes and parts; data that has fewer is the batch."""
    accumulate: int = 1
    """Parts of a batch that are computed one after another: less memory, same gradient."""
    learning_rate: float = 1e-3
    """The highest learning rate of the schedule."""
    weight_decay: float = 0.01
    """AdamW's, for matrices only: norms, biases, gates and scales do not decay."""
    ema_decay: float = 0.0
    """Decay of the running mean of the weights that is kept in the end; 0: the last weights."""
    seed: int = 0
    """Decides the held-out examples, new weights, batches and dropout."""

    example_name: ClassVar[str] = "examples"
    max_warmup_steps: ClassVar[int] = 200
    saves_per_run: ClassVar[int] = 5
    min_save_interval: ClassVar[int] = 20
    logs_per_run: ClassVar[int] = 40

    def for_data(self, num_examples: int, report: Callable[[str], None] = silent) -> Self:
        """Return this configuration with a batch that `num_examples` examples fill, and report a
        smaller one.

        Raises InvalidInput if there are fewer examples than processes.
        """
        world_size = runtime.num_processes()
        if num_examples < world_size:
            raise InvalidInput(
                f"There are {num_examples} {self.example_name} to train on; each process "
                f"({world_size}) needs one. Pass more data."
            )
        if num_examples >= self.batch_size:
            return self
        rows = num_examples // world_size
        batch_size, accumulate = rows * world_size, min(self.accumulate, rows)
        report(
            f"The batch size is {batch_size} instead of {self.batch_size}: there are "
            f"{num_examples} {self.example_name}."
        )
        return replace(self, batch_size=batch_size, accumulate=accumulate)

    def loop(self, num_examples: int) -> LoopConfig:
        """Return the configuration of the loop.

        Raises InvalidInput if the data does not fill a batch, or if a batch cannot be divided among
        the processes.
        """
        if num_examples < self.batch_size:
            raise InvalidInput(
                f"Batch size {self.batch_size} is larger than the data ({num_examples} "
                f"{self.example_name}). Use a smaller batch size."
            )
        batch_parts(self.batch_size, self.accumulate)
        steps = self.epochs * (num_examples // self.batch_size)
        return LoopConfig(
            steps=steps,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps(steps),
            weight_decay=self.weight_decay,
            ema_decay=self.ema_decay,
            seed=self.seed,
            save_every=max(self.min_save_interval, steps // self.saves_per_run),
            log_every=max(1, steps // self.logs_per_run),
        )

    def warmup_steps(self, steps: int) -> int:
        """Return the number of warmup steps of a run with `steps` steps."""
        return min(self.max_warmup_steps, steps // 5 + 1)
