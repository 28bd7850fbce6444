"""Two backbones of Transformers, an image model and a text model, with a linear head each: an
encoder to be trained.

The heads are drawn at random from a seed; `model` is what training works on. Knows no loss.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ravlm.checkpoint import CONFIG, check_names, read_checkpoint_config
from ravlm.config import from_mapping, to_mapping
from ravlm.encoders.clip import (
    check_weights,
    read_config,
    read_image_processor,
    read_model,
    read_tokenizer,
    text_limit,
    unit,
    unshared,
)
from ravlm.encoders.hub_files import find_folder, quiet, small_files, weight_files
from ravlm.encoders.image_processing import Pixels
from ravlm.encoders.tokenization import Tokens
from ravlm.encoders.torch_encoder import TowerEncoder, Towers
from ravlm.errors import InvalidInput, Mismatch
from ravlm.records import Modality

_IMAGE, _TEXT = "image", "text"
"""Folders of a checkpoint: each backbone's configuration, with its image processor or tokenizer."""


@dataclass(frozen=True)
class PairedConfig:
    """The shape of a pair of towers, saved with its weights."""

    dim: int
    image_width: int
    """Of what goes into the heads."""
    text_width: int
    image_pooler: bool = False
    """Whether pictures are pooled as the backbone does it; else by the mean of its last states."""
    architecture: str = "paired"


class PairedTowers(Towers):
    """Two backbones and their heads. Features are unit vectors (n, dim); pooled is what goes into
    the heads."""

    def __init__(self, image: nn.Module, text: nn.Module, config: PairedConfig) -> None:
        super().__init__()
        self.image, self.text, self.config = image, text, config
        self.image_head = nn.Linear(config.image_width, config.dim, bias=False)
        self.text_head = nn.Linear(config.text_width, config.dim, bias=False)

    def image_features(self, pixel_values: Tensor, **more: Tensor) -> Tensor:
        return unit(self.image_head(self.image_pooled(pixel_values, **more)))

    def text_features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **more: Tensor
    ) -> Tensor:
        return unit(self.text_head(self.text_pooled(input_ids, attention_mask)))

    def image_pooled(self, pixel_values: Tensor, **more: Tensor) -> Tensor:
        """What the backbone makes of pictures, (n, width): its own pooling, or the mean of tokens
        or grid."""
        return _pooled(self.image(pixel_values=pixel_values, **more), self.config.image_pooler)

    def text_pooled(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The mean of the last states of a text's pieces, (n, width)."""
        states = self.text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if attention_mask is None:
            return states.mean(1)
        mask = attention_mask[:, :, None].to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1).clamp(min=1)

    def parts(self, tower: Modality) -> list[nn.Module]:
        """The backbone: a head is always trained."""
        return [self.image if tower == "image" else self.text]


