"""Files are written atomically; checkpoints are complete or not there, and load strictly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ravlm.checkpoint import (
    CONFIG,
    WEIGHTS,
    check_shapes,
    move_checkpoint_into,
    read_checkpoint_config,
    read_weights,
    save_checkpoint,
    save_checkpoint_into,
)
from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.hub_files import weight_files
from ravlm.errors import BrokenData, Mismatch, NotFound, RavlmError
from ravlm.files import atomic_write

VECTORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True, False])}


def test_atomic_write_replaces_files_and_folders(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic_write(tmp_path / "new" / "file.txt") as path:
            path.write_text(content)
        with atomic_write(tmp_path / "folder") as path:
            path.mkdir()
            (path / content).write_text(content)
    assert (tmp_path / "new" / "file.txt").read_text() == "two"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "new"]


def test_atomic_write_leaves_the_target_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("old")

    def write_half() -> None:
        with atomic_write(tmp_path / "file.txt") as path:
            path.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert (tmp_path / "file.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    transposed = VECTORS | {"a": VECTORS["a"].T.copy().T}  # not contiguous
    save_checkpoint(tmp_path / "model", {"dim": 3, "名": "x"}, transposed)
    assert read_checkpoint_config(tmp_path / "model") == {"dim": 3, "名": "x"}
    weights = read_weights(tmp_path / "model")
    assert weights.keys() == VECTORS.keys()
    for name, array in VECTORS.items():
        assert np.array_equal(weights[name], array)


def test_checkpoint_next_to_other_files(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("{}")
    save_checkpoint_into(tmp_path, {"step": 1}, VECTORS)
    save_checkpoint(tmp_path / "best", {"step": 2}, VECTORS)
    move_checkpoint_into(tmp_path / "best", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, "log.jsonl", WEIGHTS]
    assert read_checkpoint_config(tmp_path) == {"step": 2}


def test_damaged_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"is not a checkpoint: it has no config\.json"):
        read_checkpoint_config(tmp_path)
    with pytest.raises(NotFound, match=r"model\.safetensors is missing"):
        read_weights(tmp_path)
    (tmp_path / CONFIG).write_text("{")
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(BrokenData, match="is not valid JSON"):
        read_checkpoint_config(tmp_path)
    with pytest.raises(BrokenData, match="are damaged"):
        read_weights(tmp_path)


def test_names_and_shapes_must_fit() -> None:
    check_shapes(VECTORS, {"a": (2, 3), "b": (2,)}, "model")
    with pytest.raises(Mismatch, match=r"do not fit the model \(missing: c; unknown: b\)"):
        check_shapes(VECTORS, {"a": (2, 3), "c": (1,)}, "model")
    with pytest.raises(Mismatch, match=r'"a" of "model" has the shape \(2, 3\); .*\(3, 2\)'):
        check_shapes(VECTORS, {"a": (3, 2), "b": (2,)}, "model")


INVALID_CONFIGS = {
    "a list": "[]",
    "a number": "5",
    "half a text": '"',
    "not UTF-8": "\udcff",
    "deep": "[" * 100_000,
    "a list as architecture": '{"architecture": []}',
    "an object as architecture": '{"architecture": {}}',
    "an architecture of its own": '{"architecture": "mine"}',
    "a text as dimension": '{"architecture": "starter", "dim": "x"}',
    "a huge number": '{"architecture": "starter", "raw_share": 1' + "0" * 400 + "}",
}


@pytest.mark.parametrize("name", INVALID_CONFIGS)
def test_an_invalid_config_is_named(tmp_path: Path, name: str) -> None:
    """A list, a deep object or an unhashable architecture was an exception of Python."""
    (tmp_path / "config.json").write_text(INVALID_CONFIGS[name], errors="surrogateescape")
    with pytest.raises(RavlmError, match=r"config\.json|architecture"):
        DualEncoder.load(tmp_path)


def test_a_config_without_end_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "config.json", "wb") as file:
        file.truncate(2**32)
    with pytest.raises(BrokenData, match="too large"):
        read_checkpoint_config(tmp_path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "a/b.safetensors", 5, None])
def test_shards_are_files_of_their_folder(tmp_path: Path, name: object) -> None:
    index = {"weight_map": {"w": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path.parent / "secret.safetensors").touch()
    with pytest.raises(BrokenData, match="files next to it"):
        weight_files(tmp_path)


def test_saving_keeps_the_other_files_of_a_folder(tmp_path: Path) -> None:
    """A folder with notes and subfolders was emptied by saving an encoder into it."""
    folder = tmp_path / "mine"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "a.txt").write_text("keep")
    for value in (1.0, 2.0):
        save_checkpoint(folder, {"architecture": "x"}, {"w": np.full(2, value, np.float32)})
        assert (folder / "notes" / "a.txt").read_text() == "keep"
        assert read_weights(folder)["w"].tolist() == [value, value]
