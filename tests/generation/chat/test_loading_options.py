"""Quantized checkpoints, `quantize=` and `device_map=`: what is passed on, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ravlm import runtime
from ravlm.errors import InvalidInput, Mismatch, MissingExtra, RavlmError
from ravlm.generation.auto import load_generator
from ravlm.generation.chat import model as chat_model
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.model import RetrievalAugmentedVLM
from tests.helpers import chat_checkpoints


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_checkpoints.qwen2(tmp_path_factory.mktemp("plain") / "qwen2")


def quantized(folder: Path, to: Path, **quantization: Any) -> Path:
    """Copy a checkpoint whose configuration says that it is quantized."""
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    config = json.loads((to / "config.json").read_text())
    config["quantization_config"] = quantization
    (to / "config.json").write_text(json.dumps(config))
    return to


@pytest.mark.parametrize(
    ("quantization", "package"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "awq", "bits": 4, "group_size": 32}, "gptqmodel"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "optimum"),
        ({"quant_method": "fbgemm_fp8"}, "GPU"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "compressed-tensors"),
    ],
    ids=lambda value: value.get("quant_method") if isinstance(value, dict) else "",
)
def test_a_quantized_checkpoint_says_what_it_needs(
    quantization: dict[str, Any], package: str, qwen2: Path, tmp_path: Path
) -> None:
    """It was a traceback of ImportError."""
    if package != "GPU" and runtime.has_packages(package.replace("-", "_")):
        pytest.skip(f"{package} is installed")
    folder = quantized(qwen2, tmp_path / "small", **quantization)
    with pytest.raises(Mismatch) as caught:
        ChatGenerator.load(folder)
    message = str(caught.value)
    assert f'quantized by "{quantization["quant_method"]}", and can\'t be loaded here' in message
    assert package in message
    assert "\n" not in message
    assert message.endswith("or use the checkpoint that is not quantized.")


def test_options_are_passed_to_transformers(qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is needed to see what Transformers is asked for."""
    asked: dict[str, Any] = {}

    class Asked(Exception):
        pass

    def read_model(folder: Path, dtype: torch.dtype, auto_class: Any, **options: Any) -> Any:
        asked.update(options, dtype=dtype)
        raise Asked

    monkeypatch.setattr(chat_model, "read_model", read_model)
    monkeypatch.setattr(runtime, "has_packages", lambda *names: True)
    with pytest.raises(Asked):
        load_generator(str(qwen2), None, device_map="auto")
    assert asked["device_map"] == "auto"
    assert "quantization_config" not in asked
    asked.clear()
    with pytest.raises(Asked):
        load_generator(str(qwen2), None)
    assert list(asked) == ["dtype"]

    monkeypatch.setattr(runtime, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(runtime, "inference_dtype", lambda device: torch.bfloat16)
    with pytest.raises(Asked):
        RetrievalAugmentedVLM(None, str(qwen2), quantize="4bit")
    config = asked["quantization_config"]
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
    assert config.bnb_4bit_compute_dtype == torch.bfloat16
    assert asked["device_map"] == {"": torch.device("cuda")}
    with pytest.raises(Asked):
        RetrievalAugmentedVLM(None, str(qwen2), quantize="8bit", device_map="auto")
    assert asked["quantization_config"].load_in_8bit
    assert asked["device_map"] == "auto"


def test_a_quantized_checkpoint_goes_to_the_gpu(
    qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quantized weights cannot be moved afterwards."""
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cuda"))
    folder = quantized(qwen2, tmp_path / "small", quant_method="awq", bits=4)
    placed: dict[str, Any] = {}

    def read_model(folder: Path, dtype: torch.dtype, auto_class: Any, **options: Any) -> Any:
        placed.update(options)
        raise Mismatch("enough")

    monkeypatch.setattr(chat_model, "read_model", read_model)
    with pytest.raises(Mismatch, match="enough"):
        ChatGenerator.load(folder)
    assert placed == {"device_map": {"": torch.device("cuda")}}


def test_a_device_map_places_the_model(qwen2: Path) -> None:
    pytest.importorskip("accelerate")
    generator = ChatGenerator.load(qwen2, device_map="cpu")
    assert generator.model.network.device == torch.device("cpu")
    with pytest.raises(Mismatch, match=r"can't be loaded: .*nowhere"):
        ChatGenerator.load(qwen2, device_map="nowhere")


def test_options_that_cannot_be_met(qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match=r'quantize is "3bit"; allowed: 4bit, 8bit'):
        ChatGenerator.load(qwen2, quantize="3bit")  # type: ignore[arg-type]
    if runtime.device().type != "cuda":
        with pytest.raises(RavlmError, match="needs an NVIDIA GPU"):
            ChatGenerator.load(qwen2, quantize="4bit")
    for name in ("http://127.0.0.1:9/v1#m", "starter"):
        with pytest.raises(InvalidInput, match="quantize is '4bit', but the generator"):
            load_generator(name, None, quantize="4bit")
    with pytest.raises(InvalidInput, match=r"max_tokens is 5, but .*chat models and endpoints"):
        load_generator("starter", None, max_tokens=5)
    monkeypatch.setattr(runtime, "has_packages", lambda *names: False)
    with pytest.raises(MissingExtra, match=r"accelerate.*ravlm\[train\]"):
        ChatGenerator.load(qwen2, device_map="auto")