class VisionTextDualEncoder(TowerEncoder):
    """Made by `from_backbones`, or from its checkpoint by `from_folder`."""

    @classmethod
    def from_backbones(
        cls, image: str | Path, text: str | Path, dim: int = 512, seed: int = 0
    ) -> VisionTextDualEncoder:
        """See `DualEncoder.from_backbones`."""
        if not isinstance(dim, int) or dim < 1:
            raise InvalidInput(
                f"dim is {dim}; a whole number from 1 on is needed, 512 for instance."
            )
        folders = {_IMAGE: find_folder(image), _TEXT: find_folder(text)}
        eye, pooler = read_backbone(folders[_IMAGE], str(image), _IMAGE)
        reader, _ = read_backbone(folders[_TEXT], str(text), _TEXT)
        pixels = Pixels(read_image_processor(folders[_IMAGE], str(image)))
        with torch.inference_mode():
            picture = pixels.batch(
                [pixels.arrays(Image.new("RGB", (64, 64)))], torch.device("cpu"), torch.float32
            )
            seen = eye(**picture)
        pooler = pooler and getattr(seen, "pooler_output", None) is not None
        config = PairedConfig(
            dim, _pooled(seen, pooler).shape[1], reader.config.hidden_size, pooler
        )
        towers = PairedTowers(eye, reader, config)
        generator = torch.Generator().manual_seed(seed)
        for head in (towers.image_head, towers.text_head):
            nn.init.normal_(head.weight, std=head.in_features**-0.5, generator=generator)
        towers.freeze()
        files = {CONFIG: json.dumps(to_mapping(config), indent=2).encode()}
        for part, folder in folders.items():
            small = {
                name: data
                for name, data in small_files(folder).items()
                if not name.endswith(".index.json")
            }
            files |= {f"{part}/{name}": data for name, data in small.items()}
        tokenizer = read_tokenizer(folders[_TEXT], str(text))
        return cls(f"{image} + {text}", files, [], pixels, tokenizer, towers)

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> VisionTextDualEncoder:
        """Load a checkpoint folder; `name` is what it will be found by again."""
        from_mapping(PairedConfig, read_checkpoint_config(folder), f"{folder}/{CONFIG}")
        files = {CONFIG: (folder / CONFIG).read_bytes()}
        for part in (_IMAGE, _TEXT):
            if not (folder / part).is_dir():
                raise Mismatch(
                    f'The checkpoint "{folder}" lacks its folder "{part}"; save it again.'
                )
            files |= {
                f"{part}/{key}": content for key, content in small_files(folder / part).items()
            }
        processor = read_image_processor(folder / _IMAGE, name)
        tokenizer = read_tokenizer(folder / _TEXT, name)
        return cls(name, files, weight_files(folder), Pixels(processor), tokenizer)

    def _read(self, dtype: torch.dtype) -> Towers:
        from safetensors.torch import load_file

        folder = self.weights[0].parent
        config = from_mapping(PairedConfig, json.loads(self.files[CONFIG]), f"{folder}/{CONFIG}")
        image, text = (_bare(read_config(folder / part, self.name)) for part in (_IMAGE, _TEXT))
        if not config.image_pooler:
            drop_pooler(image)
        drop_pooler(text)
        towers = PairedTowers(image, text, config)
        found = load_file(self.weights[0])
        check_names(
            found, {key: tuple(x.shape) for key, x in unshared(towers).items()}, str(folder)
        )
        towers.load_state_dict(
            found, strict=False
        )  # names were checked; those of shared weights stand once
        towers.freeze()
        return towers.to(dtype).eval()

    def _tokens_of(self, tokenizer: Any) -> Tokens:
        towers: Any = self._trained if self._trained is not None else self._quick
        return Tokens(tokenizer, text_limit(tokenizer, towers.text.config, towers.text), full=False)

    def _stored(self, towers: Any) -> dict[str, Tensor]:
        return unshared(towers)


def read_backbone(folder: Path, name: str, tower: str) -> tuple[Any, bool]:
    """A backbone in fp32, and whether it came with a pooling of its own. A head for some task is
    left out."""
    config = read_config(folder, name)
    _check_kind(config, name, tower)
    model, info = read_model(folder, torch.float32)
    poolers = [key for key in info["missing_keys"] if key.split(".")[0] == "pooler"]
    own = {key for key, _ in model.named_children()} | {model.base_model_prefix}
    head = (config.architectures or [type(model).__name__])[0] != type(model).__name__
    extra = [
        key
        for key in info["unexpected_keys"]
        if not head or _inside(key, own, model.base_model_prefix)
    ]
    check_weights(sorted(info["missing_keys"] - set(poolers)), sorted(extra), info, name)
    pooler = tower == _IMAGE and not poolers
    if not pooler:
        drop_pooler(model)
    return model.eval(), pooler


def _inside(key: str, own: set[str], prefix: str) -> bool:
    """Whether a weight that found no place is one of the backbone itself, not of a head on top or
    of a pooler."""
    names = key.removeprefix(f"{prefix}.").split(".")
    return key.split(".")[0] in own and names[0] != "pooler"


def _check_kind(config: Any, name: str, tower: str) -> None:
    sees, reads = hasattr(config, "num_channels"), hasattr(config, "vocab_size")
    fits = sees if tower == _IMAGE else reads and hasattr(config, "hidden_size")
    if not fits or (sees and reads) or getattr(config, "is_encoder_decoder", False):
        kinds = {_IMAGE: "ViT, DINOv2, ConvNeXt, ...", _TEXT: "BERT, RoBERTa, ModernBERT, ..."}
        raise Mismatch(
            f'The checkpoint "{name}" is of the kind "{config.model_type}", which can\'t be the {tower} tower; needed '
            f"is a model of {'pictures' if tower == _IMAGE else 'texts'} alone ({kinds[tower]})."
        )


def drop_pooler(model: Any) -> None:
    if getattr(model, "pooler", None) is not None:
        model.pooler = None


def _bare(config: Any) -> nn.Module:
    from transformers import AutoModel

    with quiet():
        return AutoModel.from_config(config, dtype=torch.float32)


def _pooled(output: Any, pooler: bool) -> Tensor:
    """The backbone's own pooled output where it is to be used, else the mean of its last tokens or
    grid; (n, width)."""
    if pooler:
        return output.pooler_output.flatten(1)  # convolutional ones give (n, width, 1, 1)
    states = output.last_hidden_state
    return states.mean((2, 3)) if states.ndim == 4 else states.mean(1)
