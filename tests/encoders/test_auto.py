"""Loading by name: presets, and the documentation page with their sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ravlm.encoders.auto import PRESETS, DualEncoder
from ravlm.errors import NotFound
from tests.conftest import REPOSITORY
from tests.helpers import encoder_checkpoints

PAGE = (REPOSITORY / "docs" / "choosing.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PRESETS)
def test_the_documentation_lists_the_presets(name: str) -> None:
    p = PRESETS[name]
    row = (
        f"| `{name}` | {p.hub_name} | {p.languages} | {p.parameters} M | "
        f"{p.parameters * 4e-3:.1f} GB | {p.parameters * 2e-3:.1f} GB | "
        f"{p.dim} | {p.edge} | {p.gflop} |"
    )
    assert row in PAGE


def test_sizes_are_those_of_the_shapes() -> None:
    """The default configuration of CLIP is that of the preset "small"."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = CLIPModel(CLIPConfig())
        model.get_image_features(pixel_values=torch.zeros(1, 3, 224, 224))
    small = PRESETS["small"]
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == small.parameters
    assert round(counter.get_total_flops() / 1e9, 1) == small.gflop
    assert model.config.projection_dim == small.dim


def test_a_preset_is_fetched_by_its_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[str] = []

    def snapshot(name: str, **options: Any) -> str:
        requested.append(name)
        return str(encoder_checkpoints.clip(tmp_path / "clip"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert DualEncoder.load("small").name == PRESETS["small"].hub_name == requested[0]


def test_a_misspelled_name() -> None:
    with pytest.raises(NotFound, match='Did you mean "medium"'):
        DualEncoder.load("mediun")
