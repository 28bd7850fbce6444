"""From a name to a generator: short names, folders, hub names, addresses, and what is none of
them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ravlm.errors import InvalidInput, Mismatch, NotFound
from ravlm.generation.auto import PRESETS, describe, load_generator
from ravlm.generation.base import Request
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.generation.chat.openai_compatible import RemoteGenerator
from ravlm.generation.extractive.generator import ExtractiveGenerator
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Evidence, Hit, Part
from tests.conftest import REPOSITORY
from tests.helpers import chat_checkpoints

PAGE = (REPOSITORY / "docs" / "choosing.md").read_text(encoding="utf-8")


def test_names_folders_and_addresses(birds: KnowledgeBase, tmp_path: Path) -> None:
    extractive = load_generator("extractive", birds)
    assert isinstance(extractive, ExtractiveGenerator)
    assert load_generator(extractive, birds) is extractive
    folder = chat_checkpoints.qwen2(tmp_path / "talker")
    for name in (folder, str(folder)):
        chat = load_generator(name, birds)
        assert isinstance(chat, ChatGenerator)
        assert chat.name == str(folder)
    remote = load_generator("http://127.0.0.1:9/v1#a/b", birds)
    assert isinstance(remote, RemoteGenerator)
    assert remote.name == "http://127.0.0.1:9/v1#a/b"


def test_a_preset_is_fetched_by_its_hub_name(
    birds: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def snapshot(name: str, **options: Any) -> str:
        names.append(name)
        return str(chat_checkpoints.idefics3(tmp_path / "smol"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert load_generator("small", birds).name == PRESETS["small"].hub_name == names[0]


def test_a_token_limit_is_for_chat_models(birds: KnowledgeBase, tmp_path: Path) -> None:
    chat = load_generator(chat_checkpoints.qwen2(tmp_path / "talker"), birds, max_tokens=9)
    remote = load_generator("http://127.0.0.1:9/v1#a", birds, max_tokens=9)
    assert [generator.token_limit("ask") for generator in (chat, remote)] == [9, 9]  # type: ignore[attr-defined]
    for name in ("extractive", chat):
        with pytest.raises(InvalidInput, match="does not take it here"):
            load_generator(name, birds, max_tokens=9)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("extractve", InvalidInput, 'Did you mean "extractive"'),
        ("mediun", InvalidInput, 'Did you mean "medium"'),
        ("a/b/c", InvalidInput, "allowed: default, extractive"),
        ("localhost:8000/v1", InvalidInput, "starts with http:// .*http://localhost:8000/v1"),
        ("../nothing", NotFound, "no folder"),
    ],
)
def test_what_is_no_generator(
    name: str, kind: type[Exception], message: str, birds: KnowledgeBase
) -> None:
    with pytest.raises(kind, match=message):
        load_generator(name, birds)


def test_folders_that_hold_no_generator(birds: KnowledgeBase, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not a checkpoint"):
        load_generator(tmp_path, birds)
    (tmp_path / "config.json").write_text('{"architecture": "starter"}')
    with pytest.raises(Mismatch, match="Transformers knows"):
        load_generator(tmp_path, birds)


def test_a_image_is_described_by_the_entries_that_look_like_it(birds: KnowledgeBase) -> None:
    (entry,) = birds.get(["bird-1-0"])
    evidence = Evidence((Hit(entry, 0.9, Part("image")),), (1.0,))
    assert describe(Request("ask", "What?", None, evidence)) in entry.text
    assert describe(Request("ask", "What?", None, Evidence())) == ""
    assert (
        describe(
            Request("ask", "What?", None, Evidence(evidence.hits, (1.0,), subject="Leaf Parrot"))
        )
        == ""
    )


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_tells_what_the_table_holds(name: str) -> None:
    p = PRESETS[name]
    row = (
        f"| `{name}` | {p.hub_name} | {p.languages} | {p.parameters} M "
        f"| {p.parameters * 4e-3:.1f} GB | {p.parameters * 2e-3:.1f} GB |"
    )
    assert row in PAGE


def test_sizes_are_those_of_the_shapes() -> None:
    """The published shape of the preset "small"."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    language = {
        "model_type": "llama",
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
        "head_dim": 64,
        "vocab_size": 49280,
    }
    vision = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    }
    config = Idefics3Config(
        text_config=language,
        vision_config=vision | {"patch_size": 16, "image_size": 512},
        scale_factor=4,
    )
    config.tie_word_embeddings = False
    with torch.device("meta"):
        model = Idefics3ForConditionalGeneration(config)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == PRESETS["small"].parameters
