"""Tensors of PyTorch's files are read without PyTorch, and nothing in the file is executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from ravlm.encoders.starter import efficientnet
from ravlm.encoders.starter.torch_file import read_tensors
from ravlm.errors import BrokenData


def save(path: Path, state: object) -> Path:
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


def test_tensors_equal_those_that_torch_loads(tmp_path: Path) -> None:
    """The weights of the image network have strides: they were transposed when they were saved."""
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 5), torch.nn.BatchNorm2d(3))
    rows = torch.arange(24.0).reshape(4, 6)
    state = module.state_dict() | {
        "column": rows[1:, 2],
        "transposed": rows.T,
        "scalar": rows[2, 3],
    }
    path = save(tmp_path / "weights.pth", state)
    tensors = read_tensors(path)
    expected = torch.load(path, weights_only=True)
    assert list(tensors) == list(expected)
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.numpy().dtype, name
        assert np.array_equal(tensors[name], tensor.numpy()), name
    assert tensors["column"].tolist() == [8, 14, 20]


def test_the_image_network_is_read_as_torch_reads_it() -> None:
    path = efficientnet.weights_file()
    tensors = read_tensors(path)
    expected = torch.load(path, weights_only=True)
    assert tensors.keys() == expected.keys()
    assert all(np.array_equal(tensors[name], expected[name].numpy()) for name in expected)


class Hostile:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_a_hostile_file_is_refused_and_not_executed(tmp_path: Path) -> None:
    folder = tmp_path / "executed"
    path = save(tmp_path / "weights.pth", {"weight": Hostile(folder)})
    with pytest.raises(BrokenData, match='an object of the kind "posix mkdir"'):
        read_tensors(path)
    assert not folder.exists()


def out_of_bounds(path: Path) -> Path:
    """Write a tensor of three items whose storage has only two."""
    content = save(path, {"weight": torch.tensor([1.0, 2.0, 3.0])}).read_bytes()
    items = np.array([3], "<i8").tobytes() + np.array([1, 2, 3], "<f4").tobytes()
    assert content.endswith(items)
    path.write_bytes(content[: -len(items)] + np.array([2], "<i8").tobytes() + items[8:16])
    return path


def test_other_files_are_refused(tmp_path: Path) -> None:
    zipped = tmp_path / "zip.pth"
    torch.save({"weight": torch.zeros(2)}, zipped)
    numbers = tmp_path / "numbers.pth"
    numbers.write_bytes(b"".join(pickle.dumps(number, 2) for number in range(5)))
    short = tmp_path / "short.pth"
    whole = save(tmp_path / "whole.pth", {"weight": torch.zeros(200)}).read_bytes()
    short.write_bytes(whole[:-100])
    empty = tmp_path / "empty.pth"
    empty.touch()
    for path in (zipped, numbers, short, empty, out_of_bounds(tmp_path / "bounds.pth")):
        with pytest.raises(BrokenData, match="is not a file of tensors"):
            read_tensors(path)
