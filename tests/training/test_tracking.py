"""Trackers, curves and model cards."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from ravlm.errors import MissingExtra
from ravlm.training.config import TrainingConfig
from ravlm.training.model_card import ModelCard, base_license, write_model_card
from ravlm.training.plot import plot_curve, read_series
from ravlm.training.tracking import duration, tensorboard


def test_tensorboard_gets_the_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track = tensorboard(tmp_path / "events")
    assert not (tmp_path / "events").exists(), "other processes of a run have no figures"
    track({"step": 10, "loss": 2.5, "learning_rate": 0.5})
    track({"step": 20, "loss": 1.5, "held-out loss": 0.25})
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    points = {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }
    assert points.pop("learning_rate") == [(10, 0.5)]
    assert list(points.values()) == [[(10, 2.5), (20, 1.5)], [(20, 0.25)]]


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match=r'"tensorboard".*pip install "ravlm\[train\]"'):
        tensorboard(tmp_path)


def test_durations() -> None:
    assert [duration(s) for s in (0.2, 42, 185, 7500)] == ["0 s", "42 s", "3 min", "2 h 05 min"]


def test_single_values_are_no_panels(tmp_path: Path) -> None:
    """Six figures at the end of a run were six panels with one dot, their labels cut off."""
    rows = [{"step": step, "learning_rate": 0.1, "loss": 1 / step} for step in (10, 20, 30)]
    rows.append({"step": 30, **{f"t2i R@{k}, a rather long name": 1.0 * k for k in range(6)}})
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(read_series(log))[-1] == "learning_rate"
    plot_curve(log, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as image:
        assert image.width > 1000
        assert image.height < 700, "one row of panels and a few lines of text"
    log.write_text(json.dumps({"step": 1, "loss": 2.0}) + "\n")
    plot_curve(log, tmp_path / "short.png")


def test_a_model_card(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: mit\n---\n# Base\n", encoding="utf-8")
    card = ModelCard(
        title="Language model",
        usage="ravlm train generator --language mine",
        data={"training": "608 texts from captions.jsonl", "held out": "32 texts"},
        settings=TrainingConfig(epochs=3),
        before={"held-out perplexity": 9.5},
        after={"step": 40, "held-out perplexity": 2.125},
        base=str(base),
    )
    write_model_card(tmp_path, card)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert base_license(str(tmp_path)) == "mit"
    for part in (
        "- training: 608 texts from captions.jsonl",
        "| held-out perplexity | 9.5 | 2.125 |",
        "| epochs | 3 |",
        "has the license mit, which applies",
    ):
        assert part in text
    assert "step" not in text.split("## Figures")[1].split("## Settings")[0]


@pytest.mark.parametrize("base", ["", "no/such-model", "a folder/that is/not there"])
def test_an_unknown_license(base: str) -> None:
    assert base_license(base) is None
