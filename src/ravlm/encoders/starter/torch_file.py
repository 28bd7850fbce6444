"""Read the tensors of a file that `torch.save` wrote, without PyTorch.

Only files of the format before PyTorch 1.6 are read: five pickles, then the bytes of each storage.
The pickles are not loaded. `pickletools` lists their instructions, and those that make up a mapping
of tensors are followed here; nothing is imported or called, and any other instruction is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np

from ravlm.errors import BrokenData

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch LongStorage": np.dtype("<i8"),
}
_MARK = object()
_LITERALS = {"LONG1", "BININT", "BININT1", "BININT2", "BINUNICODE", "GLOBAL"}
"""Instructions that push their argument; that of a GLOBAL is the name of a class or function."""
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
"""Instructions without an argument -> what they push."""
Stack: TypeAlias = list[Any]


class _Storage(NamedTuple):
    dtype: np.dtype[Any]
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict by name. Raises BrokenData for any other file."""
    with open(path, "rb") as file:
        try:
            magic_number, protocol, _, tensors, keys = (_read_pickle(file) for _ in range(5))
            if (magic_number, protocol) != (_MAGIC_NUMBER, _PROTOCOL):
                raise ValueError("it is of another format")
            dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
            storages = {key: _read_storage(file, dtypes[key]) for key in keys}
            return {name: _to_array(tensor, storages) for name, tensor in tensors.items()}
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise BrokenData(
                f'"{path}" is not a file of tensors as PyTorch wrote them before version 1.6: '
                f"{error}."
            ) from None


def _read_storage(file: IO[bytes], dtype: np.dtype[Any]) -> np.ndarray:
    """Read a storage: the number of its items as int64, then the items."""
    (size,) = np.frombuffer(file.read(8), "<i8")
    return np.frombuffer(file.read(int(size) * dtype.itemsize), dtype)


def _to_array(tensor: _Tensor, storages: dict[str, np.ndarray]) -> np.ndarray:
    """Copy a tensor out of its storage. Raises ValueError if it reaches beyond the storage."""
    values = storages[tensor.storage.key][tensor.offset :]
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = sum((size - 1) * stride for size, stride in steps)
    if min((0, tensor.offset, *tensor.strides)) < 0 or last >= len(values):
        raise ValueError(f"a tensor of shape {tensor.shape} reaches beyond its storage")
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values, tensor.shape, strides).copy(order="C")


def _read_pickle(file: IO[bytes]) -> Any:
    """Follow the instructions of one pickle; return what it describes."""
    stack: Stack = []
    memo: dict[Any, Any] = {}
    for instruction, argument, _ in pickletools.genops(file):
        name = instruction.name
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _COMBINATIONS:
            _COMBINATIONS[name](stack)
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"it has the instruction {name}")
    return stack.pop()


def _pop_to_mark(stack: Stack) -> list[Any]:
    start = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _make_tuple(stack: Stack, size: int | None = None) -> None:
    items = _pop_to_mark(stack) if size is None else [stack.pop() for _ in range(size)][::-1]
    stack.append(tuple(items))


def _set_items(stack: Stack) -> None:
    items = _pop_to_mark(stack)
    stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _set_item(stack: Stack) -> None:
    value, key = stack.pop(), stack.pop()
    stack[-1][key] = value


def _append_items(stack: Stack) -> None:
    items = _pop_to_mark(stack)
    stack[-1].extend(items)


def _describe_storage(stack: Stack) -> None:
    _, kind, key, *_ = stack.pop()
    stack.append(_Storage(_DTYPES[kind], key))


def _describe_object(stack: Stack) -> None:
    """Replace a class and its arguments by what they describe."""
    arguments, name = stack.pop(), stack.pop()
    if name == "collections OrderedDict" and not arguments:
        stack.append({})
    elif name == "torch._utils _rebuild_tensor_v2":
        stack.append(_Tensor(*arguments[:4]))
    else:
        raise ValueError(f'it has an object of the kind "{name}"')


def _drop_attributes(stack: Stack) -> None:
    """Drop the attributes of a mapping: the versions of the modules it was saved from."""
    stack.pop()


_COMBINATIONS: dict[str, Callable[[Stack], None]] = {
    "TUPLE": _make_tuple,
    "TUPLE1": lambda stack: _make_tuple(stack, 1),
    "TUPLE2": lambda stack: _make_tuple(stack, 2),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "APPENDS": _append_items,
    "BINPERSID": _describe_storage,
    "REDUCE": _describe_object,
    "BUILD": _drop_attributes,
}
"""Instructions that combine what is on the stack."""
