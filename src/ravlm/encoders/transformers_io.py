"""Read parts of Transformers checkpoints: configuration, tokenizer, image processor, weights.

Loading is strict: missing, unknown or mismatched weights are errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ravlm.checkpoint import CONFIG, read_json_object
from ravlm.encoders.hub_files import quiet, refuse_custom_code, weight_files
from ravlm.errors import BrokenData, Mismatch, MissingExtra

T = TypeVar("T")
CONFIG_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What Transformers raises for values of a configuration that it does not check."""
_DEFAULT_MAX_LENGTH = 512
"""For tokenizers without a limit, whose `model_max_length` is a huge number."""


def read_config(folder: Path, name: str) -> Any:
    """Read the model configuration. Raises Mismatch for a model type unknown to Transformers, and
    for a model that consists of custom code, or of timm's, which is not installed."""
    from transformers import AutoConfig

    if (folder / CONFIG).is_file():
        values = read_json_object(folder / CONFIG)
        refuse_custom_code(values, name)
        _refuse_missing_timm(values, name)
    purpose = "config.json of a model that Transformers knows"
    return read_part(AutoConfig.from_pretrained, folder, name, purpose)


def _refuse_missing_timm(config: Mapping[str, Any], name: str) -> None:
    """Raise Mismatch for a model of timm if it can't be run."""
    from transformers.utils import is_timm_available, is_torchvision_available

    if "pretrained_cfg" not in config or (is_timm_available() and is_torchvision_available()):
        return
    raise Mismatch(
        f'The checkpoint "{name}" is a model of timm and needs the packages "timm" and '
        '"torchvision", which are not both installed; install the versions for your torch: '
        "https://pytorch.org/get-started/locally/ and pip install --no-deps timm"
    )


def lower_case(tokenizer: Any) -> None:
    """Make a fast tokenizer lower-case all texts."""
    from tokenizers import normalizers

    backend = tokenizer.backend_tokenizer
    steps = [normalizers.Lowercase(), *filter(None, [backend.normalizer])]
    backend.normalizer = normalizers.Sequence(steps)


def read_tokenizer(folder: Path, name: str) -> Any:
    """Read the tokenizer. Raises Mismatch if its files are missing."""
    from transformers import AutoTokenizer

    tokenizer = read_part(AutoTokenizer.from_pretrained, folder, name, "tokenizer")
    file_names = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    # Without any of these files, Transformers creates a tokenizer with an empty vocabulary.
    if not any((folder / path).is_file() for path in file_names):
        raise Mismatch(
            f'The checkpoint "{name}" has no usable tokenizer: it contains none of '
            f"{', '.join(sorted(file_names))}."
        )
    return tokenizer


def read_image_processor(folder: Path, name: str) -> Any:
    """Read the image processor, on Pillow: same values with and without torchvision."""
    from transformers import AutoImageProcessor

    purpose = "image processor (preprocessor_config.json)"
    return read_part(AutoImageProcessor.from_pretrained, folder, name, purpose, backend="pil")


def read_part(read: Callable[..., T], folder: Path, name: str, purpose: str, **options: Any) -> T:
    """Call `read` on the checkpoint folder. Raises Mismatch, or MissingExtra, if it fails."""
    try:
        with quiet():
            return read(folder, local_files_only=True, trust_remote_code=False, **options)
    except ImportError as error:
        if "sentencepiece" in str(error).lower():
            raise MissingExtra("sentencepiece", "hub", f'The tokenizer of "{name}"') from None
        raise Mismatch(f'The checkpoint "{name}" has no usable {purpose}: {error}') from None
    except CONFIG_ERRORS as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise Mismatch(
            f'The checkpoint "{name}" has no usable {purpose}: {reason.rstrip(".")}.'
        ) from None


def read_model(
    folder: Path, dtype: torch.dtype, auto_class: Any = None, **config_changes: Any
) -> tuple[Any, dict[str, Any]]:
    """Load the model of a checkpoint folder; also return Transformers' report on its weights.

    `auto_class` defaults to `AutoModel`, which loads models without a head. `config_changes`
    override values of the configuration. Raises NotFound, BrokenData or Mismatch.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel

    weight_files(folder)
    try:
        with quiet():
            return (auto_class or AutoModel).from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **config_changes,
            )
    except SafetensorError as error:
        raise BrokenData(
            f'The weights in "{folder}" are damaged ({error}). Save or download them again.'
        ) from None
    except (ImportError, *CONFIG_ERRORS) as error:
        raise Mismatch(_loading_problem(folder, error)) from None


def _loading_problem(folder: Path, error: Exception) -> str:
    """Return a sentence on why a model could not be loaded, and what it needs if it is
    quantized."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0].rstrip(".") if lines else type(error).__name__
    method = quantization_method(read_json_object(folder / CONFIG))
    if not method:
        return f'The checkpoint "{folder}" can\'t be loaded: {reason}.'
    return (
        f'The weights of "{folder}" are quantized by "{method}", and can\'t be loaded here: '
        f"{reason}. Install what is missing, or use the checkpoint that is not quantized."
    )


