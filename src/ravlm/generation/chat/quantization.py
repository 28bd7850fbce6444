"""Where the weights of chat models go, and in how many bits, by accelerate and bitsandbytes.

Source of the 4-bit settings: Dettmers et al. 2023 (QLoRA, arXiv:2305.14314).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ravlm import runtime
from ravlm.errors import InvalidInput, MissingExtra, RavlmError

if TYPE_CHECKING:
    import torch

Quantize: TypeAlias = "Literal['4bit', '8bit'] | None"
DeviceMap: TypeAlias = "str | dict[str, int | str] | None"
BITS = ("4bit", "8bit")


def placement_options(device_map: DeviceMap, is_quantized: bool) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that place a model on devices.

    `device_map` is accelerate's: "auto", a device, or devices by module; None for this process's
    own device, where quantized weights must go at once. Raises MissingExtra without accelerate."""
    device = runtime.device()
    if device_map is None:
        return {"device_map": {"": device}} if is_quantized and device.type != "cpu" else {}
    if not runtime.has_packages("accelerate"):
        raise MissingExtra("accelerate", "train", f"device_map={device_map!r}")
    return {"device_map": device_map}


def quantized_options(quantize: str, dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that quantize a model while it is read.

    `dtype` is that of the computation. All layers go to this process's accelerator. Raises
    InvalidInput for a value that is not allowed, RavlmError without a GPU or without bitsandbytes.
    """
    if quantize not in BITS:
        raise InvalidInput(f'quantize is "{quantize}"; allowed: {", ".join(BITS)}, or None.')
    device = runtime.device()
    if device.type != "cuda":
        raise RavlmError(
            f'quantize="{quantize}" needs an NVIDIA GPU, and there is none here; leave it out.'
        )
    if not runtime.has_packages("bitsandbytes"):
        raise RavlmError(
            f'quantize="{quantize}" needs bitsandbytes, which is not installed; install it with: '
            "pip install bitsandbytes"
        )
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return {"quantization_config": config, "device_map": {"": device}}
