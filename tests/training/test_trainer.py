"""The training loop learns, resumes to the same numbers, and rejects what it cannot resume."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ravlm.errors import InvalidInput, RavlmError
from ravlm.training.config import OLD_LOOP_KEYS, LoopConfig
from ravlm.training.trainer import (
    LOG,
    TrainingStep,
    fit,
    fit_once,
    last_figures,
    learning_rate,
)


class Line(TrainingStep):
    """Fits y = 3x - 1 with dropout, so that a resumed run must draw the same random numbers."""

    def __init__(self, stop_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.1), nn.Linear(8, 1))
        self.stop_at = stop_at

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        if index == self.stop_at:
            raise KeyboardInterrupt
        x = torch.rand(32, 1, generator=generator)
        return {"loss": (self.model(x) - (3 * x - 1)).square().mean()}

    def evaluate(self) -> dict[str, float]:
        return {"at one": self.model(torch.ones(1, 1)).item()}


CONFIG = LoopConfig(
    steps=60, learning_rate=0.02, warmup_steps=5, save_every=20, log_every=10, ema_decay=0.9
)


def weights(step: TrainingStep) -> Tensor:
    return torch.cat([p.detach().flatten() for p in step.model.parameters()])


def test_it_learns_and_logs(tmp_path: Path) -> None:
    step = Line()
    fit(step, dataclasses.replace(CONFIG, steps=300, ema_decay=0.0), tmp_path)
    assert abs(step.evaluate()["at one"] - 2) < 0.3
    log = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert log[0]["step"] == 10
    assert log[-2]["loss"] < log[0]["loss"] / 5
    assert "at one" in log[-1]
    assert not (tmp_path / "progress").exists()


def test_an_interrupted_run_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    uninterrupted = Line()
    fit(uninterrupted, CONFIG, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(Line(stop_at=47), CONFIG, tmp_path / "cut")
    resumed = Line()
    fit(resumed, CONFIG, tmp_path / "cut")
    assert torch.equal(weights(resumed), weights(uninterrupted))
    assert (tmp_path / "cut" / LOG).read_text() == (tmp_path / "whole" / LOG).read_text()


def test_progress_of_another_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(Line(stop_at=30), CONFIG, tmp_path)
    with pytest.raises(InvalidInput, match=r"progress of a run .* learning_rate was 0.02, now 0.5"):
        fit(Line(), dataclasses.replace(CONFIG, learning_rate=0.5), tmp_path)


def test_progress_of_an_earlier_version_is_resumed(tmp_path: Path) -> None:
    """The configuration in the progress had other keys: `rate` for `learning_rate`."""
    uninterrupted, resumed = Line(), Line()
    fit(uninterrupted, CONFIG, tmp_path / "uninterrupted")
    with pytest.raises(KeyboardInterrupt):
        fit(Line(stop_at=47), CONFIG, tmp_path / "killed")
    path = tmp_path / "killed" / "progress" / "config.json"
    values = json.loads(path.read_text())
    old_keys = {new: old for old, new in OLD_LOOP_KEYS.items()}
    values["config"] = {old_keys.get(key, key): v for key, v in values["config"].items()}
    assert "rate" in values["config"]
    path.write_text(json.dumps(values))
    fit(resumed, CONFIG, tmp_path / "killed")
    assert torch.equal(weights(resumed), weights(uninterrupted))


def test_a_loss_of_nan_stops_and_keeps_the_last_state(tmp_path: Path) -> None:
    class Bad(Line):
        def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
            losses = super().losses(index, generator)
            return losses if index < 30 else {"loss": losses["loss"] * float("nan")}

    with pytest.raises(RavlmError, match=r"step 30 is nan.*learning rate below"):
        fit(Bad(), CONFIG, tmp_path)
    assert (tmp_path / "progress" / "model.safetensors").is_file()


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    assert learning_rate(CONFIG, 0) == pytest.approx(0.02 / 5)
    assert learning_rate(CONFIG, 30) == pytest.approx(0.01)
    assert learning_rate(CONFIG, 59) < 0.0001


def test_a_complete_stage_is_not_trained_again(tmp_path: Path) -> None:
    """A resumed recipe of several stages loads the complete ones."""
    first, again = Line(), Line(stop_at=0)
    fit_once(first, CONFIG, tmp_path, report=lambda line: None)
    fit_once(again, CONFIG, tmp_path, report=lambda line: None)
    assert torch.equal(weights(again), weights(first))
    assert last_figures(tmp_path)["at one"] == pytest.approx(again.evaluate()["at one"])
    with pytest.raises(InvalidInput, match=r"a stage of a run .* learning_rate was 0.02, now 0.01"):
        fit_once(
            again,
            dataclasses.replace(CONFIG, learning_rate=0.01),
            tmp_path,
            report=lambda line: None,
        )
