"""Where the figures of a run go: lines for people, and trackers such as TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ravlm.errors import MissingExtra

Tracker = Callable[[Mapping[str, float]], None]
"""Is called with the figures of a line of the log: "step", "learning_rate", "loss" and others.
`wandb.log` and `mlflow.log_metrics` are trackers."""


def silent(line: str) -> None:
    """Report nothing: the default for `report`."""


def untracked(figures: Mapping[str, float]) -> None:
    """Track nothing: the default for `tracker`."""


def tensorboard(folder: str | Path) -> Tracker:
    """Return a tracker that writes events for TensorBoard to `folder`.

        ravlm.train_language_model(texts, "runs/language", tracker=tensorboard("runs/events"))

    Raises MissingExtra without the package tensorboard.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("tensorboard", "train", "Logging to TensorBoard") from None
    writer: SummaryWriter | None = None

    def track(figures: Mapping[str, float]) -> None:
        nonlocal writer
        # not before there are figures: the other processes of a run never have any
        writer = writer or SummaryWriter(str(folder))
        for name, value in figures.items():
            if name != "step":
                writer.add_scalar(name, value, int(figures["step"]))
        writer.flush()

    return track


class ProgressLines:
    """Words the lines of a log for people, with the time that is left."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self.start(0)

    def start(self, step: int) -> None:
        """Measure the speed from `step` on."""
        self._first_step = step
        self._start = time.monotonic()

    def line(self, figures: Mapping[str, float]) -> str:
        """Return the figures in one line."""
        step = int(figures["step"])
        values = [f"{name} {value:.4g}" for name, value in figures.items() if name != "step"]
        left = self.num_steps - step
        if left > 0 and step > self._first_step:
            seconds_per_step = (time.monotonic() - self._start) / (step - self._first_step)
            values.append(f"{duration(left * seconds_per_step)} left")
        return ": ".join(filter(None, [f"step {step} of {self.num_steps}", ", ".join(values)]))


def duration(seconds: float) -> str:
    """Return `42 s`, `3 min` or `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
