"""`tune`: measurement of the index kinds and the choice between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravlm.cli import main
from ravlm.errors import InvalidInput
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import auto
from ravlm.knowledge.index.auto import INDEX_KINDS, tuned_kinds
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.index.conftest import ROWS, index_kind


def test_tune_measures_and_keeps(large: KnowledgeBase, capsys: pytest.CaptureFixture[str]) -> None:
    report = large.tune(recall=0.9)
    kinds = [trial.kind for trial in report.trials]
    assert kinds == tuned_kinds(64) == ["bytes", "binary", "ivf", "hnsw"]
    assert report.meets_requirements
    assert report.rows == ROWS
    assert report.trials[0].recall > 0.97
    assert report.selected.recall >= 0.9
    assert index_kind(large) == report.selected.kind
    assert main(["tune", str(large.path), "--recall", "0.9", "--memory", "210KB"]) == 0
    output = capsys.readouterr().out
    assert "ivf" in output
    assert "meets all requirements" in output
    assert index_kind(large) == "bytes"
    large.optimize()
    assert index_kind(large) == "bytes"  # the choice is stored
    assert large.verify().sound


def test_requirements_that_no_kind_meets(
    large: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {kind: INDEX_KINDS[kind] for kind in ("flat", "bytes")}
    monkeypatch.setattr(auto, "INDEX_KINDS", kinds)
    report = large.tune(recall=0.9, latency=1e-9)
    assert [trial.kind for trial in report.trials] == ["bytes"]
    assert not report.meets_requirements
    assert "no index meets all requirements" in str(report)


def test_invalid_requirements(large: KnowledgeBase, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput, match=r"recall is 1\.5"):
        large.tune(recall=1.5)
    with pytest.raises(InvalidInput, match="latency is 0"):
        large.tune(latency=0)
    assert main(["tune", str(large.path), "--memory", "2 apples"]) == 1
    assert "GB" in capsys.readouterr().err


def test_tuning_an_empty_base(tmp_path: Path) -> None:
    base = KnowledgeBase.build(tmp_path / "kb", [], encoder=FakeEncoder())
    with base, pytest.raises(InvalidInput, match="too few"):
        base.tune()
