"""The matrix of model families: what loads, equals Transformers, batches, streams and sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.families import KINDS, Figures, measure, read_results, table
from ravlm import runtime

DOCS = Path(__file__).resolve().parents[2] / "docs" / "choosing.md"
FAMILIES = [(kind, name) for kind, (families, _) in KINDS.items() for name in families]


@pytest.mark.parametrize(("kind", "name"), FAMILIES, ids=[name for _, name in FAMILIES])
def test_a_family_does_what_the_table_says(kind: str, name: str, tmp_path: Path) -> None:
    """Gemma 4, ResNet, BEiT and models without a chat template were refused; ViT-MAE saw a random
    quarter of an image; Pixtral was a traceback without torchvision."""
    if name == "siglip":
        pytest.importorskip("sentencepiece")
    figures = measure(kind, name, tmp_path / name)
    if name in ("pixtral", "mistral3") and not runtime.has_packages("torchvision"):
        assert figures == Figures(figures.models, loads=False, needs="torchvision")
        return
    wrong = [column for column, value in vars(figures).items() if value is False]
    assert figures.loads
    assert not wrong


@pytest.mark.parametrize("kind", KINDS)
def test_the_documentation_has_the_table(kind: str) -> None:
    """It is generated: python -m benchmarks.families"""
    results = read_results()[kind]
    assert [row.models for row in results] == [family.models for family in KINDS[kind][0].values()]
    assert table(kind, results) in DOCS.read_text(encoding="utf-8")