def quantization_method(config: Mapping[str, Any]) -> str:
    """Return how the weights are quantized according to a config.json: "bitsandbytes", "awq" ...;
    empty if they are not."""
    text_config = config.get("text_config")
    parts = (config, text_config if isinstance(text_config, Mapping) else {})
    values = (part.get("quantization_config") for part in parts)
    quantization = next((value for value in values if isinstance(value, Mapping)), {})
    return str(quantization.get("quant_method", ""))


def check_weights(missing: list[str], unknown: list[str], info: dict[str, Any], name: str) -> None:
    """Raise Mismatch if weights are missing, unknown or have another shape.

    Transformers would initialize them at random and only warn.
    """
    mismatched = sorted(
        str(key[0] if isinstance(key, tuple) else key) for key in info.get("mismatched_keys", ())
    )
    problems = {"missing": missing, "unknown": unknown, "of another shape": mismatched}
    parts = [
        f"{problem}: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"
        for problem, keys in problems.items()
        if keys
    ]
    if parts:
        raise Mismatch(
            f'The weights of "{name}" do not fit its configuration ({"; ".join(parts)}). '
            "Nothing was loaded."
        )


def encoder_class(config: Any) -> Any:
    """Return the Transformers auto class that loads the model, without the decoder of a
    text-to-text model (T5, mT5 ...)."""
    from transformers import AutoModel, AutoModelForTextEncoding

    is_encoder_decoder = getattr(config, "is_encoder_decoder", False)
    has_encoder = type(config) in AutoModelForTextEncoding._model_mapping
    return AutoModelForTextEncoding if is_encoder_decoder and has_encoder else AutoModel


def model_class(config: Any) -> type | None:
    """Return the model class of a configuration, or None if Transformers has none."""
    from transformers import AutoModel

    entry = AutoModel._model_mapping.get(type(config), None)
    return entry[0] if isinstance(entry, tuple) else entry


def has_towers(config: Any) -> dict[str, bool]:
    """Return whether the model computes image features and text features."""
    return {
        tower: hasattr(model_class(config), f"get_{tower}_features") for tower in ("image", "text")
    }


def matryoshka_dims(config: Any) -> tuple[int, ...]:
    """Return the lengths to which vectors may be cut, as a configuration declares them.

    The keys are those of Jina's and Nomic's models, which vLLM reads as well.
    """
    for key in ("matryoshka_dimensions", "matryoshka_dims"):
        dims = getattr(config, key, None)
        if isinstance(dims, list | tuple):
            return tuple(sorted(dim for dim in dims if isinstance(dim, int) and dim > 0))
    return ()


def state_without_duplicates(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights by name; a tensor shared by several names appears once."""
    state: dict[str, Tensor] = {}
    tensor_ids: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in tensor_ids:
            tensor_ids.add(id(tensor))
            state[name] = tensor.detach()
    return state


def max_text_length(tokenizer: Any, config: Any, model: nn.Module | None) -> int:
    """Return how many tokens a text tower reads: the smaller of the tokenizer's limit and the
    number of positions."""
    positions = getattr(config, "max_position_embeddings", None)
    limit = tokenizer.model_max_length
    if positions:
        limit = min(limit, positions - _position_offset(model))
    return limit if limit < 1 << 20 else _DEFAULT_MAX_LENGTH


def _position_offset(model: nn.Module | None) -> int:
    """RoBERTa-like models number their positions from behind the padding index."""
    offset = 0
    for name, module in model.named_modules() if model is not None else ():
        is_positions = isinstance(module, nn.Embedding) and name.endswith("position_embeddings")
        if is_positions and module.padding_idx is not None:
            offset = max(offset, module.padding_idx + 1)
    return offset


def needs_full_padding(tokenizer: Any, config: Any) -> bool:
    """Return whether texts must be padded to full length: the tower reads the last position
    (SigLIP) or takes no mask."""
    is_siglip = config.model_type.startswith("siglip")
    return is_siglip or "attention_mask" not in tokenizer.model_input_names
