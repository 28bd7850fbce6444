"""Loading by name: presets, and the documentation page with their sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.presets import PRESETS
from ravlm.errors import InvalidInput, NotFound
from tests.conftest import REPOSITORY
from tests.helpers import encoder_checkpoints

PAGE = (REPOSITORY / "docs" / "choosing.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PRESETS)
def test_the_documentation_lists_the_presets(name: str) -> None:
    p = PRESETS[name]
    row = (
        f"| `{name}` | {p.hub_name} | {p.languages} | {p.license} | {p.parameters} M | "
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


def test_sizes_of_the_vision_language_models() -> None:
    """Linear layers and attention, for an image of 1024 x 1024 pixels: 4,096 patches, 1,024 tokens
    of the language model."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLModel

    text = {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28}
    text |= {"num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151_936}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "depth": 24, "out_hidden_size": 2048}
    config = Qwen3VLConfig(
        text_config=text, vision_config=vision | {"deepstack_visual_indexes": [5, 11, 17]}
    )
    with torch.device("meta"):
        model = Qwen3VLModel(config)

    def weights(module: torch.nn.Module) -> int:
        linear = (m for m in module.modules() if isinstance(m, torch.nn.Linear))
        return sum(m.in_features * m.out_features for m in linear)

    blocks = weights(model.visual.blocks) * 4096 + 24 * 2 * 4096**2 * 1024
    mergers = weights(model.visual.merger) + weights(model.visual.deepstack_merger_list)
    language = weights(model.language_model) * 1024 + 28 * 2 * 1024**2 * 2048
    preset = PRESETS["vlm"]
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == preset.parameters
    assert round(2 * (blocks + 1024 * mergers + language) / 1e9) == preset.gflop
    assert max(preset.matryoshka_dims) < preset.dim == 2048


def test_a_preset_declares_the_lengths_of_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration of Qwen3-VL-Embedding does not list the lengths it was trained for."""
    folder = str(encoder_checkpoints.clip(tmp_path / "clip"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **options: folder)
    small = PRESETS["small"]
    monkeypatch.setitem(PRESETS, "small", dataclasses.replace(small, matryoshka_dims=(4, 8)))
    assert DualEncoder.load("small", dimensions=8).dim == 8
    assert DualEncoder.load(small.hub_name + "@" + "0" * 40).matryoshka_dims == (4, 8)
    with pytest.raises(InvalidInput, match="was not trained for shorter vectors"):
        DualEncoder.load(folder, dimensions=8)


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
