"""Checkpoint folders as Hugging Face writes them: found by path or hub name, read, hashed. Knows no
model class."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ravlm.checkpoint import WEIGHTS
from ravlm.errors import BrokenData, NotFound

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)
_SMALL = (".json", ".txt", ".model", ".jinja")
_FETCHED = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
_LEFT_OUT = ["onnx/*", "openvino/*", "open_clip*", "*.fp16.safetensors", "*.msgpack"]
_CONVERTER = "SFconvertbot"
"""Hugging Face's own account, which offers the safetensors of checkpoints that have none as a pull
request."""


def is_hub_name(name: str) -> bool:
    """Whether `name` is written as on the hub: owner/model, or model alone."""
    return _NAME.fullmatch(name) is not None and ".." not in name and "--" not in name


def find_folder(name_or_folder: str | Path) -> Path:
    """The folder of that path, or of that hub name, fetched if need be. Raises NotFound."""
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder.resolve()
    name = str(name_or_folder)
    if not is_hub_name(name):
        raise NotFound(
            f'There is no folder "{name}", and it is no hub name (owner/model); check it.'
        )
    return _fetch(name)


def _fetch(name: str) -> Path:
    from huggingface_hub import get_repo_discussions, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HTTPError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_FETCHED, ignore_patterns=_LEFT_OUT))
        if not any(folder.rglob("*.safetensors")):
            for request in get_repo_discussions(name):
                if (
                    request.is_pull_request
                    and request.status == "open"
                    and request.author == _CONVERTER
                ):
                    revision = f"refs/pr/{request.num}"
                    return Path(snapshot_download(name, revision=revision, allow_patterns=_FETCHED))
    except (OSError, ValueError, HTTPError, EntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NotFound(
            f'There is no folder "{name}", and the hub did not give a model of that name ({reason.rstrip(".")}). '
            "Check the name and the network, or download the model elsewhere and name its folder."
        ) from None
    return folder


def small_files(folder: Path) -> dict[str, bytes]:
    """What a checkpoint has beside its weights: configuration, tokenizer, image processor; by
    name."""
    return {
        path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _SMALL
    }


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint. Raises NotFound where there are none, or a part of
    them is missing."""
    index = folder / f"{WEIGHTS}.index.json"
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if index.is_file():
        try:
            names = sorted(
                set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            )
        except (ValueError, KeyError, AttributeError) as error:
            raise BrokenData(
                f'"{index}" is no index of weights ({error}); download it again.'
            ) from None
        for name in names:
            if not (folder / name).is_file():
                raise NotFound(
                    f'The checkpoint "{folder}" lacks "{name}", a part of its weights; download it again.'
                )
        return [folder / name for name in names]
    pickled = next((path.name for path in folder.glob("*.bin")), None)
    if pickled:
        raise NotFound(
            f'The checkpoint "{folder}" has its weights as a pickle only ("{pickled}"), which is not read: it may run '
            "programs. Convert it: transformers.AutoModel.from_pretrained(folder).save_pretrained(new_folder)."
        )
    raise NotFound(
        f'The checkpoint "{folder}" has no weights: {WEIGHTS} is missing; save or download it again.'
    )


def hash_weights(weights: Sequence[Path] | Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, however they are spread over files or lie in
    memory."""
    tensors = _in_memory(weights) if isinstance(weights, Mapping) else _in_files(weights)
    each = sorted((name, kind, list(shape), digest) for name, kind, shape, digest in tensors)
    return hashlib.sha256(json.dumps(each).encode()).hexdigest()


def _in_memory(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str, Sequence[int], str]]:
    from safetensors.torch import save

    for name, tensor in tensors.items():  # one at a time, so that no second copy of all is held
        content = save({"x": tensor.detach().cpu().contiguous()})
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])["x"]
        yield (
            name,
            header["dtype"],
            header["shape"],
            hashlib.sha256(content[8 + size :]).hexdigest(),
        )


def _in_files(paths: Sequence[Path]) -> Iterator[tuple[str, str, Sequence[int], str]]:
    """Reads the format itself: a length, a JSON header, the values.
    https://github.com/huggingface/safetensors"""
    for path in paths:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            for name, about in header.items():
                if name != "__metadata__":
                    start, end = about["data_offsets"]
                    file.seek(8 + size + start)
                    digest = hashlib.sha256()
                    while start < end:
                        digest.update(piece := file.read(min(1 << 24, end - start)))
                        start += len(piece)
                    yield name, about["dtype"], about["shape"], digest.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers without progress bars and warnings: what matters about a checkpoint is raised,
    not printed."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
