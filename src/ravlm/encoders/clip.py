"""CLIP-like checkpoints of Transformers as encoders: CLIP, SigLIP, SigLIP 2, Chinese-CLIP, and
whatever else has `get_image_features` and `get_text_features`.

One path for all of them; what a model needs of its texts is in `text_limit` and `reads_padding`.
Loading is strict."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm.encoders.hub_files import quiet, small_files, weight_files
from ravlm.encoders.image_processing import Pixels
from ravlm.encoders.tokenization import Tokens
from ravlm.encoders.torch_encoder import TowerEncoder, Towers
from ravlm.errors import BrokenData, Mismatch, MissingExtra
from ravlm.records import Modality

T = TypeVar("T")


class HubEncoder(TowerEncoder):
    """A dual encoder of Transformers. Made by `from_folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._config = read_config(folder, name)
        _check_towers(self._config, name)
        processor, tokenizer = read_image_processor(folder, name), read_tokenizer(folder, name)
        super().__init__(
            name, small_files(folder), weight_files(folder), Pixels(processor), tokenizer
        )

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> HubEncoder:
        """Load a checkpoint folder; `name` is what it will be found by again."""
        return cls(folder, name)

    def _read(self, dtype: torch.dtype) -> Towers:
        network, info = read_model(self._folder, dtype)
        lacking, extra = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
        check_weights(lacking, extra, info, self.name)
        return ClipTowers(network)

    def _tokens_of(self, tokenizer: Any) -> Tokens:
        towers: Any = self._trained if self._trained is not None else self._quick
        text = getattr(self._config, "text_config", self._config)
        return Tokens(
            tokenizer, text_limit(tokenizer, text, towers), reads_padding(tokenizer, text)
        )

    def _stored(self, towers: Any) -> dict[str, Tensor]:
        return unshared(towers.network)


class ClipTowers(Towers):
    """A dual encoder of Transformers behind the two functions of a `TowerEncoder`'s towers."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self._taken = set(inspect.signature(network.get_text_features).parameters)

    def image_features(self, pixel_values: Tensor, **more: Tensor) -> Tensor:
        return unit(pooled(self.network.get_image_features(pixel_values=pixel_values, **more)))

    def text_features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **more: Tensor
    ) -> Tensor:
        inputs = {
            "attention_mask": attention_mask,
            **{key: x for key, x in more.items() if key in self._taken},
        }
        return unit(pooled(self.network.get_text_features(input_ids=input_ids, **inputs)))

    def parts(self, tower: Modality) -> list[nn.Module]:
        """The tower and its projection, by their names: `vision_model`, `visual_projection`,
        `text_model`, ..."""
        begins = "vis" if tower == "image" else "text"
        return [child for name, child in self.network.named_children() if name.startswith(begins)]


def pooled(output: Any) -> Tensor:
    """The projected vector of what `get_*_features` returns: a tensor, or since Transformers 5 an
    output object."""
    return output if hasattr(output, "shape") else output.pooler_output


def unit(x: Tensor) -> Tensor:
    """Rows of length 1, float32."""
    return F.normalize(x.float(), dim=-1)


def text_limit(tokenizer: Any, config: Any, model: nn.Module | None) -> int:
    """Pieces that a text tower reads: the tokenizer's limit or the tower's positions, whichever
    ends first."""
    taken = 0  # RoBERTa and its kin number their positions from behind the padding on
    for name, module in model.named_modules() if model is not None else ():
        if (
            isinstance(module, nn.Embedding)
            and name.endswith("position_embeddings")
            and module.padding_idx is not None
        ):
            taken = max(taken, module.padding_idx + 1)
    positions = getattr(config, "max_position_embeddings", None)
    limit = min(
        tokenizer.model_max_length, positions - taken if positions else tokenizer.model_max_length
    )
    return limit if limit < 1 << 20 else 512


def reads_padding(tokenizer: Any, config: Any) -> bool:
    """Whether a text tower must be given texts of full length: it reads the last place, or is told
    of no padding."""
    return (
        config.model_type.startswith("siglip")
        or "attention_mask" not in tokenizer.model_input_names
    )


def unshared(module: nn.Module) -> dict[str, Tensor]:
    """The weights of a module by name, those that stand under two names once."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.detach()
    return found


def read_config(folder: Path, name: str) -> Any:
    """The checkpoint's configuration. Raises Mismatch for a kind that Transformers does not
    know."""
    from transformers import AutoConfig

    return read_part(
        AutoConfig.from_pretrained, folder, name, "config.json of a model that Transformers knows"
    )


def read_tokenizer(folder: Path, name: str) -> Any:
    """The checkpoint's tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = read_part(AutoTokenizer.from_pretrained, folder, name, "tokenizer")
    kept = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if not any(
        (folder / path).is_file() for path in kept
    ):  # Transformers then makes one that knows no word
        raise Mismatch(
            f'The checkpoint "{name}" has no usable tokenizer: it has none of {", ".join(sorted(kept))}.'
        )
    return tokenizer


def read_image_processor(folder: Path, name: str) -> Any:
    """The checkpoint's image processor, on Pillow: the same numbers with torchvision and
    without."""
    from transformers import AutoImageProcessor

    what = "image processor (preprocessor_config.json)"
    return read_part(AutoImageProcessor.from_pretrained, folder, name, what, backend="pil")


def read_part(read: Callable[..., T], folder: Path, name: str, what: str, **options: Any) -> T:
    """What `read` makes of the checkpoint's files. Raises Mismatch, or MissingExtra, where it
    can't."""
    try:
        with quiet():
            return read(folder, local_files_only=True, trust_remote_code=False, **options)
    except ImportError as error:
        if "sentencepiece" in str(error).lower():
            raise MissingExtra("sentencepiece", "hub", f'The tokenizer of "{name}"') from None
        raise Mismatch(f'The checkpoint "{name}" has no usable {what}: {error}') from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = next(
            (line for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise Mismatch(
            f'The checkpoint "{name}" has no usable {what}: {reason.rstrip(".")}.'
        ) from None


def read_model(
    folder: Path, dtype: torch.dtype, kind: Any = None, **changes: Any
) -> tuple[Any, dict[str, Any]]:
    """The model of a checkpoint folder, and what Transformers tells of its weights. `kind`: its
    auto class, by default that of models without a head; `changes`: values of its configuration.
    Raises NotFound or BrokenData."""
    from safetensors import SafetensorError
    from transformers import AutoModel

    weight_files(folder)
    try:
        with quiet():
            return (kind or AutoModel).from_pretrained(
                folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True,
                output_loading_info=True, ignore_mismatched_sizes=True, **changes,
            )  # fmt: skip
    except SafetensorError as error:
        raise BrokenData(
            f'The weights in "{folder}" are damaged ({error}); save or download them again.'
        ) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise Mismatch(f'The checkpoint "{folder}" can\'t be loaded: {error}') from None


def check_weights(lacking: list[str], extra: list[str], info: dict[str, Any], name: str) -> None:
    """Raise Mismatch where weights are missing, left over or of another shape: never a random
    tower."""
    other = sorted(
        str(key[0] if isinstance(key, tuple) else key) for key in info.get("mismatched_keys", ())
    )
    parts = [
        f"{what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for what, names in (("missing", lacking), ("unknown", extra), ("of another shape", other))
        if names
    ]
    if parts:
        found = "; ".join(parts)
        raise Mismatch(
            f'The weights of "{name}" do not fit its configuration ({found}); nothing was loaded.'
        )


def model_class(config: Any) -> type | None:
    """The bare model class of a configuration; None where Transformers has none."""
    from transformers import AutoModel

    kind = AutoModel._model_mapping.get(type(config), None)
    return kind[0] if isinstance(kind, tuple) else kind


def has_towers(config: Any) -> dict[str, bool]:
    """Whether a model gives features of pictures, and of texts."""
    return {
        tower: hasattr(model_class(config), f"get_{tower}_features") for tower in ("image", "text")
    }


def _check_towers(config: Any, name: str) -> None:
    """Raise Mismatch for a model that is no dual encoder, and say what it is."""
    has = has_towers(config)
    if all(has.values()):
        return
    what = getattr(model_class(config), "__name__", None) or f'of the kind "{config.model_type}"'
    part = (
        "text"
        if hasattr(config, "vocab_size")
        else "image"
        if hasattr(config, "num_channels")
        else None
    )
    lacking = [tower for tower, there in has.items() if not there and tower != part]
    way = f'; DualEncoder.from_backbones({part}="{name}", ...) takes such a part' if part else ""
    raise Mismatch(
        f'The checkpoint "{name}" is {what}, no dual encoder: it has no {" and no ".join(lacking)} tower. '
        f"Needed is one with both (CLIP, SigLIP, ...){way}."
    )
