"""Checkpoint folders in Hugging Face format: find by path or hub name, read, hash."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ravlm.checkpoint import CONFIG, WEIGHTS, read_json_object
from ravlm.encoders.presets import preset_of
from ravlm.errors import BrokenData, Mismatch, NotFound

if TYPE_CHECKING:
    from torch import Tensor

_HUB_NAME = re.compile(
    r"((?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*)(?:@([0-9a-f]{40}))?", re.ASCII
)
"""A hub name, and the commit that it is pinned to."""
_SMALL_SUFFIXES = (".json", ".txt", ".model", ".jinja")
_DOWNLOAD_PATTERNS = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
_IGNORE_PATTERNS = ["onnx/*", "openvino/*", "open_clip*", "*.fp16.safetensors", "*.msgpack"]
_CHUNK_BYTES = 1 << 24

TensorDigest = tuple[str, str, Sequence[int], str]
"""Name, dtype, shape and SHA-256 of a tensor."""


def is_hub_name(name: str) -> bool:
    """Return whether `name` has the form of a hub name: owner/model, or model alone.

    A commit may follow: owner/model@2c5f... (40 digits)."""
    return _HUB_NAME.fullmatch(name) is not None and ".." not in name and "--" not in name


def find_folder(name_or_folder: str | Path) -> Path:
    """Return the folder of a path or hub name; download it if necessary. Raises NotFound."""
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder.resolve()
    name = str(name_or_folder)
    if not is_hub_name(name):
        raise NotFound(
            f'There is no folder "{name}", and "{name}" is not a hub name (owner/model, or '
            "owner/model@COMMIT with all 40 digits). Check the spelling."
        )
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HTTPError

    match = _HUB_NAME.fullmatch(name)
    assert match is not None  # checked by the caller
    _announce(match[1], match[2])
    try:
        folder = Path(
            snapshot_download(
                match[1],
                revision=match[2],
                allow_patterns=_DOWNLOAD_PATTERNS,
                ignore_patterns=_IGNORE_PATTERNS,
            )
        )
    except (OSError, ValueError, HTTPError, EntryNotFoundError) as error:
        if isinstance(error, GatedRepoError):
            raise NotFound(
                f'The model "{name}" is for people who accepted its terms. Accept them at '
                f"https://huggingface.co/{match[1]}, log in with `hf auth login`, and try again."
            ) from None
        message = str(error).strip()
        reason = message.splitlines()[0] if message else type(error).__name__
        raise NotFound(
            f'There is no folder "{name}", and the model could not be downloaded from the hub '
            f"({reason.rstrip('.')}). Check the name and the network, or download the model "
            "elsewhere and pass its folder."
        ) from None
    if not any(folder.rglob("*.safetensors")):
        raise NotFound(
            f'The model "{name}" has no weights in the safetensors format on the hub. Pickles are '
            "not read because they can run code, and nobody has reviewed the conversions that pull "
            f"requests offer. Use another model, name the commit of a conversion ({match[1]}"
            "@COMMIT), or convert it and pass the folder: "
            f'transformers.AutoModel.from_pretrained("{match[1]}").save_pretrained(new_folder).'
        )
    return folder


def _announce(name: str, revision: str | None) -> None:
    """Print the size and the license of a model on stderr before it is downloaded.

    Print nothing if the hub does not answer: the download reports the reason.
    Raises Mismatch for a model of custom code, which would be downloaded for nothing.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.utils import filter_repo_objects

    if isinstance(try_to_load_from_cache(name, CONFIG, revision=revision), str):
        return
    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=10)
    except (OSError, ValueError, HTTPError):
        return
    refuse_custom_code(info.config or {}, name)
    files = filter_repo_objects(
        info.siblings or (),
        allow_patterns=_DOWNLOAD_PATTERNS,
        ignore_patterns=_IGNORE_PATTERNS,
        key=lambda file: file.rfilename,
    )
    gigabytes = sum(file.size or 0 for file in files) / 1e9
    print(
        f"Downloading {name}: {gigabytes:.1f} GB, {_license(name, info.card_data)} "
        f"(https://huggingface.co/{name}).",
        file=sys.stderr,
        flush=True,
    )


