"""LoRA adapters by name: MODEL+ADAPTER, an adapter's folder alone, and quantized weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ravlm import runtime
from ravlm.errors import InvalidInput, Mismatch, NotFound, RavlmError
from ravlm.generation.auto import load_generator
from ravlm.generation.chat.adapters import merge_adapter, split_adapter
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.generation.chat.quantization import quantized_options
from ravlm.training.lora import LoraConfig, add_adapter
from tests.helpers import chat_checkpoints

peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_checkpoints.qwen2(tmp_path_factory.mktemp("models") / "qwen2")


@pytest.fixture(scope="module")
def adapter(qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes the model's output a lot, as PEFT itself saves it."""
    folder = tmp_path_factory.mktemp("adapters") / "a+b"  # a folder's name may contain the mark
    network = ChatGenerator.load(qwen2).model.network
    tuned = add_adapter(network, LoraConfig(r=4))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    tuned.peft_config["default"].base_model_name_or_path = str(qwen2)
    tuned.save_pretrained(folder)
    return folder


def logits(generator: Any) -> torch.Tensor:
    with torch.no_grad():
        return generator.model.network(input_ids=torch.tensor([[3, 4, 5, 6]])).logits.float()


def test_a_model_with_its_adapter(
    qwen2: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both forms load the same network, that of PEFT; the fingerprint names adapter and scale."""
    monkeypatch.setattr(runtime, "inference_dtype", lambda target: torch.float32)
    base = ChatGenerator.load(qwen2)
    expected = logits(load_generator(f"{qwen2}+{adapter}", None))
    alone = load_generator(str(adapter), None)
    torch.testing.assert_close(logits(alone), expected)
    assert not torch.allclose(logits(base), expected, atol=0.1)
    plain = peft.PeftModel.from_pretrained(ChatGenerator.load(qwen2).model.network, adapter)
    with torch.no_grad():
        reference = plain.eval()(input_ids=torch.tensor([[3, 4, 5, 6]])).logits
    torch.testing.assert_close(expected, reference, atol=1e-5, rtol=1e-5)

    assert alone.fingerprint != base.fingerprint
    other = tmp_path / "scaled"
    other.mkdir()
    for path in adapter.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    values = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**values, "lora_alpha": 7}))
    assert load_generator(str(other), None).fingerprint != alone.fingerprint


def test_names_of_adapters(qwen2: Path, adapter: Path, tmp_path: Path) -> None:
    assert split_adapter(f"{qwen2}+{adapter}") == (str(qwen2), str(adapter))
    assert split_adapter(str(adapter)) == (str(adapter), "")
    assert split_adapter("owner/model+owner/adapter") == ("owner/model", "owner/adapter")
    with pytest.raises(NotFound, match="no adapter_config"):
        load_generator(f"{qwen2}+{tmp_path}", None)
    moved = tmp_path / "moved"
    moved.mkdir()
    values = {"peft_type": "LORA", "base_model_name_or_path": "/gone/model"}
    (moved / "adapter_config.json").write_text(json.dumps(values))
    with pytest.raises(NotFound, match=r'"/gone/model".*generator="MODEL\+'):
        load_generator(str(moved), None)
    (moved / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(Mismatch, match="does not name its model"):
        load_generator(str(moved), None)


def test_an_adapter_with_missing_weights(qwen2: Path, adapter: Path, tmp_path: Path) -> None:
    """PEFT leaves a layer that the file lacks at random values, and says nothing."""
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    del weights[next(iter(weights))]
    save_file(weights, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    with pytest.raises(Mismatch, match="it lacks"):
        merge_adapter(ChatGenerator.load(qwen2).model.network, tmp_path)


def test_quantized_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments are those of QLoRA; what is missing is named in a sentence."""
    with pytest.raises(InvalidInput, match="allowed: 4bit, 8bit"):
        quantized_options("2bit", torch.bfloat16)
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cpu"))
    with pytest.raises(RavlmError, match="needs an NVIDIA GPU"):
        quantized_options("4bit", torch.bfloat16)
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(runtime, "has_packages", lambda *names: False)
    with pytest.raises(RavlmError, match="pip install bitsandbytes"):
        quantized_options("4bit", torch.bfloat16)
    monkeypatch.setattr(runtime, "has_packages", lambda *names: True)
    options = quantized_options("4bit", torch.bfloat16)
    config = options["quantization_config"]
    assert options["device_map"] == {"": torch.device("cuda", 0)}
    assert config.load_in_4bit
    assert config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype == torch.bfloat16
    assert quantized_options("8bit", torch.bfloat16)["quantization_config"].load_in_8bit


def test_quantize_reaches_transformers(qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ravlm.generation.chat import model

    calls: list[dict[str, Any]] = []
    read_model = model.read_model

    def record(folder: Path, dtype: torch.dtype, auto_class: Any, **options: Any) -> Any:
        calls.append(options)
        return read_model(folder, dtype, auto_class)

    monkeypatch.setattr(model, "read_model", record)
    monkeypatch.setattr(model, "quantized_options", lambda quantize, dtype: {"bits": quantize})
    ChatGenerator.load(qwen2, quantize="4bit")
    ChatGenerator.load(qwen2)
    assert calls == [{"bits": "4bit"}, {}]
