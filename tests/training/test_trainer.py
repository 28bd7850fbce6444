"""The training loop learns, resumes to the same numbers, and rejects what it cannot resume."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ravlm.errors import BrokenData, Busy, DiskError, InvalidInput, Mismatch, RavlmError
from ravlm.training.config import OLD_LOOP_KEYS, LoopConfig, TrainingConfig
from ravlm.training.progress import locked_folder
from ravlm.training.tracking import silent
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
    """The configuration in the progress had other keys (`rate` for `learning_rate`); there was no
    hash, and the number of steps was not next to the weights."""
    uninterrupted, resumed = Line(), Line()
    fit(uninterrupted, CONFIG, tmp_path / "uninterrupted")
    with pytest.raises(KeyboardInterrupt):
        fit(Line(stop_at=47), CONFIG, tmp_path / "killed")
    path = tmp_path / "killed" / "progress" / "config.json"
    values = json.loads(path.read_text())
    old_keys = {new: old for old, new in OLD_LOOP_KEYS.items()}
    values["config"] = {old_keys.get(key, key): v for key, v in values["config"].items()}
    assert "rate" in values["config"]
    path.write_text(json.dumps({"step": 40, "config": values["config"]}))
    arrays = load_file(path.with_name("model.safetensors"))
    assert int(arrays.pop("num_steps")) == 40
    del arrays["num_log_lines"]
    save_file(arrays, path.with_name("model.safetensors"))
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


def test_a_gradient_that_is_not_finite_stops_before_the_save(tmp_path: Path) -> None:
    """Only the loss was checked: sqrt(0) has a loss of 0, its gradient of infinity made all weights
    NaN, and they were saved over the last good ones."""

    class Bad(Line):
        def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
            losses = super().losses(index, generator)
            return losses if index < 39 else {"loss": (losses["loss"] * 0).sqrt()}

    with pytest.raises(RavlmError, match=r"gradient of step 39 is nan.*last good state is in"):
        fit(Bad(), CONFIG, tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "progress" / "model.safetensors")
    assert int(saved["num_steps"]) == 20
    assert all(bool(tensor.isfinite().all()) for tensor in saved.values())
    early = dataclasses.replace(CONFIG, save_every=100)
    with pytest.raises(RavlmError, match=r"is nan\. Start again in another folder"):
        fit(Bad(), early, tmp_path / "unsaved")


def test_a_result_that_cannot_be_saved_is_not_lost(tmp_path: Path) -> None:
    """The progress was deleted before the result was saved: a full disk cost the whole run."""

    def full() -> None:
        raise RavlmError("The disk is full.")

    first, again, saved = Line(), Line(), []
    with pytest.raises(RavlmError, match="full"):
        fit(first, CONFIG, tmp_path, save=full)
    log = (tmp_path / LOG).read_text()
    lines: list[str] = []
    fit(again, CONFIG, tmp_path, lines.append, save=lambda: saved.append(weights(again)))
    assert lines[0] == "resuming at step 60 of 60"
    assert torch.equal(saved[0], weights(first))
    assert (tmp_path / LOG).read_text() == log
    assert not (tmp_path / "progress").exists()


class Data(Line):
    """A line with data and a configuration of its own."""

    def __init__(
        self, texts: tuple[str, ...], stop_at: int | None = None, config: object = None
    ) -> None:
        super().__init__(stop_at)
        self.texts = texts
        self.config = config or TrainingConfig()


@pytest.mark.parametrize(
    ("texts", "config", "difference"),
    [
        (("a", "c"), TrainingConfig(), "the data changed"),
        (("a", "b"), TrainingConfig(epochs=11), "epochs was 10, now 11"),
    ],
)
def test_other_data_and_settings_are_refused(
    texts: tuple[str, ...], config: TrainingConfig, difference: str, tmp_path: Path
) -> None:
    """Only the configuration of the loop was compared: with as many other texts, half of a run
    learned from the first ones, and a complete stage was taken for that of the new ones."""
    with pytest.raises(KeyboardInterrupt):
        fit(Data(("a", "b"), stop_at=30), CONFIG, tmp_path / "half")
    with pytest.raises(InvalidInput, match=f"the progress of a run .*: {difference}"):
        fit(Data(texts, config=config), CONFIG, tmp_path / "half")
    fit_once(Data(("a", "b")), CONFIG, tmp_path / "whole", silent)
    with pytest.raises(InvalidInput, match=f"a stage of a run .*: {difference}"):
        fit_once(Data(texts, config=config), CONFIG, tmp_path / "whole", silent)
    fit_once(Data(("a", "b"), stop_at=0), CONFIG, tmp_path / "whole", silent)


def test_other_frozen_weights_are_refused(tmp_path: Path) -> None:
    def frozen(scale: float, stop_at: int | None = None) -> Line:
        step = Line(stop_at)
        first = next(step.model.parameters())
        first.data.mul_(scale)
        first.requires_grad = False
        return step

    with pytest.raises(KeyboardInterrupt):
        fit(frozen(1, stop_at=30), CONFIG, tmp_path)
    with pytest.raises(InvalidInput, match="the frozen weights changed"):
        fit(frozen(2), CONFIG, tmp_path)
    everything = Line()
    everything.model.requires_grad_(False)
    with pytest.raises(InvalidInput, match="all are frozen"):
        fit(everything, CONFIG, tmp_path / "nothing")


def test_progress_of_another_version_or_model_is_refused(tmp_path: Path) -> None:
    """Another model ended in a KeyError."""

    class Wide(Line):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(nn.Linear(1, 9), nn.Dropout(0.1), nn.Linear(9, 1))

    with pytest.raises(KeyboardInterrupt):
        fit(Line(stop_at=30), CONFIG, tmp_path)
    with pytest.raises(Mismatch, match=r"weight/0.weight.* has the shape \(8, 1\)"):
        fit(Wide(), CONFIG, tmp_path)
    path = tmp_path / "progress" / "config.json"
    values = json.loads(path.read_text())
    values["config"]["momentum"] = 0.9
    path.write_text(json.dumps(values))
    with pytest.raises(InvalidInput, match="another version of ravlm"):
        fit(Line(), CONFIG, tmp_path)
    (tmp_path / "progress" / "model.safetensors").write_bytes(b"cut off")
    del values["config"]["momentum"]
    path.write_text(json.dumps(values))
    with pytest.raises(BrokenData, match=r"damaged.*Delete .* to start over"):
        fit(Line(), CONFIG, tmp_path)


class Normed(TrainingStep):
    """A model with a batch norm, whose statistics are buffers, and weights in half precision."""

    def __init__(self, stop_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1).bfloat16())
        self.stop_at = stop_at

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        if index == self.stop_at:
            raise KeyboardInterrupt
        x = torch.randn(16, 3, generator=generator) + 2
        with torch.autocast("cpu", torch.bfloat16):
            return {"loss": self.model(x).float().square().mean()}


def test_buffers_and_half_precision_are_resumed(tmp_path: Path) -> None:
    """The running statistics of a batch norm were lost, and bfloat16 ended in a TypeError."""
    whole, resumed = Normed(), Normed()
    fit(whole, CONFIG, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(Normed(stop_at=47), CONFIG, tmp_path / "cut")
    fit(resumed, CONFIG, tmp_path / "cut")
    assert float(whole.model[1].running_mean.abs().max()) > 0.3  # type: ignore[index, union-attr]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_a_line_that_was_cut_off_is_dropped_from_the_log(tmp_path: Path) -> None:
    """A process that was killed while it wrote a line could not be resumed: JSONDecodeError."""
    with pytest.raises(KeyboardInterrupt):
        fit(Line(stop_at=47), CONFIG, tmp_path)
    with open(tmp_path / LOG, "a", encoding="utf-8") as file:
        file.write('{"step": 5')
    fit(Line(), CONFIG, tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert steps == [10, 20, 30, 40, 50, 60, 60]


def test_a_second_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    """Two trainings in one folder mixed their logs and deleted each other's progress."""
    with (
        locked_folder(tmp_path),
        pytest.raises(Busy, match=r"Another training is running in .* or choose another folder"),
    ):
        fit(Line(), CONFIG, tmp_path)
    fit(Line(), CONFIG, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {LOG}


def test_a_full_disk_keeps_the_earlier_progress(tmp_path: Path) -> None:
    """The error of safetensors was none of OSError: a traceback."""
    resource = pytest.importorskip("resource")

    class Large(Line):
        def __init__(self) -> None:
            super().__init__()
            self.model.extra = nn.Parameter(torch.zeros(1000, 100))

        def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
            if index == 30:
                resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
            return super().losses(index, generator)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(DiskError, match="would be larger than its file system"):
            fit(Large(), CONFIG, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    lines: list[str] = []
    resumed = Line()
    resumed.model.extra = nn.Parameter(torch.zeros(1000, 100))
    fit(resumed, CONFIG, tmp_path, lines.append)
    assert lines[0] == "resuming at step 20 of 60"


def test_vectors_do_not_decay(tmp_path: Path) -> None:
    """Norms, biases, gates and scales were pulled to 0, too."""

    class Still(TrainingStep):
        """The loss has a gradient of 0: only the decay moves the weights."""

        def __init__(self) -> None:
            self.model = nn.Module()
            self.model.linear = nn.Linear(2, 2)
            self.model.norm = nn.LayerNorm((2, 2))
            self.model.gate = nn.Parameter(torch.ones(1))
            self.model.scale = nn.Parameter(torch.tensor(2.0))

        def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
            return {"loss": sum(p.sum() for p in self.model.parameters()) * torch.tensor(0.0)}

    step = Still()
    before = {name: p.detach().clone() for name, p in step.model.named_parameters()}
    config = LoopConfig(steps=1, learning_rate=0.1, warmup_steps=0, weight_decay=0.5)
    fit(step, config, tmp_path)
    for name, p in step.model.named_parameters():
        factor = 0.95 if name == "linear.weight" else 1.0
        assert torch.allclose(p, before[name] * factor, rtol=1e-6), name


def test_lines_for_people_and_figures_for_trackers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=partial(next, iter(range(1000))))
    monkeypatch.setattr("ravlm.training.tracking.time", clock)
    lines: list[str] = []
    rows: list[Mapping[str, float]] = []
    torch.manual_seed(5)
    expected = torch.rand(2)
    step = Line()
    torch.manual_seed(5)
    fit(step, CONFIG, tmp_path, lines.append, rows.append)
    assert torch.equal(torch.rand(2), expected), "the caller's random numbers were reseeded"
    assert lines[0].startswith("step 10 of 60: learning_rate 0.01")
    assert lines[0].endswith(", 5 s left")  # a second for ten steps
    assert lines[-1].startswith("step 60 of 60: at one ")
    assert rows == [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]


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


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    """A process that was killed while it replaced the log left a folder for good."""
    for name in ("locked", "new"):
        (tmp_path / f".aside-{name}").mkdir()
    (tmp_path / ".aside-locked" / ".aside.lock").touch()
    fit(Line(), LoopConfig(steps=2), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl"}