def refuse_custom_code(config: Mapping[str, Any], name: str) -> None:
    """Raise Mismatch if the model's classes are files of the checkpoint, as Jina-CLIP's are."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    references = config.get("auto_map")
    if config.get("model_type") in CONFIG_MAPPING or not isinstance(references, dict):
        return
    raise custom_code_error(name, [str(reference) for reference in references.values()])


def custom_code_error(name: str, classes: Sequence[str]) -> Mismatch:
    """Return the error for a checkpoint whose `classes` are not part of an installed package."""
    return Mismatch(
        f'The checkpoint "{name}" needs custom code, which is not run '
        f"({', '.join(dict.fromkeys(classes))}). Use a model that Transformers or "
        "sentence-transformers implements (CLIP, SigLIP 2, Qwen3-VL-Embedding, ...)."
    )


def _license(name: str, card: Any) -> str:
    """Return which license a model card states, or that it states none."""
    terms = getattr(card, "license", None)
    if terms == "other":
        terms = getattr(card, "license_name", None) or terms
    if isinstance(terms, list):
        terms = ", ".join(map(str, terms))
    preset = preset_of(name)
    if preset is not None and not terms:
        terms = preset.license
    return f"license {terms}" if terms else "no license is stated: ask its authors"


def small_files(folder: Path) -> dict[str, bytes]:
    """Read all files of a checkpoint except weights (configuration, tokenizer, image processor), by
    name."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.suffix in _SMALL_SUFFIXES
    }


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint. Raises NotFound if any of them is missing."""
    index = folder / f"{WEIGHTS}.index.json"
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if index.is_file():
        return _shard_files(folder, index)
    pickle_file = next((path.name for path in folder.glob("*.bin")), None)
    if pickle_file:
        raise NotFound(
            f'The checkpoint "{folder}" has its weights as a pickle only ("{pickle_file}"). '
            "Pickles are not read because they can run code. Convert it: "
            "transformers.AutoModel.from_pretrained(folder).save_pretrained(new_folder)."
        )
    raise NotFound(
        f'The checkpoint "{folder}" has no weights: {WEIGHTS} is missing. '
        "Save or download it again."
    )


def _shard_files(folder: Path, index: Path) -> list[Path]:
    weight_map = read_json_object(index).get("weight_map")
    names: list[Any] = list(weight_map.values()) if isinstance(weight_map, dict) else [None]
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise BrokenData(
            f'"{index}" is not a valid index of weights: it must name files next to it. '
            "Download it again."
        )
    paths = [folder / name for name in sorted(set(names))]
    for path in paths:
        if not path.is_file():
            raise NotFound(
                f'The checkpoint "{folder}" lacks "{path.name}", a part of its weights. '
                "Download it again."
            )
    return paths


def hash_weights(weights: Sequence[Path] | Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and values, whether in files or in memory.

    The result does not depend on how the tensors are distributed over files.
    """
    digests = _hash_tensors(weights) if isinstance(weights, Mapping) else _hash_files(weights)
    rows = sorted((name, dtype, list(shape), digest) for name, dtype, shape, digest in digests)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def hash_with_files(prefix: str, files: Mapping[str, bytes]) -> hashlib._Hash:
    """Return the hash of `prefix` and of a checkpoint's small files, except indexes of weights."""
    digest = hashlib.sha256(prefix.encode())
    for name in sorted(files):
        if not name.endswith(".index.json"):
            digest.update(f" {name} ".encode() + hashlib.sha256(files[name]).digest())
    return digest


def _hash_tensors(tensors: Mapping[str, Tensor]) -> Iterator[TensorDigest]:
    from safetensors.torch import save

    for name, tensor in tensors.items():  # one at a time, to avoid a second copy of all weights
        content = save({"x": tensor.detach().cpu().contiguous()})
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])["x"]
        digest = hashlib.sha256(content[8 + size :]).hexdigest()
        yield name, header["dtype"], header["shape"], digest


def _hash_files(paths: Sequence[Path]) -> Iterator[TensorDigest]:
    """Parse the format directly: a length, a JSON header, the values.
    https://github.com/huggingface/safetensors

    Raises BrokenData for a file whose header is damaged, or declares more values than it has."""
    from safetensors import SafetensorError, safe_open

    for path in paths:
        try:
            with safe_open(path, framework="np"):
                pass  # it checks the header and all offsets
        except (SafetensorError, OSError) as error:
            raise BrokenData(
                f'The weights in "{path}" are damaged ({error}). Download or save them again.'
            ) from None
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            for name, tensor in header.items():
                if name != "__metadata__":
                    start, end = tensor["data_offsets"]
                    digest = _hash_span(file, 8 + size + start, end - start)
                    yield name, tensor["dtype"], tensor["shape"], digest


def _hash_span(file: IO[bytes], start: int, length: int) -> str:
    file.seek(start)
    digest = hashlib.sha256()
    while length > 0:
        chunk = file.read(min(_CHUNK_BYTES, length))
        digest.update(chunk)
        length -= len(chunk)
        if not chunk:
            break
    return digest.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Transformers' progress bars and warnings. Problems of a checkpoint are raised
    instead."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    had_progress_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_progress_bars:
            logging.enable_progress_bar()
